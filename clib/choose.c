/* Which requests of a batch are plain sends, and which row of the queue table each one goes to. */
#include <stddef.h>
#include <stdint.h>

#include "appliance.h"
#include "entries.h"

#define PROPERTIES_MAX 32767u
#define TOPIC_MAX 127u          /* longer names need a record of version 2 */
#define RECORD_HEAD_MAX 115u    /* of a record of version 1 between IPv6 hosts, with its lengths */
#define RECORD_ROOM 65536u      /* what a record may be longer than its body (store.md 2.5) */
#define ODD_SYSTEM_FLAGS 0xCC   /* transaction types and inner batches (remoting.md 5.2) */

static const ap_topic *topic_row(const ap_table *table, int64_t row) {
  const uint8_t *rows = (const uint8_t *)table + sizeof *table + 4 * table->slots_max;
  return (const ap_topic *)(rows + (uint64_t)row * table->row_size);
}

/* A field that its writer may be changing: the sequence says whether it was. */
static uint32_t now(const uint32_t *field) { return __atomic_load_n(field, __ATOMIC_RELAXED); }

/* The row of the queue that a send asks for; -1 when its topic does not take it, or is being changed. */
static int64_t queue_row(const ap_table *topics, const ap_request *r) {
  if (r->topic_row < 0 || r->queue_id < 0) return -1;
  const ap_topic *topic = topic_row(topics, r->topic_row);
  uint64_t before = __atomic_load_n(&topic->name.sequence, __ATOMIC_ACQUIRE);
  uint32_t read = now(&topic->read_queues), write = now(&topic->write_queues), flags = now(&topic->flags);
  uint32_t base = now(&topic->queue_base);
  __atomic_thread_fence(__ATOMIC_ACQUIRE);
  if (before & 1 || before != __atomic_load_n(&topic->name.sequence, __ATOMIC_RELAXED)) return -1;
  if (!(flags & AP_TOPIC_SEND) || (uint32_t)r->queue_id >= (read > write ? read : write)) return -1;
  return (int64_t)base + r->queue_id;
}

/* The records of a batch, with what its rows need, take no more than one message may (Apache: MessageExtEncoder.encode
 * of a batch): however small its items are, files, arenas and answers have room for it. */
static int fits(const ap_request *r, const ap_build *build) {
  uint64_t most = RECORD_HEAD_MAX + r->topic_size + build->suffix_size + 1 + sizeof(Index);
  return r->body_size + r->record_count * most <= (uint64_t)build->message_max + RECORD_ROOM;
}

static int is_plain(const ap_request *r, const ap_build *build) {
  return r->kind == AP_REQUEST_SEND && !r->odd && r->body_size > 0 && r->body_size <= build->message_max &&
         r->topic_size <= TOPIC_MAX && r->properties_max + 1 + build->suffix_size <= PROPERTIES_MAX &&
         !(r->system_flag & ODD_SYSTEM_FLAGS) && fits(r, build);
}

int64_t ap_send_choose(const ap_request *requests, uint64_t count, const ap_table *topics, const ap_build *build,
                       uint32_t *chosen, uint32_t *queue_rows, uint32_t *others, uint64_t *other_count) {
  int64_t n = 0;
  uint64_t rest = 0;
  for (uint64_t i = 0; i < count; i++) {
    int64_t row = is_plain(&requests[i], build) ? queue_row(topics, &requests[i]) : -1;
    if (row < 0) {
      others[rest++] = (uint32_t)i;
    } else {
      chosen[n] = (uint32_t)i;
      queue_rows[n++] = (uint32_t)row;
    }
  }
  *other_count = rest;
  return n;
}
