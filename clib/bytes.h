/* Private to the C files: big-endian loads and stores, text that is read and built (text.c). */
#include <string.h>

int is_utf8(const uint8_t *p, uint64_t size);
/* Undoes JSON's escapes; the end of what was written, never more than `size` bytes, or NULL where they are wrong. */
uint8_t *unescape_json(const uint8_t *p, uint64_t size, uint8_t *to);
/* Text as the inside of a JSON string, up to six bytes for each of its own. */
uint8_t *put_json_text(uint8_t *p, const uint8_t *text, uint64_t size);

static inline uint32_t get32(const uint8_t *p) {
  uint32_t v;
  memcpy(&v, p, 4);
  return __builtin_bswap32(v);
}

static inline uint64_t get64(const uint8_t *p) {
  uint64_t v;
  memcpy(&v, p, 8);
  return __builtin_bswap64(v);
}

static inline uint16_t get16(const uint8_t *p) { return (uint16_t)(p[0] << 8 | p[1]); }

static inline uint8_t *put16(uint8_t *p, uint32_t v) {
  p[0] = (uint8_t)(v >> 8);
  p[1] = (uint8_t)v;
  return p + 2;
}

static inline uint8_t *put32(uint8_t *p, uint32_t v) {
  v = __builtin_bswap32(v);
  memcpy(p, &v, 4);
  return p + 4;
}

static inline uint8_t *put64(uint8_t *p, uint64_t v) {
  v = __builtin_bswap64(v);
  memcpy(p, &v, 8);
  return p + 8;
}

static inline uint8_t *put_bytes(uint8_t *p, const void *from, size_t size) {
  if (size) memcpy(p, from, size);
  return p + size;
}

#define put_literal(p, text) put_bytes(p, text, sizeof(text) - 1)

static inline uint8_t *put_decimal(uint8_t *p, int64_t value) {
  uint8_t digits[20];
  size_t n = 0;
  uint64_t rest = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
  do digits[n++] = (uint8_t)('0' + rest % 10);
  while (rest /= 10);
  if (value < 0) *p++ = '-';
  while (n) *p++ = digits[--n];
  return p;
}

static inline uint8_t *put_hex(uint8_t *p, const uint8_t *from, size_t size) {
  static const char digit[] = "0123456789ABCDEF";
  for (size_t i = 0; i < size; i++) {
    *p++ = (uint8_t)digit[from[i] >> 4];
    *p++ = (uint8_t)digit[from[i] & 15];
  }
  return p;
}
