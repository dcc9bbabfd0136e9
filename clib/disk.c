/* The flush thread and page-cache calls. */
#define _GNU_SOURCE
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "appliance.h"

static uint64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void ap_flush_serve(ap_flush *box, int bell, int done_bell) {
  uint64_t count, one = 1;
  while (!__atomic_load_n(&box->stop, __ATOMIC_ACQUIRE)) {
    uint64_t asked = __atomic_load_n(&box->asked, __ATOMIC_ACQUIRE);
    if (asked == box->finished) {
      if (read(bell, &count, sizeof count) < 0 && errno != EINTR) return;
      continue;
    }
    uint64_t begin = now_ns();
    box->error = fdatasync(box->fd) ? errno : 0;
    box->took_ns = now_ns() - begin;
    __atomic_store_n(&box->finished, asked, __ATOMIC_RELEASE);
    if (write(done_bell, &one, sizeof one) < 0) return;
  }
}

int ap_flush_ask(ap_flush *box, int fd, int bell) {
  uint64_t one = 1;
  if (__atomic_load_n(&box->finished, __ATOMIC_ACQUIRE) != box->asked) return AP_EFULL;
  box->fd = fd;
  __atomic_store_n(&box->asked, box->asked + 1, __ATOMIC_RELEASE);
  return write(bell, &one, sizeof one) == (ssize_t)sizeof one ? 0 : AP_EINVAL;
}

int ap_populate(uint8_t *address, uint64_t size) {
#ifdef MADV_POPULATE_WRITE
  return madvise(address, size, MADV_POPULATE_WRITE) ? -errno : 0;
#else
  (void)address;
  (void)size;
  return 0;
#endif
}

int ap_name_process(const char *name, int death_signal) {
  if (prctl(PR_SET_NAME, name, 0, 0, 0)) return -errno;
  return death_signal && prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0) ? -errno : 0;
}
