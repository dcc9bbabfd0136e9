/* Shared tables with one writing process: rows found by name or by a 64-bit key, read between two sequences. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "appliance.h"

static uint32_t *slots_of(const ap_table *table) { return (uint32_t *)((uint8_t *)table + sizeof *table); }

static ap_row_name *row_of(const ap_table *table, uint64_t row) {
  return (ap_row_name *)((uint8_t *)(slots_of(table) + table->slots_max) + row * table->row_size);
}

static uint64_t hash_name(const uint8_t *name, uint64_t size) {
  uint64_t hash = 14695981039346656037u; /* FNV-1a */
  for (uint64_t i = 0; i < size; i++) hash = (hash ^ name[i]) * 1099511628211u;
  return hash ^ hash >> 32;
}

static uint64_t mix(uint64_t key) { /* murmur3's finaliser */
  key = (key ^ key >> 33) * 0xff51afd7ed558ccdu;
  key = (key ^ key >> 33) * 0xc4ceb9fe1a85ec53u;
  return key ^ key >> 33;
}

/* The slot that holds the name, or the free one where it would go; slots_max when neither exists. `row` is what
 * the slot held when it was looked at, row + 1: a second look might find another name, just put there. */
static uint64_t slot_of(const ap_table *table, const uint8_t *name, uint64_t size, uint32_t *row) {
  uint64_t mask = table->slots_max - 1, at = hash_name(name, size) & mask;
  const uint32_t *slots = slots_of(table);
  for (uint64_t i = 0; i < table->slots_max; i++, at = (at + 1) & mask) {
    *row = __atomic_load_n(&slots[at], __ATOMIC_ACQUIRE);
    if (!*row) return at;
    if (*row > table->rows_max) break; /* no row of ours: the table is damaged */
    const ap_row_name *it = row_of(table, *row - 1);
    if (it->name_size == size && !memcmp(it->name, name, size)) return at;
  }
  return table->slots_max;
}

int64_t ap_table_find(const ap_table *table, const uint8_t *name, uint64_t size) {
  uint32_t row = 0;
  if (!size || size > AP_NAME_MAX || !table->slots_max) return -1;
  return slot_of(table, name, size, &row) == table->slots_max ? -1 : (int64_t)row - 1;
}

int64_t ap_table_claim(ap_table *table, const uint8_t *name, uint64_t size) {
  uint32_t row = 0;
  if (!size || size > AP_NAME_MAX) return AP_EINVAL;
  uint64_t at = slot_of(table, name, size, &row);
  if (at == table->slots_max) return AP_EFULL;
  if (!row) {
    if (table->count >= table->rows_max) return AP_EFULL;
    row = (uint32_t)++table->count; /* a crash behind this line wastes a row and harms nobody */
    ap_row_name *fresh = row_of(table, row - 1);
    memcpy(fresh->name, name, size);
    fresh->name_size = (uint16_t)size;
    fresh->alive = 0;
    __atomic_store_n(&slots_of(table)[at], row, __ATOMIC_RELEASE);
  }
  ap_row_name *it = row_of(table, row - 1);
  __atomic_store_n(&it->sequence, it->sequence | 1, __ATOMIC_SEQ_CST);
  return (int64_t)row - 1;
}

void ap_table_commit(ap_table *table, uint64_t row, int alive) {
  if (row >= table->rows_max) return;
  ap_row_name *it = row_of(table, row);
  __atomic_store_n(&it->alive, (uint16_t)(alive != 0), __ATOMIC_RELAXED);
  __atomic_store_n(&it->sequence, (it->sequence | 1) + 1, __ATOMIC_RELEASE);
  __atomic_add_fetch(&table->version, 1, __ATOMIC_RELEASE);
}

/* Word by word, because the writer may be at work on them: what is torn shows in the sequence. */
static void copy_words(uint64_t *to, const uint64_t *from, uint64_t size) {
  for (uint64_t i = 0; i < size / 8; i++) to[i] = __atomic_load_n(&from[i], __ATOMIC_RELAXED);
}

int ap_table_read(const ap_table *table, uint64_t row, void *out, uint64_t size) {
  if (row >= table->rows_max || size > table->row_size || size % 8) return AP_EINVAL;
  const ap_row_name *it = row_of(table, row);
  for (int i = 0; i < 1000; i++) {
    uint64_t before = __atomic_load_n(&it->sequence, __ATOMIC_ACQUIRE);
    copy_words(out, (const uint64_t *)it, size);
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    if (!(before & 1) && before == __atomic_load_n(&it->sequence, __ATOMIC_RELAXED))
      return ((ap_row_name *)out)->alive != 0;
  }
  return 0; /* its writer died or is slow: the row is as good as absent until it comes back */
}

static int64_t keyed(const void *rows, uint64_t count, uint64_t row_size, uint64_t key, int claim) {
  uint64_t mask = count - 1, at = mix(key) & mask;
  for (uint64_t i = 0; key && i < count; i++, at = (at + 1) & mask) {
    uint64_t *it = (uint64_t *)((uint8_t *)rows + at * row_size), found = __atomic_load_n(it, __ATOMIC_ACQUIRE);
    if (found == key) return (int64_t)at;
    if (found) continue;
    if (!claim) return -1;
    __atomic_store_n(it, key, __ATOMIC_RELEASE);
    return (int64_t)at;
  }
  return claim ? AP_EFULL : -1;
}

int64_t ap_keyed_find(const void *rows, uint64_t count, uint64_t row_size, uint64_t key) {
  return keyed(rows, count, row_size, key, 0);
}

int64_t ap_keyed_claim(void *rows, uint64_t count, uint64_t row_size, uint64_t key) {
  return keyed(rows, count, row_size, key, 1);
}
