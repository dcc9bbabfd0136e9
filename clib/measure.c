/* What a message's properties and a batch's items ask for, before anything is built from them. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "appliance.h"
#include "bytes.h"

#define ITEM_HEAD 20u /* size, magic, CRC, flag, body length */
#define SMALL_MAX 100000000

typedef struct {
  const char *name;
  size_t size;
} Key;

#define KEY(text) {text, sizeof(text) - 1}

/* Properties that make a message more than a message: the coordinator knows what to do with them. */
static const Key SPECIAL[] = {
    KEY("DELAY"), KEY("TIMER_DELAY_SEC"), KEY("TIMER_DELAY_MS"), KEY("TIMER_DELIVER_MS"), KEY("TIMER_DEL_UNIQKEY"),
    KEY("TRAN_MSG"), KEY("POP_CK"), KEY("INNER_NUM"), KEY("INNER_MULTI_DISPATCH"), KEY("__CRC32#")};
static const Key TRANSIENT = KEY("__RMQ.TRANSIENT.");

static int is_special(const uint8_t *name, size_t size) {
  for (size_t i = 0; i < sizeof SPECIAL / sizeof *SPECIAL; i++)
    if (SPECIAL[i].size == size && !memcmp(SPECIAL[i].name, name, size)) return 1;
  return size >= TRANSIENT.size && !memcmp(TRANSIENT.name, name, TRANSIENT.size);
}

static int is_key(const uint8_t *name, size_t size, const char *key, size_t key_size) {
  return size == key_size && !memcmp(name, key, key_size);
}

#define IS(text) is_key(name, name_size, text, sizeof(text) - 1)

int32_t ap_tags_code(const uint8_t *text, uint64_t size) {
  uint32_t hash = 0; /* Java's String.hashCode: over UTF-16 units */
  for (uint64_t i = 0; i < size;) {
    uint32_t c = text[i], tail = c < 0x80 ? 0 : c < 0xE0 ? 1 : c < 0xF0 ? 2 : 3;
    if (tail) c &= 0x3Fu >> tail;
    for (i++; tail && i < size; tail--, i++) c = c << 6 | (text[i] & 0x3F);
    if (c >= 0x10000) {
      hash = 31 * hash + (0xD7C0 + (c >> 10));
      c = 0xDC00 + (c & 0x3FF);
    }
    hash = 31 * hash + c;
  }
  return (int32_t)hash;
}

static int64_t small_number(const uint8_t *text, size_t size) {
  int64_t n = 0;
  for (size_t i = 0; i < size; i++) {
    if (text[i] < '0' || text[i] > '9') return 0;
    if (n < SMALL_MAX) n = 10 * n + (text[i] - '0'); /* more digits leave it as large as anybody asks */
  }
  return n;
}

static void take_property(const uint8_t *text, const uint8_t *name, size_t name_size, const uint8_t *value,
                          size_t value_size, ap_properties *out) {
  if (is_special(name, name_size)) out->odd |= AP_ODD_PROPERTY;
  if (IS("TAGS")) {
    out->tagged = 1;
    out->tags_code = ap_tags_code(value, value_size);
  } else if (IS("UNIQ_KEY")) {
    out->unique_key_at = (uint32_t)(value - text);
    out->unique_key_size = (uint32_t)value_size;
  } else if (IS("WAIT")) {
    out->wait_false = value_size == 5 && !memcmp(value, "false", 5);
  } else if (IS("DELAY")) {
    out->delay_level = small_number(value, value_size);
  }
}

void ap_properties_scan(const uint8_t *text, uint64_t size, ap_properties *out) {
  memset(out, 0, sizeof *out);
  if (!size) return;
  const uint8_t *p = text, *end = text + size;
  out->unended = end[-1] != 2;
  while (p < end) {
    const uint8_t *stop = memchr(p, 2, (size_t)(end - p));
    if (!stop) stop = end;
    const uint8_t *middle = memchr(p, 1, (size_t)(stop - p));
    if (middle && middle > p && stop > middle + 1)
      take_property(text, p, (size_t)(middle - p), middle + 1, (size_t)(stop - middle - 1), out);
    p = stop + 1;
  }
}

/* Counts a batch's items; 0 when their lengths do not add up. */
static int measure_items(ap_request *request) {
  const uint8_t *p = (const uint8_t *)request->body, *end = p + request->body_size;
  uint32_t count = 0;
  while (p < end) {
    uint64_t room = (uint64_t)(end - p);
    if (room < ITEM_HEAD + 2) return 0;
    uint64_t size = get32(p), body = get32(p + 16);
    if (size > room || size < ITEM_HEAD + 2 || body == 0 || body > size - ITEM_HEAD - 2) return 0;
    uint64_t properties = get16(p + ITEM_HEAD + body);
    if (ITEM_HEAD + body + 2 + properties != size || properties > 32767) return 0;
    ap_properties found;
    ap_properties_scan(p + ITEM_HEAD + body + 2, properties, &found);
    request->odd |= found.odd;
    if (properties > request->properties_max) request->properties_max = (uint32_t)properties;
    count++;
    p += size;
  }
  request->record_count = count;
  return count > 0;
}

void ap_request_measure(ap_request *request) {
  ap_properties found;
  ap_properties_scan((const uint8_t *)request->text, request->text_size, &found);
  request->odd |= found.odd;
  request->wait_false = found.wait_false;
  request->tagged = found.tagged;
  request->tags_code = found.tags_code;
  request->unique_key_at = found.unique_key_at;
  request->unique_key_size = found.unique_key_size;
  if (request->record_count) {
    if (!measure_items(request)) request->odd |= AP_ODD_BATCH;
  } else {
    request->properties_max = request->text_size;
    if (!found.unique_key_size || found.unique_key_size > AP_NAME_MAX) request->odd |= AP_ODD_KEY;
  }
}
