/* What processes do to each other through shared memory, done by threads, so that TSan sees both sides.
 * test_threads.py compiles it with the C files and runs it; it says what went wrong and returns 1. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "appliance.h"

#define CHECK(condition) \
  if (!(condition)) fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition), exit(1)

enum { CAPACITY = 64, TOTAL = 300000, ARENA = 4096, BYTES = 40, NAMES = 200, ROUNDS = 40, SYNCS = 2000, QUEUES = 8 };

typedef struct {
  ap_ring ring;
  ap_frame entries[CAPACITY];
  uint8_t arena[ARENA];
} Ring;

static Ring ring;
static uint64_t asleep[2];
static int bells[2];

static void *start_of(uint64_t position) { return ring.arena + position * 64 % ARENA; }

static void sleep_on(int side, const uint64_t *cursor, uint64_t seen) {
  uint64_t rings;
  ap_announce_sleep(&asleep[side]);
  if (ap_load(cursor) == seen) CHECK(read(bells[side], &rings, sizeof rings) == sizeof rings);
  ap_awake(&asleep[side]);
}

/* Entries and their bytes, one by one, the other side woken as the processes do. */
static void *produce(void *unused) {
  (void)unused;
  for (uint64_t head = 0; head < TOTAL;) {
    uint64_t tail = ap_load(&ring.ring.tail);
    if (head == tail + CAPACITY) {
      sleep_on(0, &ring.ring.tail, tail);
      continue;
    }
    ap_frame *entry = &ring.entries[head % CAPACITY];
    memset(start_of(head), (int)(head * 7), BYTES);
    *entry = (ap_frame){.sequence = head, .connection = ~head, .arena_at = head * 64};
    ap_store(&ring.ring.head, ++head);
    ap_wake(&asleep[1], bells[1]);
  }
  return NULL;
}

static void consume(void) {
  for (uint64_t tail = 0; tail < TOTAL;) {
    uint64_t head = ap_load(&ring.ring.head);
    if (head == tail) {
      sleep_on(1, &ring.ring.head, head);
      continue;
    }
    for (; tail < head; tail++) {
      const ap_frame *entry = &ring.entries[tail % CAPACITY];
      uint8_t expected[BYTES];
      memset(expected, (int)(tail * 7), BYTES);
      CHECK(entry->sequence == tail && entry->connection == ~tail);
      CHECK(!memcmp(start_of(tail), expected, BYTES));
    }
    ap_store(&ring.ring.tail, tail);
    ap_wake(&asleep[0], bells[0]);
  }
}

static void try_ring(void) {
  pthread_t producer;
  for (int i = 0; i < 2; i++) bells[i] = eventfd(0, 0);
  CHECK(!pthread_create(&producer, NULL, produce, NULL));
  consume();
  pthread_join(producer, NULL);
}

static ap_table *topics;
static int ended;

static uint64_t name_of(uint32_t number, char *name) { return (uint64_t)snprintf(name, 32, "topic-%u", number); }

static void set(uint32_t *field, uint32_t value) { __atomic_store_n(field, value, __ATOMIC_RELAXED); }

/* All numbers of a row are the same; its name says which topic it is. */
static void *publish_topics(void *unused) {
  (void)unused;
  char name[32];
  ap_topic *rows = (ap_topic *)((uint8_t *)topics + sizeof *topics + 4 * topics->slots_max);
  for (uint32_t i = 0; i < NAMES * ROUNDS; i++) {
    int64_t row = ap_table_claim(topics, (uint8_t *)name, name_of(i % NAMES, name));
    CHECK(row == i % NAMES);
    set(&rows[row].queue_base, i);
    set(&rows[row].read_queues, i);
    set(&rows[row].write_queues, i);
    ap_table_commit(topics, (uint64_t)row, i % 5 != 0);
  }
  __atomic_store_n(&ended, 1, __ATOMIC_RELEASE);
  return NULL;
}

static void read_topics(void) {
  char name[32];
  ap_topic copy;
  uint64_t whole = 0;
  for (uint32_t i = 0; !__atomic_load_n(&ended, __ATOMIC_ACQUIRE) || !whole; i = (i + 1) % NAMES) {
    uint64_t size = name_of(i, name);
    int64_t row = ap_table_find(topics, (uint8_t *)name, size);
    CHECK(row == -1 || row == i);
    if (row < 0 || ap_table_read(topics, (uint64_t)row, &copy, sizeof copy) != 1) continue;
    CHECK(copy.name.name_size == size && !memcmp(copy.name.name, name, size));
    CHECK(copy.queue_base % NAMES == i && copy.read_queues == copy.queue_base);
    CHECK(copy.write_queues == copy.queue_base);
    whole++;
  }
}

static void try_table(void) {
  uint64_t slots = 512, size = sizeof *topics + 4 * slots + 256 * sizeof(ap_topic);
  pthread_t writer;
  topics = calloc(1, size);
  topics->rows_max = 256;
  topics->row_size = sizeof(ap_topic);
  topics->slots_max = slots;
  CHECK(!pthread_create(&writer, NULL, publish_topics, NULL));
  read_topics();
  pthread_join(writer, NULL);
}

static ap_queue queues[QUEUES];
static int64_t records[TOTAL / 100];

/* A row is written, then shown: who sees the queue's end sees the row. */
static void *show_rows(void *unused) {
  (void)unused;
  for (int64_t i = 0; i < TOTAL / 100; i++) {
    uint32_t row = (uint32_t)(i % QUEUES);
    int64_t end = i + 1;
    records[i] = ~i;
    ap_queues_publish(queues, &row, &end, 1);
  }
  return NULL;
}

static void try_queues(void) {
  pthread_t writer;
  uint32_t rows[QUEUES], ready[QUEUES];
  int64_t seen[QUEUES] = {0}, most = 0;
  for (uint32_t i = 0; i < QUEUES; i++) rows[i] = i;
  CHECK(!pthread_create(&writer, NULL, show_rows, NULL));
  while (most < TOTAL / 100) {
    int64_t count = ap_queues_ready(queues, rows, seen, QUEUES, ready);
    for (int64_t i = 0; i < count; i++) {
      int64_t end = (int64_t)ap_load((uint64_t *)&queues[ready[i]].max);
      CHECK(end > seen[ready[i]] && records[end - 1] == ~(end - 1));
      seen[ready[i]] = end;
      if (end > most) most = end;
    }
    if (!count) sched_yield();
  }
  pthread_join(writer, NULL);
}

static ap_flush box;

static void *serve_flush(void *unused) {
  (void)unused;
  ap_flush_serve(&box, bells[0], bells[1]);
  return NULL;
}

static void try_flush(void) {
  pthread_t flusher;
  uint64_t rings, one = 1;
  int file = memfd_create("flushed", 0);
  for (int i = 0; i < 2; i++) bells[i] = eventfd(0, 0);
  CHECK(!pthread_create(&flusher, NULL, serve_flush, NULL));
  for (uint64_t i = 1; i <= SYNCS; i++) {
    CHECK(ap_flush_ask(&box, i % 2 ? file : -1, bells[0]) == 0);
    CHECK(read(bells[1], &rings, sizeof rings) == sizeof rings);
    CHECK(ap_load(&box.finished) == i && (box.error == 0) == (i % 2));
  }
  __atomic_store_n(&box.stop, 1, __ATOMIC_RELEASE);
  CHECK(write(bells[0], &one, sizeof one) == sizeof one);
  pthread_join(flusher, NULL);
}

int main(void) {
  try_ring();
  try_table();
  try_queues();
  try_flush();
  return 0;
}
