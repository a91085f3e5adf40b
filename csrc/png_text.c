/* The chunk holds a keyword and a zero; a zTXt chunk one more zero, and all that follows is a zlib
 * stream. Then come an empty line, the profile's name, its number of bytes, and the bytes in
 * hexadecimal. */
#include "png_text.h"

#include "exif.h"

#include <string.h>

#define TEXT FL_PNG_TYPE('t', 'E', 'X', 't')
#define ZTXT FL_PNG_TYPE('z', 'T', 'X', 't')

static const char keyword[] = "Raw profile type exif"; /* and a zero */

/* Text past this is not read: the EXIF directory is at the beginning, and a JPEG, from which such a
 * profile usually comes, has at most 64 KiB of EXIF data. */
#define MOST_TEXT ((size_t)136 << 10)

bool fl_png_text_is_exif(const fl_png_chunk *c) {
    return (c->type == TEXT || c->type == ZTXT) && c->size > sizeof keyword &&
           memcmp(c->data, keyword, sizeof keyword) == 0;
}

/* Returns the value of a hexadecimal digit, or 16 if `c` is none. */
static unsigned hex_digit(uint8_t c) {
    return c >= '0' && c <= '9'   ? c - (unsigned)'0'
           : c >= 'a' && c <= 'f' ? c - (unsigned)'a' + 10
           : c >= 'A' && c <= 'F' ? c - (unsigned)'A' + 10
                                  : 16;
}

/* Skips the three lines before the digits, then turns digits into bytes, in place, up to the first
 * character that is neither a digit nor a line break. Returns the number of bytes. */
static size_t decode_hex(uint8_t *text, size_t length) {
    size_t at = 0, bytes = 0;
    for (int line = 0; line < 3; line++) {
        while (at < length && text[at] != '\n')
            at++;
        at += at < length;
    }
    while (at < length) {
        if (text[at] == '\n') {
            at++;
            continue;
        }
        if (length - at < 2 || hex_digit(text[at]) > 15 || hex_digit(text[at + 1]) > 15)
            break;
        const unsigned value = hex_digit(text[at]) * 16 + hex_digit(text[at + 1]);
        text[bytes++] = (uint8_t)value;
        at += 2;
    }
    return bytes;
}

bool fl_png_text_orientation(const fl_png_chunk *c, fl_inflate *inflate, fl_memory *scratch,
                             unsigned *orientation) {
    if (!fl_memory_reserve(scratch, MOST_TEXT))
        return false;
    const uint8_t *data = c->data + sizeof keyword;
    const size_t size = c->size - sizeof keyword;
    uint8_t *text = scratch->bytes;
    size_t length = 0;
    if (c->type == TEXT) {
        length = size < MOST_TEXT ? size : MOST_TEXT;
        memcpy(text, data, length);
    } else if (data[0] == 0) {
        fl_inflate_start(inflate);
        fl_inflate_feed(inflate, data + 1, size - 1);
        fl_inflate_read(inflate, text, MOST_TEXT, &length); /* what a broken stream gives, too */
    }
    *orientation = fl_exif_orientation(text, decode_hex(text, length));
    return true;
}
