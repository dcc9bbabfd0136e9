/* The fields that the hot codes need, from JSON and binary headers, one frame at a time.
 *
 * This is no JSON parser: it understands what the official clients write and calls everything else odd, so that
 * the tolerant decoder in Python (net/frame.py, the oracle of this file's tests) looks at it. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "appliance.h"
#include "bytes.h"

enum { PULL = 11, SEND = 10, SEND_V2 = 310, SEND_BATCH = 320, LITE_PULL = 361 };

enum { /* fields of the hot codes, then members of the header itself */
  NONE, TOPIC, GROUP, QUEUE_ID, SYSTEM_FLAG, BORN, USER_FLAG, PROPERTIES, RECONSUME, BATCH, QUEUE_OFFSET, MAX_COUNT,
  COMMIT, SUSPEND, SUBSCRIPTION, SUB_VERSION, EXPRESSION, LOGICAL, SOURCE,
  CODE, OPAQUE, FLAG, VERSION, LANGUAGE, FIELDS
};

typedef struct {
  const char *name;
  uint8_t size, field;
} Name;

#define NAME(text, field) {text, sizeof(text) - 1, field}
#define COUNT(names) (sizeof(names) / sizeof *(names))

static const Name SEND_NAMES[] = {
    NAME("topic", TOPIC), NAME("queueId", QUEUE_ID), NAME("sysFlag", SYSTEM_FLAG), NAME("bornTimestamp", BORN),
    NAME("flag", USER_FLAG), NAME("properties", PROPERTIES), NAME("reconsumeTimes", RECONSUME), NAME("batch", BATCH),
    NAME("lo", LOGICAL)};
static const Name SEND_V2_NAMES[] = {
    NAME("b", TOPIC), NAME("e", QUEUE_ID), NAME("f", SYSTEM_FLAG), NAME("g", BORN), NAME("h", USER_FLAG),
    NAME("i", PROPERTIES), NAME("j", RECONSUME), NAME("m", BATCH), NAME("lo", LOGICAL)};
static const Name PULL_NAMES[] = {
    NAME("consumerGroup", GROUP), NAME("topic", TOPIC), NAME("queueId", QUEUE_ID), NAME("queueOffset", QUEUE_OFFSET),
    NAME("maxMsgNums", MAX_COUNT), NAME("sysFlag", SYSTEM_FLAG), NAME("commitOffset", COMMIT),
    NAME("suspendTimeoutMillis", SUSPEND), NAME("subscription", SUBSCRIPTION), NAME("subVersion", SUB_VERSION),
    NAME("expressionType", EXPRESSION), NAME("requestSource", SOURCE), NAME("lo", LOGICAL)};

static const Name MEMBER_NAMES[] = {NAME("code", CODE), NAME("opaque", OPAQUE), NAME("flag", FLAG),
                                     NAME("version", VERSION), NAME("language", LANGUAGE), NAME("extFields", FIELDS)};

#define BIT(field) (1u << (field))
#define SEND_NEEDS (BIT(TOPIC) | BIT(QUEUE_ID) | BIT(SYSTEM_FLAG) | BIT(BORN) | BIT(USER_FLAG))
#define PULL_NEEDS                                                                                                 \
  (BIT(GROUP) | BIT(TOPIC) | BIT(QUEUE_ID) | BIT(QUEUE_OFFSET) | BIT(MAX_COUNT) | BIT(SYSTEM_FLAG) | BIT(COMMIT) | \
   BIT(SUSPEND) | BIT(SUB_VERSION))
#define TOPIC_MAX 127u /* a record of version 1 has one signed byte for it */
#define KEY_MAX 32767u
#define ONEWAY 2

typedef struct { /* a value as it stands in the header */
  const uint8_t *at;
  uint32_t size;
  uint16_t escaped;
  uint16_t bare; /* a number or a word, without quotes */
} Value;

typedef struct { /* one call of ap_header_scan */
  ap_request *request;
  const ap_table *topics, *groups;
  uint8_t **text;
  const uint8_t *text_end;
  const Name *names; /* the fields of this code */
  uint64_t name_count;
  uint32_t seen; /* bits of what came */
  const uint8_t *fields; /* extFields that came before the code */
} Scan;

typedef const uint8_t *Reader(Scan *scan, const Value *name, const uint8_t *p, const uint8_t *end);

static uint32_t find_name(const Name *names, uint64_t count, const Value *name) {
  for (uint64_t i = 0; i < count; i++)
    if (names[i].size == name->size && !memcmp(names[i].name, name->at, name->size)) return names[i].field;
  return NONE;
}

static int is_text(const Value *value, const char *text) {
  return value->size == strlen(text) && !memcmp(value->at, text, value->size);
}

static int parse_i64(const Value *value, int64_t *out) {
  const uint8_t *p = value->at, *end = p + value->size;
  int negative = p < end && *p == '-';
  uint64_t n = 0;
  if (negative) p++;
  if (p == end || end - p > 19) return 0;
  for (; p < end; p++) {
    if (*p < '0' || *p > '9') return 0;
    n = n * 10 + (uint64_t)(*p - '0');
  }
  if (n > (uint64_t)INT64_MAX + (uint64_t)negative) return 0;
  *out = (int64_t)(negative ? 0 - n : n);
  return 1;
}

static int parse_i32(const Value *value, int32_t *out) {
  int64_t n;
  if (!parse_i64(value, &n) || n != (int32_t)n) return 0;
  *out = (int32_t)n;
  return 1;
}

/* Undoes the escapes of a value in the text area; 0 where they are wrong. */
static int unescape(Scan *scan, const Value *value) {
  ap_request *r = scan->request;
  uint8_t *begin = *scan->text;
  r->text = r->text_size = 0;
  if ((uint64_t)(scan->text_end - begin) < value->size) {
    r->odd |= AP_ODD_TEXT;
    return 1;
  }
  uint8_t *end = unescape_json(value->at, value->size, begin);
  if (!end) return 0;
  *scan->text = end;
  r->text = (uint64_t)begin;
  r->text_size = (uint32_t)(end - begin);
  return 1;
}

/* Java and net/frame.py replace what is not UTF-8: such text is left to them. */
static int take_text(Scan *scan, const Value *value) {
  ap_request *r = scan->request;
  if (value->bare) return 0;
  r->text = (uint64_t)value->at;
  r->text_size = value->size;
  if (value->escaped && !unescape(scan, value)) return 0;
  return is_utf8((const uint8_t *)r->text, r->text_size);
}

static int take_topic(Scan *scan, const Value *value) {
  ap_request *r = scan->request;
  if (value->escaped || value->bare) return 0;
  r->topic = (uint64_t)value->at;
  r->topic_size = value->size;
  r->topic_row = (int32_t)ap_table_find(scan->topics, value->at, value->size);
  return 1;
}

static int take_group(Scan *scan, const Value *value) {
  if (value->escaped || value->bare) return 0;
  scan->request->group_row = (int32_t)ap_table_find(scan->groups, value->at, value->size);
  return 1;
}

static int take_batch(Scan *scan, const Value *value) {
  scan->request->record_count = is_text(value, "true"); /* "it is a batch": counted later */
  return scan->request->record_count || is_text(value, "false");
}

/* Stores one field; 0 when its form is strange. */
static int take(Scan *scan, uint32_t field, const Value *value) {
  ap_request *r = scan->request;
  if (scan->seen & BIT(field)) return 0; /* which of the two counts is not for us to say */
  scan->seen |= BIT(field);
  switch (field) {
    case CODE: return parse_i32(value, &r->code);
    case OPAQUE: return parse_i32(value, &r->opaque);
    case FLAG: return parse_i32(value, &r->flag);
    case VERSION: return parse_i32(value, &r->version);
    case LANGUAGE: return !value->bare; /* a number may be none of the enum's */
    case FIELDS: return 0;              /* no object */
    case TOPIC: return take_topic(scan, value);
    case GROUP: return take_group(scan, value);
    case QUEUE_ID: return parse_i32(value, &r->queue_id);
    case SYSTEM_FLAG: return parse_i32(value, &r->system_flag);
    case BORN: return parse_i64(value, &r->born_timestamp);
    case USER_FLAG: return parse_i32(value, &r->user_flag);
    case RECONSUME: return parse_i32(value, &r->reconsume_times);
    case QUEUE_OFFSET: return parse_i64(value, &r->queue_offset);
    case MAX_COUNT: return parse_i32(value, &r->max_count);
    case COMMIT: return parse_i64(value, &r->commit_offset);
    case SUSPEND: return parse_i64(value, &r->suspend_ms);
    case SUB_VERSION: return parse_i64(value, &r->subscription_version);
    case PROPERTIES:
    case SUBSCRIPTION: return take_text(scan, value);
    case BATCH: return take_batch(scan, value);
    case EXPRESSION:
      if (!is_text(value, "TAG")) r->odd |= AP_ODD_FILTER;
      return 1;
    case LOGICAL: return is_text(value, "false");
    default: return is_text(value, "-1"); /* SOURCE */
  }
}

static void take_named(Scan *scan, const Value *name, const Value *value) {
  uint32_t field = find_name(scan->names, scan->name_count, name);
  if (name->escaped || (field != NONE && !take(scan, field, value))) scan->request->odd |= AP_ODD_FIELD;
}

/* Which fields the code has; 0 for codes that are not hot. */
static int choose_names(Scan *scan) {
  int32_t code = scan->request->code;
  int send = code == SEND || code == SEND_V2 || code == SEND_BATCH, pull = code == PULL || code == LITE_PULL;
  scan->request->kind = send ? AP_REQUEST_SEND : pull ? AP_REQUEST_PULL : AP_REQUEST_OTHER;
  if (code == SEND) scan->names = SEND_NAMES, scan->name_count = COUNT(SEND_NAMES);
  else if (send) scan->names = SEND_V2_NAMES, scan->name_count = COUNT(SEND_V2_NAMES);
  else if (pull) scan->names = PULL_NAMES, scan->name_count = COUNT(PULL_NAMES);
  return send || pull;
}

static const uint8_t *skip_space(const uint8_t *p, const uint8_t *end) {
  while (p < end && (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t')) p++;
  return p;
}

/* A string that begins at its quote; the byte behind its closing quote, or NULL. */
static const uint8_t *scan_string(const uint8_t *p, const uint8_t *end, Value *value) {
  *value = (Value){.at = ++p};
  for (; p < end && *p != '"'; p++)
    if (*p == '\\') {
      value->escaped = 1;
      if (++p == end) return NULL;
    }
  if (p >= end) return NULL;
  value->size = (uint32_t)(p - value->at);
  return p + 1;
}

/* A string, an integer, true, false or null; the byte behind it, or NULL for all else that may stand there. */
static const uint8_t *scan_value(const uint8_t *p, const uint8_t *end, Value *value) {
  if (p < end && *p == '"') return scan_string(p, end, value);
  *value = (Value){.at = p, .bare = 1};
  if (p < end && *p == '-') p++;
  const uint8_t *digits = p;
  while (p < end && *p >= '0' && *p <= '9') p++;
  int number = p > digits;
  if (!number) p = value->at;
  while (!number && p < end && *p >= 'a' && *p <= 'z') p++;
  value->size = (uint32_t)(p - value->at);
  return number || is_text(value, "true") || is_text(value, "false") || is_text(value, "null") ? p : NULL;
}

/* `"name":`; the first byte of its value, or NULL. */
static const uint8_t *scan_name(const uint8_t *p, const uint8_t *end, Value *name) {
  p = skip_space(p, end);
  if (p >= end || *p != '"' || !(p = scan_string(p, end, name))) return NULL;
  p = skip_space(p, end);
  return p < end && *p == ':' ? skip_space(p + 1, end) : NULL;
}

/* An object, its values read by `read`; the byte behind it, or NULL. */
static const uint8_t *scan_object(Scan *scan, const uint8_t *p, const uint8_t *end, Reader *read) {
  Value name;
  if (p >= end || *p++ != '{') return NULL;
  p = skip_space(p, end);
  if (p < end && *p == '}') return p + 1;
  do {
    if (!(p = scan_name(p, end, &name)) || !(p = read(scan, &name, p, end))) return NULL;
    p = skip_space(p, end);
    if (p < end && *p == '}') return p + 1;
  } while (p < end && *p++ == ',');
  return NULL;
}

static const uint8_t *read_field(Scan *scan, const Value *name, const uint8_t *p, const uint8_t *end) {
  Value value;
  p = scan_value(p, end, &value);
  if (p && scan->names) take_named(scan, name, &value);
  return p;
}

static const uint8_t *read_member(Scan *scan, const Value *name, const uint8_t *p, const uint8_t *end) {
  Value value;
  uint32_t member = find_name(MEMBER_NAMES, COUNT(MEMBER_NAMES), name);
  if (name->escaped) return NULL;
  if (member == FIELDS && p < end && *p == '{') {
    if (scan->seen & BIT(FIELDS)) return NULL;
    scan->seen |= BIT(FIELDS);
    if (scan->seen & BIT(CODE)) choose_names(scan);
    else scan->fields = p;
    return scan_object(scan, p, end, read_field);
  }
  p = scan_value(p, end, &value);
  return p && (member == NONE || take(scan, member, &value)) ? p : NULL;
}

/* The header is an object whose members are simple but for extFields; 0 when it is anything else. */
static int scan_json(Scan *scan, const uint8_t *p, const uint8_t *end) {
  p = scan_object(scan, skip_space(p, end), end, read_member);
  if (!p || skip_space(p, end) != end) return 0;
  if (!(scan->seen & BIT(CODE)) || !(scan->seen & BIT(OPAQUE))) return 0;
  if (choose_names(scan) && scan->fields) scan_object(scan, scan->fields, end, read_field);
  return 1;
}

/* The binary header (remoting.md 1.2); 0 when a length does not fit. */
static int scan_binary(Scan *scan, const uint8_t *p, const uint8_t *end) {
  ap_request *r = scan->request;
  if (end - p < 21) return 0;
  r->code = (int16_t)get16(p);
  r->version = (int16_t)get16(p + 3);
  r->opaque = (int32_t)get32(p + 5);
  r->flag = (int32_t)get32(p + 9);
  uint32_t remark = get32(p + 13);
  p += 17;
  if ((uint64_t)(end - p) < (uint64_t)remark + 4) return 0;
  p += remark;
  uint32_t size = get32(p);
  p += 4;
  if ((uint64_t)(end - p) < size) return 0;
  end = p + size;
  if (!choose_names(scan)) return 1;
  while (p < end) {
    Value name = {0}, value = {0};
    if (end - p < 2 || (name.size = get16(p)) > (uint64_t)(end - p - 2) || name.size > KEY_MAX) return 0;
    name.at = p + 2;
    p += 2 + name.size;
    if (end - p < 4 || (value.size = get32(p)) > (uint64_t)(end - p - 4)) return 0;
    value.at = p + 4;
    p += 4 + value.size;
    take_named(scan, &name, &value);
  }
  return 1;
}

static void judge(Scan *scan) {
  ap_request *r = scan->request;
  if (r->flag & 1) {
    r->kind = AP_REQUEST_RESPONSE;
    return;
  }
  if (r->kind == AP_REQUEST_SEND) {
    if ((scan->seen & SEND_NEEDS) != SEND_NEEDS || r->topic_size > TOPIC_MAX) r->odd |= AP_ODD_FIELD;
    if (r->code == SEND_BATCH && !r->record_count) r->odd |= AP_ODD_BATCH; /* the field decides, not the code */
    ap_request_measure(r);
  } else if (r->kind == AP_REQUEST_PULL && (scan->seen & PULL_NEEDS) != PULL_NEEDS) {
    r->odd |= AP_ODD_FIELD;
  }
}

int ap_header_scan(ap_request *request, const ap_table *topics, const ap_table *groups, uint8_t **text,
                   const uint8_t *text_end) {
  const uint8_t *frame = (const uint8_t *)request->frame;
  if (request->frame_size < 4) return AP_EINVAL;
  uint32_t header = get32(frame) & 0xFFFFFF;
  if (header > request->frame_size - 4 || frame[0] > 1) return AP_EINVAL;
  request->body = (uint64_t)(frame + 4 + header);
  request->body_size = request->frame_size - 4 - header;
  request->binary = frame[0];
  request->topic_row = request->group_row = -1;
  Scan scan = {.request = request, .topics = topics, .groups = groups, .text = text, .text_end = text_end};
  const uint8_t *begin = frame + 4, *end = begin + header;
  if (frame[0] ? scan_binary(&scan, begin, end) : scan_json(&scan, begin, end)) {
    judge(&scan);
    return 0;
  }
  request->kind = AP_REQUEST_OTHER;
  request->odd |= AP_ODD_FIELD;
  request->code = request->opaque = 0; /* half understood: nobody here may answer a guess */
  request->flag = ONEWAY;
  return 0;
}
