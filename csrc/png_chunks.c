#include "png_chunks.h"

#include "kernel.h"

#include <string.h>

#define SIGNATURE "\x89PNG\r\n\x1A\n"

uint32_t fl_png_number(const uint8_t *bytes) {
    return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

bool fl_png_is_signed(const uint8_t *blob, size_t size) {
    return size >= FL_PNG_SIGNATURE_BYTES && memcmp(blob, SIGNATURE, FL_PNG_SIGNATURE_BYTES) == 0;
}

static bool is_letter(uint8_t byte) {
    return (byte >= 'A' && byte <= 'Z') || (byte >= 'a' && byte <= 'z');
}

fl_png_found fl_png_chunk_read(const uint8_t *blob, size_t size, size_t *next, fl_png_chunk *c) {
    const size_t left = size - *next;
    if (left < 8)
        return FL_PNG_BLOB_ENDS;
    const uint8_t *head = blob + *next;
    const uint32_t length = fl_png_number(head);
    for (int i = 4; i < 8; i++)
        if (!is_letter(head[i]))
            return FL_PNG_NO_CHUNK;
    if (length > FL_PNG_MOST)
        return FL_PNG_NO_CHUNK;
    c->type = fl_png_number(head + 4);
    c->data = head + 8;
    c->whole = left - 8 >= (size_t)length + 4;
    c->size = left - 8 < length ? left - 8 : length;
    *next += c->whole ? 8 + (size_t)length + 4 : left;
    return FL_PNG_CHUNK;
}

bool fl_png_chunk_is_intact(const fl_png_chunk *c) {
    return c->whole && fl_crc32(0, c->data - 4, c->size + 4) == fl_png_number(c->data + c->size);
}
