/* Private to the C files: where a ring's entries and their bytes lie. */

#define AT_QUEUE_OFFSET 20u /* in a record (store.md 2.1) */
#define AT_PHYSICAL_OFFSET 28u
#define AT_SYSTEM_FLAG 36u
#define AT_BORN_HOST 48u
#define RECORD_MIN 91u
#define BORN_IPV6 0x10
#define STORE_IPV6 0x20

typedef struct { /* behind the records of an entry, one each: what a ConsumeQueue row needs */
  uint32_t size;
  uint32_t reserved;
  int64_t tags_code;
} Index;

static inline uint64_t aligned(uint64_t size) { return (size + 7) & ~7ull; }

static inline uint8_t *arena_of(const ap_ring *ring) {
  return (uint8_t *)ring + sizeof *ring + ring->capacity * ring->entry_size;
}

static inline ap_send *send_entry(const ap_ring *ring, uint64_t position) {
  return (ap_send *)((uint8_t *)ring + sizeof *ring) + (position & (ring->capacity - 1));
}

static inline ap_done *done_entry(const ap_ring *done, uint64_t position) {
  return (ap_done *)((uint8_t *)done + sizeof *done) + (position & (done->capacity - 1));
}

/* Where an entry's records lie; NULL when that is not within the arena. */
static inline uint8_t *records_of(const ap_ring *ring, const ap_send *entry) {
  uint64_t at = entry->arena_at & (ring->arena_size - 1), size = entry->record_size;
  if (entry->flags & AP_BATCH) size = aligned(size) + entry->record_count * (uint64_t)sizeof(Index);
  return at + size <= ring->arena_size ? arena_of(ring) + at : NULL;
}

static inline Index *index_of(uint8_t *records, const ap_send *entry) {
  return (Index *)(records + aligned(entry->record_size));
}
