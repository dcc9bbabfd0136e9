/* CommitLog records built in a ring's arena. The layout is store.md 2.1; commitlog/record.py is the oracle. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "appliance.h"
#include "bytes.h"
#include "entries.h"

#define MAGIC_V1 0xDAA320A7u
#define ITEM_HEAD 20u
#define COMPRESSED_BITS 0x701 /* what a batch's items never are */
#define TOPIC_MAX 127u
#define PROPERTIES_MAX 32767u
#define BODY_MAX 0x3FFFFFFFu

typedef struct { /* one message about to become a record */
  const uint8_t *body, *properties;
  uint32_t body_size, properties_size, flag;
  int32_t system_flag;
} Message;

static uint32_t crc_table[8][256];

__attribute__((constructor)) static void prepare_crc(void) {
  for (uint32_t i = 0; i < 256; i++) {
    uint32_t c = i;
    for (int k = 0; k < 8; k++) c = c & 1 ? c >> 1 ^ 0xEDB88320u : c >> 1;
    crc_table[0][i] = c;
  }
  for (uint32_t i = 0; i < 256; i++)
    for (int k = 1; k < 8; k++) crc_table[k][i] = crc_table[k - 1][i] >> 8 ^ crc_table[0][crc_table[k - 1][i] & 255];
}

uint32_t ap_crc32(const uint8_t *p, uint64_t size) {
  uint32_t c = 0xFFFFFFFFu;
  for (; size >= 8; size -= 8, p += 8) { /* slicing by eight; little-endian, as x86 and arm64 are */
    uint32_t low, high;
    memcpy(&low, p, 4);
    memcpy(&high, p + 4, 4);
    low ^= c;
    c = crc_table[7][low & 255] ^ crc_table[6][low >> 8 & 255] ^ crc_table[5][low >> 16 & 255] ^
        crc_table[4][low >> 24] ^ crc_table[3][high & 255] ^ crc_table[2][high >> 8 & 255] ^
        crc_table[1][high >> 16 & 255] ^ crc_table[0][high >> 24];
  }
  while (size--) c = c >> 8 ^ crc_table[0][(c ^ *p++) & 255];
  return ~c;
}

static uint32_t unended(const Message *m) { return m->properties_size && m->properties[m->properties_size - 1] != 2; }

/* Bytes of one record; 0 when a length does not fit into its field, which whoever chose the request has looked at. */
static uint32_t record_size(const ap_request *r, const ap_build *build, const Message *m, uint32_t born_size) {
  uint64_t properties = (uint64_t)m->properties_size + unended(m) + build->suffix_size;
  if (properties > PROPERTIES_MAX || r->topic_size > TOPIC_MAX || m->body_size > BODY_MAX) return 0;
  return 75 + born_size + build->store_host_size + m->body_size + r->topic_size + (uint32_t)properties;
}

/* Writes one record whose queueOffset, physicalOffset and storeTimestamp are filled in by stamp(). */
static uint8_t *put_record(uint8_t *p, const ap_request *r, const ap_build *build, const ap_connection *c,
                           const Message *m, uint32_t size) {
  int32_t system_flag = m->system_flag & ~(BORN_IPV6 | STORE_IPV6);
  if (c->peer_size == 20) system_flag |= BORN_IPV6;
  if (build->store_host_size == 20) system_flag |= STORE_IPV6;
  p = put32(p, size);
  p = put32(p, MAGIC_V1);
  p = put32(p, ap_crc32(m->body, m->body_size) & 0x7FFFFFFF);
  p = put32(p, (uint32_t)r->queue_id);
  p = put32(p, m->flag);
  p = put64(p, 0);
  p = put64(p, 0);
  p = put32(p, (uint32_t)system_flag);
  p = put64(p, (uint64_t)r->born_timestamp);
  p = put_bytes(p, c->peer, c->peer_size);
  p = put64(p, 0);
  p = put_bytes(p, build->store_host, build->store_host_size);
  p = put32(p, (uint32_t)r->reconsume_times);
  p = put64(p, 0);
  p = put32(p, m->body_size);
  p = put_bytes(p, m->body, m->body_size);
  *p++ = (uint8_t)r->topic_size;
  p = put_bytes(p, (const uint8_t *)r->topic, r->topic_size);
  p = put16(p, m->properties_size + unended(m) + build->suffix_size);
  p = put_bytes(p, m->properties, m->properties_size);
  if (unended(m)) *p++ = 2;
  return put_bytes(p, build->suffix, build->suffix_size);
}

/* The next item of a batch; its begin moves on. ap_request_measure has checked the lengths. */
static Message next_item(const ap_request *r, const uint8_t **at) {
  const uint8_t *p = *at;
  uint32_t body = get32(p + 16);
  Message m = {p + ITEM_HEAD, p + ITEM_HEAD + body + 2, body, get16(p + ITEM_HEAD + body), get32(p + 12),
               r->system_flag & ~COMPRESSED_BITS};
  *at = p + get32(p);
  return m;
}

static Message whole_message(const ap_request *r) {
  Message m = {(const uint8_t *)r->body, (const uint8_t *)r->text, r->body_size, r->text_size, (uint32_t)r->user_flag,
               r->system_flag};
  return m;
}

/* Bytes of all records of a request, 0 where they cannot be built. */
static uint64_t measure(const ap_request *r, const ap_build *build, const ap_connection *c) {
  if (r->kind != AP_REQUEST_SEND || r->odd || (c->peer_size != 8 && c->peer_size != 20)) return 0;
  Message m = whole_message(r);
  if (!r->record_count) return record_size(r, build, &m, c->peer_size);
  uint64_t sum = 0;
  const uint8_t *at = (const uint8_t *)r->body;
  for (uint32_t i = 0; i < r->record_count; i++) {
    m = next_item(r, &at);
    uint64_t size = record_size(r, build, &m, c->peer_size);
    if (!size) return 0;
    sum += size;
  }
  return sum <= UINT32_MAX / 2 ? sum : 0;
}

static void build_single(const ap_request *r, const ap_build *build, const ap_connection *c, uint8_t *to,
                         ap_send *entry) {
  Message m = whole_message(r);
  put_record(to, r, build, c, &m, entry->record_size);
  entry->record_count = 1;
  entry->tags_code = r->tagged ? r->tags_code : 0;
  entry->unique_key_size = r->unique_key_size;
  entry->unique_key_at = AT_BORN_HOST + c->peer_size + 8 + build->store_host_size + 16 + r->body_size + 1 +
                         r->topic_size + 2 + r->unique_key_at;
}

static void build_batch(const ap_request *r, const ap_build *build, const ap_connection *c, uint8_t *to,
                        ap_send *entry) {
  const uint8_t *at = (const uint8_t *)r->body;
  Index *index = index_of(to, entry);
  for (uint32_t i = 0; i < r->record_count; i++) {
    Message m = next_item(r, &at);
    uint32_t size = record_size(r, build, &m, c->peer_size);
    ap_properties found;
    ap_properties_scan(m.properties, m.properties_size, &found);
    index[i] = (Index){size, 0, found.tagged ? found.tags_code : 0};
    to = put_record(to, r, build, c, &m, size);
  }
  entry->record_count = r->record_count;
  entry->flags |= AP_BATCH;
}

/* Claims `need` contiguous bytes; the arena position, or UINT64_MAX when the ring is full. */
static uint64_t claim(const ap_ring *ring, uint64_t *arena_head, uint64_t need, uint64_t limit) {
  uint64_t at = *arena_head, left = ring->arena_size - (at & (ring->arena_size - 1));
  if (need > left) at += left;
  if (at + need > limit) return UINT64_MAX;
  *arena_head = at + need;
  return at;
}

int64_t ap_send_build(const ap_net *net, const ap_request *requests, const uint32_t *chosen, uint64_t count,
                      const ap_build *build, ap_ring *ring, uint64_t head, uint64_t entry_limit,
                      uint64_t *arena_head, uint64_t arena_limit, const uint32_t *queue_indexes) {
  uint64_t i = 0;
  for (; i < count && head + i < entry_limit; i++) {
    const ap_request *r = &requests[chosen[i]];
    const ap_connection *c = &net->connections[(uint32_t)r->connection];
    uint64_t size = measure(r, build, c), need = aligned(size) + r->record_count * (uint64_t)sizeof(Index);
    if (!size) return AP_EINVAL;
    uint64_t at = claim(ring, arena_head, aligned(need), arena_limit);
    if (at == UINT64_MAX) break;
    ap_send *entry = send_entry(ring, head + i);
    *entry = (ap_send){.sequence = head + i, .arena_at = at, .arena_size = (uint32_t)aligned(need),
                       .record_size = (uint32_t)size, .queue_index = queue_indexes[i], .kind = AP_SEND,
                       .connection = r->connection, .opaque = r->opaque, .code = r->code, .queue_id = r->queue_id,
                       .received_ns = net->now_ns};
    if (r->flag & 2) entry->flags |= AP_ONEWAY;
    uint8_t *to = arena_of(ring) + (at & (ring->arena_size - 1));
    if (r->record_count) build_batch(r, build, c, to, entry);
    else build_single(r, build, c, to, entry);
  }
  return (int64_t)i;
}
