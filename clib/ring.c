/* Cursors, watermarks and doorbells: the only code that orders memory between processes. */
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include "appliance.h"

uint64_t ap_load(const uint64_t *cursor) { return __atomic_load_n(cursor, __ATOMIC_ACQUIRE); }

void ap_store(uint64_t *cursor, uint64_t value) { __atomic_store_n(cursor, value, __ATOMIC_RELEASE); }

void ap_announce_sleep(uint64_t *sleeping) {
  __atomic_store_n(sleeping, 1, __ATOMIC_SEQ_CST);
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

void ap_awake(uint64_t *sleeping) { __atomic_store_n(sleeping, 0, __ATOMIC_RELEASE); }

int ap_wake(uint64_t *sleeping, int doorbell) {
  /* Pairs with ap_announce_sleep: either the sleeper's last look sees what was published, or we see it sleep. */
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
  if (!__atomic_load_n(sleeping, __ATOMIC_RELAXED)) return 0;
  if (!__atomic_exchange_n(sleeping, 0, __ATOMIC_SEQ_CST)) return 0;
  uint64_t one = 1;
  return write(doorbell, &one, sizeof one) == (ssize_t)sizeof one;
}

void ap_queues_publish(ap_queue *queues, const uint32_t *rows, const int64_t *values, uint64_t count) {
  for (uint64_t i = 0; i < count; i++) __atomic_store_n(&queues[rows[i]].max, values[i], __ATOMIC_RELEASE);
}

int64_t ap_queues_ready(const ap_queue *queues, const uint32_t *rows, const int64_t *offsets, uint64_t count,
                        uint32_t *out) {
  int64_t n = 0;
  for (uint64_t i = 0; i < count; i++)
    if (__atomic_load_n(&queues[rows[i]].max, __ATOMIC_ACQUIRE) > offsets[i]) out[n++] = (uint32_t)i;
  return n;
}
