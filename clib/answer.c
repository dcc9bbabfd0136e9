/* The answers to sends and other hot codes, as the JSON frames that every official client reads. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "appliance.h"
#include "bytes.h"
#include "entries.h"

#define HEAD_MAX 2048u /* of what follows here at most 400, and six bytes each of a key or a remark */
#define ID_MAX 57u     /* a message id of an IPv6 host, and a comma */
#define TAIL ",\"serializeTypeCurrentRPC\":\"JSON\",\"version\":479}"

/* Fills in the two length words of a frame whose header ends at `end`. */
static void put_lengths(uint8_t *frame, const uint8_t *end, uint64_t body_size) {
  uint32_t header = (uint32_t)(end - frame - 8);
  put32(frame, (uint32_t)(4 + header + body_size));
  put32(frame + 4, header);
}

static uint8_t *put_begin(uint8_t *frame, int32_t code) {
  uint8_t *p = put_literal(frame + 8, "{\"code\":");
  p = put_decimal(p, code);
  return put_literal(p, ",\"extFields\":{");
}

static uint8_t *put_end(uint8_t *p, int32_t opaque, const char *remark) {
  p = put_literal(p, "},\"flag\":1,\"language\":\"PYTHON\",\"opaque\":");
  p = put_decimal(p, opaque);
  if (remark) {
    p = put_literal(p, ",\"remark\":\"");
    p = put_json_text(p, (const uint8_t *)remark, strlen(remark));
    *p++ = '"';
  }
  return put_literal(p, TAIL);
}

static uint8_t *put_field(uint8_t *p, const char *name, int64_t value) {
  *p++ = '"';
  p = put_bytes(p, name, strlen(name));
  p = put_literal(p, "\":\"");
  p = put_decimal(p, value);
  return put_literal(p, "\",");
}

/* offsetMsgId: the store host and the physical offset in hex (remoting.md 5.5). */
static uint8_t *put_message_id(uint8_t *p, const ap_build *build, int64_t physical_offset) {
  uint8_t offset[8];
  put64(offset, (uint64_t)physical_offset);
  p = put_hex(p, build->store_host, build->store_host_size);
  return put_hex(p, offset, sizeof offset);
}

static uint8_t *put_stored(uint8_t *p, const ap_build *build, const ap_send *entry, const ap_done *done,
                           const uint8_t *records) {
  p = put_bytes(p, build->region, build->region_size);
  p = put_literal(p, ",\"msgId\":\"");
  uint64_t begin = 0;
  for (uint32_t i = 0; i < entry->record_count && begin + 4 <= entry->record_size; i++) {
    if (i) *p++ = ',';
    p = put_message_id(p, build, done->physical_offset + (int64_t)begin);
    begin += get32(records + begin);
  }
  p = put_literal(p, "\",");
  p = put_field(p, "queueId", entry->queue_id);
  p = put_field(p, "queueOffset", done->queue_offset) - 1; /* the comma goes */
  uint64_t key_end = (uint64_t)entry->unique_key_at + entry->unique_key_size;
  if (!entry->unique_key_size || entry->unique_key_size > AP_NAME_MAX || key_end > entry->record_size) return p;
  p = put_literal(p, ",\"transactionId\":\"");
  p = put_json_text(p, records + entry->unique_key_at, entry->unique_key_size);
  *p++ = '"';
  return p;
}

static int stored(int32_t code) { return code == 0 || (code >= 10 && code <= 12); }

int64_t ap_send_answer(ap_net *net, const ap_build *build, const ap_ring *ring, const ap_ring *done, uint64_t first,
                       uint64_t last) {
  uint8_t small[HEAD_MAX];
  int64_t count = 0;
  for (uint64_t i = first; i < last; i++) {
    const ap_send *entry = send_entry(ring, i);
    const ap_done *result = done_entry(done, i);
    const uint8_t *records = records_of(ring, entry);
    if (entry->kind != AP_SEND || entry->flags & AP_ONEWAY || !stored(result->code) || !records) continue;
    uint64_t need = HEAD_MAX + (uint64_t)ID_MAX * entry->record_count;
    uint32_t capacity = 0;
    uint64_t block = entry->record_count > 1 ? ap_pool_take(net->pool, need, &capacity) : 0;
    if (entry->record_count > 1 && !block) continue; /* no memory: the client's time-out repeats its send */
    uint8_t *frame = block ? (uint8_t *)block : small;
    uint8_t *p = put_begin(frame, result->code);
    p = put_stored(p, build, entry, result, records);
    p = put_end(p, entry->opaque, NULL);
    put_lengths(frame, p, 0);
    count += ap_net_put(net, entry->connection, frame, (uint64_t)(p - frame)) == 0;
    if (block) ap_pool_give(net->pool, block, capacity);
  }
  return count;
}

int ap_answer_code(ap_net *net, uint64_t connection, int32_t opaque, int32_t code, const char *remark) {
  uint8_t frame[HEAD_MAX];
  if (remark && strlen(remark) > AP_REMARK_MAX) return AP_EINVAL;
  uint8_t *p = put_end(put_begin(frame, code), opaque, remark);
  put_lengths(frame, p, 0);
  return ap_net_put(net, connection, frame, (uint64_t)(p - frame));
}

int ap_pull_answer(ap_net *net, uint64_t connection, const ap_pulled *pulled, const char *remark,
                   const uint64_t *slices, uint64_t slice_count) {
  uint8_t frame[HEAD_MAX];
  uint64_t body = 0;
  for (uint64_t i = 0; i < slice_count; i++) body += slices[2 * i + 1];
  if (remark && strlen(remark) > AP_REMARK_MAX) return AP_EINVAL;
  uint8_t *p = put_begin(frame, pulled->code);
  p = put_field(p, "maxOffset", pulled->max_offset);
  p = put_field(p, "minOffset", pulled->min_offset);
  p = put_field(p, "nextBeginOffset", pulled->next_offset);
  p = put_field(p, "offsetDelta", 0);
  p = put_field(p, "suggestWhichBrokerId", pulled->broker_id);
  p = put_field(p, "topicSysFlag", pulled->topic_flag);
  p = put_field(p, "groupSysFlag", pulled->group_flag) - 1;
  p = put_end(p, pulled->opaque, remark);
  put_lengths(frame, p, body);
  return ap_net_gather(net, connection, frame, (uint64_t)(p - frame), slices, slice_count);
}
