/* ConsumeQueue rows of what was appended: made from ring entries, written to their files, shown to readers. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "appliance.h"
#include "bytes.h"
#include "entries.h"

#define UNIT 20u

int64_t ap_rows_expand(const ap_ring *ring, const ap_ring *done, uint64_t first, uint64_t last, const int32_t *slots,
                       ap_row *out, uint64_t max) {
  uint64_t n = 0;
  for (uint64_t i = first; i < last; i++) {
    const ap_send *entry = send_entry(ring, i);
    const ap_done *d = done_entry(done, i);
    if (entry->kind != AP_SEND || d->code) continue;
    if (n + entry->record_count > max) return AP_EFULL;
    uint8_t *records = records_of(ring, entry);
    if (!records) return AP_EINVAL;
    const Index *index = index_of(records, entry);
    int64_t physical = d->physical_offset;
    int batch = (entry->flags & AP_BATCH) != 0;
    if (!batch && entry->record_count != 1) return AP_EINVAL;
    for (uint32_t k = 0; k < entry->record_count; k++) {
      uint32_t size = batch ? index[k].size : entry->record_size;
      out[n++] = (ap_row){physical, batch ? index[k].tags_code : entry->tags_code, d->queue_offset + k, (int32_t)size,
                          (uint32_t)slots[d->queue_row], d->queue_row, 0};
      physical += size;
    }
  }
  return (int64_t)n;
}

static void put_unit(uint64_t address, const ap_row *row) {
  uint8_t *p = put64((uint8_t *)address, (uint64_t)row->physical_offset);
  put64(put32(p, (uint32_t)row->size), (uint64_t)row->tags_code);
}

void ap_rows_write(const ap_row *rows, const uint64_t *addresses, uint64_t count) {
  for (uint64_t i = 0; i < count; i++) put_unit(addresses[i], &rows[i]);
}

int64_t ap_rows_follow(const ap_slots *slots, const ap_row *rows, uint64_t count, int64_t tick) {
  uint64_t i = 0;
  for (; i < count; i++) {
    const ap_row *row = &rows[i];
    uint32_t slot = row->slot;
    int64_t offset = row->queue_offset, end = row->physical_offset + row->size;
    if (offset != slots->next_offset[slot] || end <= slots->max_physical[slot] || !slots->address[slot] ||
        offset < slots->first_row[slot] || offset >= slots->end_row[slot])
      break;
    put_unit(slots->address[slot] + UNIT * (uint64_t)(offset - slots->first_row[slot]), row);
    slots->next_offset[slot] = offset + 1;
    slots->max_physical[slot] = end;
    slots->used[slot] = tick;
    slots->dirty[slot] = 1;
  }
  return (int64_t)i;
}

void ap_rows_show(ap_queue *queues, const ap_row *rows, uint64_t count) {
  for (uint64_t i = 0; i < count; i++) {
    int64_t *max = &queues[rows[i].queue_row].max, end = rows[i].queue_offset + 1;
    /* What a dead writer had shown is shown again: a reader must not see the end go back. */
    if (*max < end) __atomic_store_n(max, end, __ATOMIC_RELEASE);
  }
}
