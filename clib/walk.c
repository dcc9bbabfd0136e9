/* A walk along the log's records, and along a ConsumeQueue's rows to the records they point at. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "appliance.h"
#include "bytes.h"

#define MAGIC_V1 0xDAA320A7u
#define MAGIC_V2 0xDAA320ABu
#define MAGIC_BLANK 0xCBD43194u
#define UNIT 20u
#define BLANK_UNIT 0x7FFFFFFFu /* size of a row that stands for no message */
#define RECORD_MIN 91u
#define TOPIC_MAX_V1 127u
#define SHORT_MAX 32767u

static uint64_t hash_topic(const uint8_t *name, uint64_t size) {
  uint64_t hash = 14695981039346656037u;
  for (uint64_t i = 0; i < size; i++) hash = (hash ^ name[i]) * 1099511628211u;
  return hash;
}

/* Fields behind the fixed part; AP_WALK_MESSAGE when all lengths add up to the record's size. */
static int32_t read_tail(const uint8_t *p, ap_record *out, uint32_t magic) {
  uint32_t born = out->system_flag & 0x10 ? 20 : 8, store = out->system_flag & 0x20 ? 20 : 8;
  uint64_t size = (uint64_t)out->size, at = 48 + born + 8 + store + 12;
  if (size < at + 4) return AP_WALK_LENGTH;
  out->store_timestamp = (int64_t)get64(p + 48 + born);
  out->body_size = get32(p + at);
  out->body_at = (uint32_t)(at + 4);
  at += 4 + (uint64_t)out->body_size;
  uint32_t topic_word = magic == MAGIC_V2 ? 2 : 1;
  if (size < at + topic_word) return AP_WALK_LENGTH;
  out->topic_size = topic_word == 2 ? get16(p + at) : p[at];
  out->topic_at = (uint32_t)(at + topic_word);
  at += topic_word + out->topic_size;
  if (out->topic_size > (topic_word == 1 ? TOPIC_MAX_V1 : SHORT_MAX) || size < at + 2) return AP_WALK_LENGTH;
  out->properties_size = get16(p + at);
  out->properties_at = (uint32_t)(at + 2);
  int adds_up = at + 2 + out->properties_size == size && out->properties_size <= SHORT_MAX;
  return adds_up ? AP_WALK_MESSAGE : AP_WALK_LENGTH;
}

static void read_properties(const uint8_t *p, ap_record *out) {
  ap_properties found;
  ap_properties_scan(p + out->properties_at, out->properties_size, &found);
  out->tags_code = found.tagged ? found.tags_code : 0;
  out->delay_level = found.delay_level;
  out->unique_key_at = out->properties_at + found.unique_key_at;
  out->unique_key_size = found.unique_key_size;
}

static void read_record(const uint8_t *p, uint64_t left, int check_crc, ap_record *out) {
  uint32_t size = left >= 8 ? get32(p) : 0, magic = left >= 8 ? get32(p + 4) : 0;
  out->size = (int32_t)size;
  out->status = AP_WALK_END;
  if (!size && !magic) return;
  out->status = AP_WALK_MAGIC;
  if (magic == MAGIC_BLANK) {
    out->status = size >= 8 && size <= INT32_MAX && size <= left ? AP_WALK_BLANK : AP_WALK_LENGTH;
    return;
  }
  if (magic != MAGIC_V1 && magic != MAGIC_V2) return;
  out->status = AP_WALK_LENGTH;
  if (size < RECORD_MIN || size > INT32_MAX || size > left) return;
  out->queue_id = (int32_t)get32(p + 12);
  out->queue_offset = (int64_t)get64(p + 20);
  out->record_offset = (int64_t)get64(p + 28);
  out->system_flag = (int32_t)get32(p + 36);
  out->status = read_tail(p, out, magic);
  if (out->status) return;
  if (check_crc && (ap_crc32(p + out->body_at, out->body_size) & 0x7FFFFFFF) != get32(p + 8)) {
    out->status = AP_WALK_CRC;
    return;
  }
  out->topic_hash = hash_topic(p + out->topic_at, out->topic_size);
  read_properties(p, out);
}

int64_t ap_walk(const uint8_t *address, uint64_t size, int64_t base_offset, int check_crc, ap_record *out,
                uint64_t max) {
  uint64_t at = 0, n = 0;
  while (n < max && at < size) {
    ap_record *it = &out[n++];
    memset(it, 0, sizeof *it);
    it->physical_offset = base_offset + (int64_t)at;
    read_record(address + at, size - at, check_crc, it);
    if (it->status != AP_WALK_MESSAGE) break;
    at += (uint64_t)it->size;
  }
  return (int64_t)n;
}

static int wanted(const ap_filter *filter, int64_t tags_code) {
  if (filter->every_tag) return 1;
  for (uint32_t i = 0; i < filter->code_count; i++)
    if (filter->codes[i] == tags_code) return 1;
  return 0;
}

/* Apache's rule of a full answer (store.md 7.1): never before the first record. */
static int is_full(const ap_filter *filter, const ap_found *found, int64_t offset, uint32_t size) {
  if (!found->matched) return 0;
  int memory = offset >= filter->memory_begin;
  uint32_t bytes_max = memory ? 262144 : 65536, count_max = memory ? 32 : 8;
  uint64_t bytes = (uint64_t)found->bytes + size;
  return found->matched >= filter->max_count || bytes > filter->max_bytes || bytes > bytes_max ||
         found->matched >= count_max;
}

/* Where a record lies in memory; 0 when its file is not mapped. */
static uint64_t address_of(const ap_log *log, int64_t offset) {
  if (!log->count || offset < log->first_offset) return 0;
  uint64_t at = (uint64_t)offset - (uint64_t)log->first_offset, file = at / log->file_size;
  return file < log->count && log->addresses[file] ? log->addresses[file] + at % log->file_size : 0;
}

/* Whether the log has the bytes that a row speaks of: not expired, and in one file that is not gone. */
static int is_there(const ap_log *log, const ap_filter *filter, int64_t offset, uint32_t size) {
  if (offset < filter->log_begin || size == BLANK_UNIT) return 0;
  if (!log->count || offset < log->first_offset) return 1; /* not known before it is mapped */
  uint64_t at = (uint64_t)offset - (uint64_t)log->first_offset, file = at / log->file_size;
  return at % log->file_size + size <= log->file_size && (file >= log->count || log->addresses[file] != AP_GONE);
}

/* Adds a record to the slices: neighbours become one. How many slices there are now. */
static uint64_t add_slice(uint64_t *slices, uint64_t n, uint64_t address, uint32_t size) {
  if (n && slices[2 * n - 2] + slices[2 * n - 1] == address) {
    slices[2 * n - 1] += size;
    return n;
  }
  slices[2 * n] = address;
  slices[2 * n + 1] = size;
  return n + 1;
}

int ap_pull_rows(const uint8_t *units, uint64_t count, const ap_log *log, const ap_filter *filter, uint64_t *slices,
                 uint64_t slices_max, ap_found *found) {
  uint64_t n = 0;
  memset(found, 0, sizeof *found);
  if (filter->code_count > AP_CODES_MAX) return AP_EINVAL;
  for (uint64_t i = 0; i < count && found->examined < filter->max_examined && n < slices_max; i++) {
    const uint8_t *unit = units + UNIT * i;
    int64_t offset = (int64_t)get64(unit);
    uint32_t size = get32(unit + 8);
    if (offset < 0 || size < RECORD_MIN || size > BLANK_UNIT || is_full(filter, found, offset, size)) break;
    if (size < BLANK_UNIT && (uint64_t)offset + size > (uint64_t)filter->log_end) break;
    if (!wanted(filter, (int64_t)get64(unit + 12))) {
      found->removed = 0;
    } else if (!is_there(log, filter, offset, size)) {
      found->removed = 1;
    } else {
      uint64_t address = address_of(log, offset);
      if (!address) {
        found->status = AP_EMAP;
        found->missing = offset;
        break;
      }
      n = add_slice(slices, n, address, size);
      found->matched++;
      found->bytes += size;
    }
    found->examined++;
    found->last_offset = offset;
  }
  return (int)n;
}
