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

enum { /* fields of the hot codes */
  NONE, TOPIC, GROUP, QUEUE_ID, SYSTEM_FLAG, BORN, USER_FLAG, PROPERTIES, RECONSUME, BATCH, QUEUE_OFFSET, MAX_COUNT,
  COMMIT, SUSPEND, SUBSCRIPTION, SUB_VERSION, EXPRESSION, LOGICAL, SOURCE
};

typedef struct {
  const char *name;
  uint8_t size, field;
} Name;

#define NAME(text, field) {text, sizeof(text) - 1, field}

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

#define BIT(field) (1u << (field))
#define SEND_NEEDS (BIT(TOPIC) | BIT(QUEUE_ID) | BIT(SYSTEM_FLAG) | BIT(BORN) | BIT(USER_FLAG))
#define PULL_NEEDS                                                                                                 \
  (BIT(GROUP) | BIT(TOPIC) | BIT(QUEUE_ID) | BIT(QUEUE_OFFSET) | BIT(MAX_COUNT) | BIT(SYSTEM_FLAG) | BIT(COMMIT) | \
   BIT(SUSPEND) | BIT(SUB_VERSION))

typedef struct { /* a value as it stands in the header */
  const uint8_t *at;
  uint32_t size;
  uint32_t escaped;
} Value;

typedef struct { /* one call of ap_header_scan */
  ap_request *request;
  const ap_table *topics, *groups;
  uint8_t **text;
  const uint8_t *text_end;
  const Name *names;
  uint32_t name_count;
  uint32_t seen; /* bits of the fields that came */
} Scan;

static const uint8_t *skip_space(const uint8_t *p, const uint8_t *end) {
  while (p < end && (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t')) p++;
  return p;
}

/* A string that begins at its quote; the byte behind its closing quote, or NULL. */
static const uint8_t *scan_string(const uint8_t *p, const uint8_t *end, Value *value) {
  value->at = ++p;
  value->escaped = 0;
  for (; p < end && *p != '"'; p++)
    if (*p == '\\') {
      value->escaped = 1;
      p++;
    }
  if (p >= end) return NULL;
  value->size = (uint32_t)(p - value->at);
  return p + 1;
}

/* A string, number, true, false or null. */
static const uint8_t *scan_value(const uint8_t *p, const uint8_t *end, Value *value) {
  if (p < end && *p == '"') return scan_string(p, end, value);
  value->at = p;
  value->escaped = 0;
  while (p < end && *p != ',' && *p != '}' && *p > ' ') {
    if (*p == '{' || *p == '[' || *p == '"' || *p == '\'') return NULL;
    p++;
  }
  value->size = (uint32_t)(p - value->at);
  return value->size ? p : NULL;
}

static int parse_i64(const Value *value, int64_t *out) {
  const uint8_t *p = value->at, *end = p + value->size;
  int negative = p < end && *p == '-';
  uint64_t n = 0;
  if (negative) p++;
  if (p == end || end - p > 18) return 0;
  for (; p < end; p++) {
    if (*p < '0' || *p > '9') return 0;
    n = n * 10 + (uint64_t)(*p - '0');
  }
  *out = negative ? -(int64_t)n : (int64_t)n;
  return 1;
}

static int parse_i32(const Value *value, int32_t *out) {
  int64_t n;
  if (!parse_i64(value, &n) || n != (int32_t)n) return 0;
  *out = (int32_t)n;
  return 1;
}

static int is_text(const Value *value, const char *text) {
  return value->size == strlen(text) && !memcmp(value->at, text, value->size);
}

static int hex4(const uint8_t *p, uint32_t *out) {
  uint32_t v = 0;
  for (int i = 0; i < 4; i++) {
    uint32_t c = p[i], d = c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : 16;
    if (d > 15) return 0;
    v = v << 4 | d;
  }
  *out = v;
  return 1;
}

static uint8_t *put_utf8(uint8_t *to, uint32_t c) {
  if (c < 0x80) {
    *to++ = (uint8_t)c;
    return to;
  }
  uint32_t tail = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
  *to++ = (uint8_t)((0xF00u >> tail) | c >> (6 * tail));
  while (tail--) *to++ = (uint8_t)(0x80 | (c >> (6 * tail) & 0x3F));
  return to;
}

/* One \uXXXX (or a surrogate pair) at the `u`; the byte behind it, or NULL. */
static const uint8_t *unescape_unicode(const uint8_t *p, const uint8_t *end, uint8_t **to) {
  uint32_t c, low;
  if (end - p < 5 || !hex4(p + 1, &c)) return NULL;
  p += 5;
  if (c >= 0xDC00 && c < 0xE000) return NULL;
  if (c >= 0xD800 && c < 0xDC00) {
    if (end - p < 6 || p[0] != '\\' || p[1] != 'u' || !hex4(p + 2, &low) || low < 0xDC00 || low > 0xDFFF) return NULL;
    c = 0x10000 + ((c - 0xD800) << 10) + (low - 0xDC00);
    p += 6;
  }
  *to = put_utf8(*to, c);
  return p;
}

/* Undoes JSON's escapes into the text area; 0 where the string is not legal. */
static int unescape(Scan *scan, const Value *value, uint64_t *address, uint32_t *size) {
  const uint8_t *p = value->at, *end = p + value->size;
  uint8_t *to = *scan->text, *begin = to;
  if ((uint64_t)(scan->text_end - to) < value->size) {
    scan->request->odd |= AP_ODD_TEXT;
    return 1;
  }
  while (p < end) {
    const uint8_t *escape = memchr(p, '\\', (size_t)(end - p));
    size_t plain = (size_t)((escape ? escape : end) - p);
    to = put_bytes(to, p, plain);
    p += plain;
    if (!escape) break;
    static const char from[] = "\"\\/bfnrt", into[] = "\"\\/\b\f\n\r\t";
    const char *known = p[1] ? strchr(from, p[1]) : NULL;
    if (known) {
      *to++ = (uint8_t)into[known - from];
      p += 2;
    } else if (p[1] != 'u' || !(p = unescape_unicode(p + 1, end, &to))) {
      return 0;
    }
  }
  *scan->text = to;
  *address = (uint64_t)begin;
  *size = (uint32_t)(to - begin);
  return 1;
}

static int take_text(Scan *scan, const Value *value) {
  ap_request *r = scan->request;
  if (value->escaped) return unescape(scan, value, &r->text, &r->text_size);
  r->text = (uint64_t)value->at;
  r->text_size = value->size;
  return 1;
}

static int take_topic(Scan *scan, const Value *value) {
  ap_request *r = scan->request;
  if (value->escaped) return 0;
  r->topic = (uint64_t)value->at;
  r->topic_size = value->size;
  r->topic_row = (int32_t)ap_table_find(scan->topics, value->at, value->size);
  return 1;
}

static int take_group(Scan *scan, const Value *value) {
  if (value->escaped) return 0;
  scan->request->group_row = (int32_t)ap_table_find(scan->groups, value->at, value->size);
  return 1;
}

static int take_batch(Scan *scan, const Value *value) {
  if (is_text(value, "false")) return 1;
  scan->request->record_count = 1; /* "it is a batch": counted later */
  return is_text(value, "true");
}

/* Stores one field; 0 when its form is strange. */
static int take(Scan *scan, uint32_t field, const Value *value) {
  ap_request *r = scan->request;
  if (scan->seen & BIT(field)) return 0;
  scan->seen |= BIT(field);
  switch (field) {
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
    case SOURCE: return is_text(value, "-1");
    default: return 1;
  }
}

static void take_named(Scan *scan, const Value *name, const Value *value) {
  for (uint32_t i = 0; i < scan->name_count; i++)
    if (scan->names[i].size == name->size && !memcmp(scan->names[i].name, name->at, name->size)) {
      if (!take(scan, scan->names[i].field, value)) scan->request->odd |= AP_ODD_FIELD;
      return;
    }
}

/* The object at `p`; the byte behind it, or NULL where it is not a flat object. */
static const uint8_t *scan_fields(Scan *scan, const uint8_t *p, const uint8_t *end) {
  Value name, value;
  if (p >= end || *p++ != '{') return NULL;
  p = skip_space(p, end);
  if (p < end && *p == '}') return p + 1;
  while (p < end) {
    p = skip_space(p, end);
    if (p >= end || *p != '"' || !(p = scan_string(p, end, &name))) return NULL;
    p = skip_space(p, end);
    if (p >= end || *p != ':') return NULL;
    p = skip_space(p + 1, end);
    if (!(p = scan_value(p, end, &value))) return NULL;
    if (name.escaped) scan->request->odd |= AP_ODD_FIELD;
    else take_named(scan, &name, &value);
    p = skip_space(p, end);
    if (p < end && *p == '}') return p + 1;
    if (p >= end || *p++ != ',') return NULL;
  }
  return NULL;
}

/* Which fields the code has; 0 for codes that are not hot. */
static int choose_names(Scan *scan, int32_t code) {
  int send = code == SEND || code == SEND_V2 || code == SEND_BATCH, pull = code == PULL || code == LITE_PULL;
  scan->request->kind = send ? AP_REQUEST_SEND : pull ? AP_REQUEST_PULL : AP_REQUEST_OTHER;
  if (code == SEND) scan->names = SEND_NAMES, scan->name_count = sizeof SEND_NAMES / sizeof *SEND_NAMES;
  else if (send) scan->names = SEND_V2_NAMES, scan->name_count = sizeof SEND_V2_NAMES / sizeof *SEND_V2_NAMES;
  else scan->names = PULL_NAMES, scan->name_count = sizeof PULL_NAMES / sizeof *PULL_NAMES;
  return send || pull;
}

static int take_top(ap_request *r, const Value *name, const Value *value) {
  if (is_text(name, "code")) return parse_i32(value, &r->code);
  if (is_text(name, "opaque")) return parse_i32(value, &r->opaque);
  if (is_text(name, "flag")) return parse_i32(value, &r->flag);
  if (is_text(name, "version")) return parse_i32(value, &r->version);
  return 1;
}

/* The header is an object whose members are simple but for extFields; 0 when it is anything else. */
static int scan_json(Scan *scan, const uint8_t *p, const uint8_t *end) {
  Value name, value;
  const uint8_t *fields = NULL, *code_at = NULL, *opaque_at = NULL;
  Scan nothing = *scan;
  int taken = 0;
  nothing.name_count = 0;
  p = skip_space(p, end);
  if (p >= end || *p++ != '{') return 0;
  for (;;) {
    p = skip_space(p, end);
    if (p >= end || *p != '"' || !(p = scan_string(p, end, &name))) return 0;
    p = skip_space(p, end);
    if (p >= end || *p != ':') return 0;
    p = skip_space(p + 1, end);
    if (p < end && *p == '{') {
      if (fields || !is_text(&name, "extFields")) return 0;
      fields = p;
      taken = code_at && choose_names(scan, scan->request->code);
      p = scan_fields(taken ? scan : &nothing, p, end);
    } else {
      if (is_text(&name, "code")) code_at = p;
      if (is_text(&name, "opaque")) opaque_at = p;
      p = scan_value(p, end, &value);
      if (p && !take_top(scan->request, &name, &value)) return 0;
    }
    if (!p) return 0;
    p = skip_space(p, end);
    if (p < end && *p == '}') break;
    if (p >= end || *p++ != ',') return 0;
  }
  if (!code_at || !opaque_at) return 0;
  if (!taken && choose_names(scan, scan->request->code)) { /* extFields came before code */
    if (!fields) return 0;
    scan_fields(scan, fields, end);
  }
  return 1;
}

/* The binary header (remoting.md 1.2); 0 when a length does not fit. */
static int scan_binary(Scan *scan, const uint8_t *p, const uint8_t *end) {
  ap_request *r = scan->request;
  if (end - p < 21) return 0;
  r->code = (int16_t)get16(p);
  r->language = p[2];
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
  if (!choose_names(scan, r->code)) return 1;
  while (p < end) {
    Value name = {0}, value = {0};
    if (end - p < 2 || (name.size = get16(p)) > (uint64_t)(end - p - 2)) return 0;
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
    if ((scan->seen & SEND_NEEDS) != SEND_NEEDS) r->odd |= AP_ODD_FIELD;
    if (r->code == SEND_BATCH) r->record_count = 1;
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
  Scan scan = {request, topics, groups, text, text_end, NULL, 0, 0};
  int good = frame[0] ? scan_binary(&scan, frame + 4, frame + 4 + header)
                      : scan_json(&scan, frame + 4, frame + 4 + header);
  if (!good) {
    request->kind = AP_REQUEST_OTHER;
    request->odd |= AP_ODD_FIELD;
    return 0;
  }
  judge(&scan);
  return 0;
}
