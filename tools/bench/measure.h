/* What rmqload measures with: a histogram of latencies, and what processes use.
 *
 * Runs in: rmqload alone.
 * Owns:    nothing. /proc is read.
 * Fails:   never; a process that is gone counts nothing. */
#include <dirent.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- log-linear histogram: 1 us .. 1000 s, 1/64 relative error ---- */

static uint64_t H[64 * 64], Hn, Hmax;

static void hrec(uint64_t us) {
  if (us > Hmax) Hmax = us;
  Hn++;
  if (us < 64) {
    H[us]++;
    return;
  }
  int e = 63 - __builtin_clzll(us);
  H[(e - 5) * 64 + ((us >> (e - 6)) & 63)]++;
}

static uint64_t hq(double q) {
  uint64_t want = (uint64_t)(q * Hn), s = 0;
  for (int i = 0; i < 64 * 64; i++) {
    s += H[i];
    if (s > want) {
      if (i < 64) return i;
      int e = i / 64 + 5;
      return (1ull << e) + ((uint64_t)(i % 64) << (e - 6));
    }
  }
  return Hmax;
}

/* ---- what a process and all its descendants use ---- */

/* pid[,pid..]; NULL counts nothing */
static char *pidlist;

static int isdesc(int pid, int root) {
  for (int d = 0; d < 16 && pid > 1; d++) {
    if (pid == root) return 1;
    char p[64], b[512];
    snprintf(p, sizeof p, "/proc/%d/stat", pid);
    int f = open(p, O_RDONLY);
    if (f < 0) return 0;
    int n = read(f, b, sizeof b - 1);
    close(f);
    if (n <= 0) return 0;
    b[n] = 0;
    char *r = strrchr(b, ')');
    if (!r) return 0;
    int pp;
    char st;
    if (sscanf(r + 2, "%c %d", &st, &pp) != 2) return 0;
    pid = pp;
  }
  return 0;
}

static int counted(int pid) {
  char list[256];
  snprintf(list, sizeof list, "%s", pidlist);
  for (char *s = strtok(list, ","); s; s = strtok(NULL, ","))
    if (isdesc(pid, atoi(s))) return 1;
  return 0;
}

static double cpu_of(int pid) {
  char p[64], b[4096];
  snprintf(p, sizeof p, "/proc/%d/stat", pid);
  FILE *f = fopen(p, "r");
  if (!f) return 0;
  int n = fread(b, 1, sizeof b - 1, f);
  fclose(f);
  b[n] = 0;
  unsigned long u, s;
  char *r = strrchr(b, ')');
  if (!r || sscanf(r + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &u, &s) != 2)
    return 0;
  return (u + s) / (double)sysconf(_SC_CLK_TCK);
}

static void memory_of(int pid, double *own_mb, double *rss_mb) {
  char p[64], line[256];
  snprintf(p, sizeof p, "/proc/%d/smaps_rollup", pid);
  FILE *f = fopen(p, "r");
  if (!f) return;
  long kb;
  while (fgets(line, sizeof line, f)) {
    if (sscanf(line, "Pss_Anon: %ld", &kb) == 1 || sscanf(line, "Pss_Shmem: %ld", &kb) == 1)
      *own_mb += kb / 1024.0;
    if (sscanf(line, "Rss: %ld", &kb) == 1) *rss_mb += kb / 1024.0;
  }
  fclose(f);
}

/* CPU seconds (user and system), resident memory, and the part of it that is their own: anonymous
 * and shared memory, each page counted once, without the page cache of mapped files. */
static void usage(double *cpu_s, double *own_mb, double *rss_mb) {
  *cpu_s = *own_mb = *rss_mb = 0;
  if (!pidlist) return;
  DIR *d = opendir("/proc");
  struct dirent *e;
  while ((e = readdir(d))) {
    int pid = atoi(e->d_name);
    if (pid <= 0 || !counted(pid)) continue;
    *cpu_s += cpu_of(pid);
    memory_of(pid, own_mb, rss_mb);
  }
  closedir(d);
}
