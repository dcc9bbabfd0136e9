/* The writer's part of an append: offsets for a batch of ring entries, one copy each, and the queues' ends. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "appliance.h"
#include "bytes.h"
#include "entries.h"

/* The row where a queue lives now. Moves go to rows handed out later, so the walk ends. */
static uint32_t followed(const ap_queue_place *places, uint32_t row) {
  while (places[row].moved_to > (int64_t)row) row = (uint32_t)places[row].moved_to;
  return row;
}

int64_t ap_assign(const ap_ring *ring, ap_ring *done, uint64_t first, uint64_t last, const ap_queue_place *places,
                  int64_t *following, ap_extent *extent) {
  int64_t at = extent->begin, limit = extent->begin + extent->room;
  uint64_t i = first;
  for (; i < last; i++) {
    const ap_send *entry = send_entry(ring, i);
    uint32_t row = followed(places, entry->queue_index);
    if (entry->kind != AP_SEND || following[row] < 0) {
      extent->missing = entry->kind != AP_SEND ? -1 : (int64_t)row;
      break;
    }
    if (at + (int64_t)entry->record_size > limit) {
      extent->missing = -2;
      break;
    }
    *done_entry(done, i) = (ap_done){.sequence = i, .physical_offset = at, .queue_offset = following[row],
                                     .store_timestamp = extent->timestamp, .queue_row = row};
    following[row] += entry->record_count;
    at += entry->record_size;
  }
  extent->end = at;
  if (i > first) return (int64_t)(i - first);
  return extent->missing == -2 ? AP_EFULL : AP_EBIND;
}

void ap_advance(const ap_ring *ring, const ap_ring *done, uint64_t first, uint64_t last, ap_queue *queues) {
  for (uint64_t i = first; i < last; i++) {
    const ap_done *d = done_entry(done, i);
    queues[d->queue_row].next = d->queue_offset + send_entry(ring, i)->record_count;
  }
}

static void stamp(uint8_t *record, int64_t queue_offset, int64_t physical_offset, int64_t timestamp) {
  put64(record + AT_QUEUE_OFFSET, (uint64_t)queue_offset);
  put64(record + AT_PHYSICAL_OFFSET, (uint64_t)physical_offset);
  uint32_t born = get32(record + AT_SYSTEM_FLAG) & BORN_IPV6 ? 20 : 8;
  put64(record + AT_BORN_HOST + born, (uint64_t)timestamp);
}

/* Stamps every record of an entry where it now lies; 0 when their sizes do not add up. */
static int stamp_all(uint8_t *at, const ap_send *entry, const ap_done *done) {
  uint64_t begin = 0;
  for (uint32_t i = 0; i < entry->record_count; i++) {
    uint32_t size = begin + 4 <= entry->record_size ? get32(at + begin) : 0;
    if (size < RECORD_MIN || begin + size > entry->record_size) return 0;
    stamp(at + begin, done->queue_offset + i, done->physical_offset + (int64_t)begin, done->store_timestamp);
    begin += size;
  }
  return begin == entry->record_size;
}

int64_t ap_append(const ap_ring *ring, const ap_ring *done, uint64_t first, uint64_t last, uint8_t *file,
                  int64_t file_begin, uint64_t file_size) {
  int64_t bytes = 0;
  for (uint64_t i = first; i < last; i++) {
    const ap_send *entry = send_entry(ring, i);
    const ap_done *d = done_entry(done, i);
    if (entry->kind != AP_SEND || d->code) continue;
    uint64_t at = (uint64_t)d->physical_offset - (uint64_t)file_begin;
    const uint8_t *records = records_of(ring, entry);
    if (!records || d->physical_offset < file_begin || at + entry->record_size > file_size) return AP_EINVAL;
    memcpy(file + at, records, entry->record_size);
    if (!stamp_all(file + at, entry, d)) return AP_EINVAL;
    bytes += entry->record_size;
  }
  return bytes;
}
