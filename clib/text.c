/* Text on the wire: whether bytes are UTF-8, JSON's escapes undone and made. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "bytes.h"

#define NOT_ASCII 0x8080808080808080u

/* Bytes of the character at `p`; 0 for what no encoder writes: overlong, a surrogate, too high, cut short. */
static uint32_t character_size(const uint8_t *p, const uint8_t *end) {
  static const uint32_t least[] = {0, 0x80, 0x800, 0x10000};
  uint32_t lead = *p, tail = lead < 0x80 ? 0 : lead < 0xE0 ? 1 : lead < 0xF0 ? 2 : 3;
  if (!tail) return 1;
  if (lead < 0xC2 || lead > 0xF4 || (uint64_t)(end - p) <= tail) return 0;
  uint32_t c = lead & (0x3Fu >> tail);
  for (uint32_t i = 1; i <= tail; i++) {
    if ((p[i] & 0xC0) != 0x80) return 0;
    c = c << 6 | (p[i] & 0x3F);
  }
  return c < least[tail] || c > 0x10FFFF || (c >= 0xD800 && c <= 0xDFFF) ? 0 : tail + 1;
}

int is_utf8(const uint8_t *p, uint64_t size) {
  if (!size) return 1;
  const uint8_t *end = p + size;
  while (p < end) {
    uint64_t word = NOT_ASCII;
    if (end - p >= 8) memcpy(&word, p, 8);
    uint32_t step = word & NOT_ASCII ? character_size(p, end) : 8;
    if (!step) return 0;
    p += step;
  }
  return 1;
}

static int hex4(const uint8_t *p, uint32_t *out) {
  uint32_t v = 0;
  for (int i = 0; i < 4; i++) {
    uint32_t c = p[i], letter = c | 32;
    uint32_t digit = c >= '0' && c <= '9' ? c - '0' : letter >= 'a' && letter <= 'f' ? letter - 'a' + 10 : 16;
    if (digit > 15) return 0;
    v = v << 4 | digit;
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
  *to++ = (uint8_t)((0xFF00u >> (tail + 1)) | c >> (6 * tail));
  while (tail--) *to++ = (uint8_t)(0x80 | (c >> (6 * tail) & 0x3F));
  return to;
}

/* One \uXXXX (or a surrogate pair) at its `u`; the byte behind it, or NULL. */
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

uint8_t *unescape_json(const uint8_t *p, uint64_t size, uint8_t *to) {
  static const char from[] = "\"\\/bfnrt", into[] = "\"\\/\b\f\n\r\t";
  const uint8_t *end = p + size;
  while (p < end) {
    const uint8_t *escape = memchr(p, '\\', (size_t)(end - p));
    size_t plain = (size_t)((escape ? escape : end) - p);
    to = put_bytes(to, p, plain);
    p += plain;
    if (!escape) break;
    if (++p == end) return NULL;
    const char *known = *p ? strchr(from, *p) : NULL;
    if (known) *to++ = (uint8_t)into[known - from];
    else if (*p != 'u') return NULL;
    if (!(p = known ? p + 1 : unescape_unicode(p, end, &to))) return NULL;
  }
  return to;
}

uint8_t *put_json_text(uint8_t *p, const uint8_t *text, uint64_t size) {
  static const char digit[] = "0123456789abcdef";
  for (uint64_t i = 0; i < size; i++) {
    if (text[i] < 0x20) {
      p = put_literal(p, "\\u00");
      *p++ = (uint8_t)digit[text[i] >> 4];
      *p++ = (uint8_t)digit[text[i] & 15];
      continue;
    }
    if (text[i] == '"' || text[i] == '\\') *p++ = '\\';
    *p++ = text[i];
  }
  return p;
}
