/* Blocks of 4 KiB << class, carved from one piece of memory that was handed in: what sockets hold half. */
#define _GNU_SOURCE
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>

#include "appliance.h"

#define SMALLEST 4096u
#define CLASSES 14u          /* the largest is 32 MiB */
#define LARGE (1u << 20)     /* from here on a free block gives its pages back */

static uint32_t class_of(uint64_t size) {
  uint32_t c = 0;
  while (c < CLASSES && ((uint64_t)SMALLEST << c) < size) c++;
  return c;
}

/* The first free block of a class, 0 when there is none. */
static uint64_t unlink_first(ap_pool *pool, uint32_t c) {
  uint64_t address = pool->free[c];
  if (address) pool->free[c] = *(uint64_t *)address;
  return address;
}

static uint64_t carve(ap_pool *pool, uint64_t block) {
  if (pool->size - pool->used < block) return 0;
  uint64_t address = (uint64_t)(pool->memory + pool->used);
  pool->used += block;
  return address;
}

uint64_t ap_pool_take(ap_pool *pool, uint64_t size, uint32_t *capacity) {
  uint32_t c = class_of(size);
  if (c == CLASSES) return 0;
  uint64_t address = unlink_first(pool, c);
  if (!address) address = carve(pool, (uint64_t)SMALLEST << c);
  while (!address && ++c < CLASSES) address = unlink_first(pool, c); /* all is carved: a larger one does too */
  if (!address) return 0;
  *capacity = SMALLEST << c;
  pool->taken += *capacity;
  return address;
}

void ap_pool_give(ap_pool *pool, uint64_t address, uint32_t capacity) {
  uint32_t c = class_of(capacity);
  if (capacity >= LARGE) madvise((void *)address, capacity, MADV_DONTNEED);
  *(uint64_t *)address = pool->free[c];
  pool->free[c] = address;
  pool->taken -= capacity;
}
