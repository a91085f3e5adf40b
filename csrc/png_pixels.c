#include "png_pixels.h"

#include <string.h>

bool fl_png_pixels_set(fl_png_pixels *p, uint8_t depth, uint8_t color) {
    static const uint8_t samples[7] = {1, 0, 3, 1, 2, 0, 4};
    const bool power = depth == 1 || depth == 2 || depth == 4 || depth == 8 || depth == 16;
    if (!power || color > 6 || samples[color] == 0 || (color == FL_PNG_PALETTE && depth == 16) ||
        (color != FL_PNG_GRAY && color != FL_PNG_PALETTE && depth < 8))
        return false;
    memset(p, 0, sizeof *p);
    p->depth = depth;
    p->color = color;
    p->pixel_bits = (uint32_t)samples[color] * depth;
    p->alpha = color == FL_PNG_GRAY_ALPHA || color == FL_PNG_RGBA;
    for (uint32_t i = 0; i < 256; i++) {
        const uint32_t most = depth < 8 ? (1u << depth) - 1 : 255;
        memset(p->table[i], color == FL_PNG_GRAY ? (int)((i & most) * 255 / most) : 0, 3);
        p->table[i][3] = 255;
    }
    return true;
}

bool fl_png_pixels_palette(fl_png_pixels *p, const uint8_t *colors, size_t size) {
    if (size == 0 || size % 3 != 0 || size > 256 * 3)
        return false;
    if (p->color == FL_PNG_PALETTE)
        for (size_t i = 0; i < size / 3; i++)
            memcpy(p->table[i], colors + 3 * i, 3);
    return true;
}

void fl_png_pixels_transparency(fl_png_pixels *p, const uint8_t *values, size_t size) {
    const size_t samples = p->color == FL_PNG_RGB ? 3 : 1;
    if (p->color == FL_PNG_PALETTE) {
        for (size_t i = 0; i < size && i < 256; i++)
            p->table[i][3] = values[i];
    } else if ((p->color == FL_PNG_GRAY || p->color == FL_PNG_RGB) && size >= 2 * samples) {
        for (size_t i = 0; i < samples; i++)
            p->key[i] =
                (uint16_t)((values[2 * i] << 8 | values[2 * i + 1]) & ((1 << p->depth) - 1));
        if (p->color == FL_PNG_GRAY && p->depth <= 8)
            p->table[p->key[0]][3] = 0;
        p->has_key = true;
    } else {
        return;
    }
    p->alpha = true;
}

/* ---- rows ------------------------------------------------------------------------------------ */

/* Returns the big-endian sample in two bytes. */
static uint16_t sample16(const uint8_t *bytes) { return (uint16_t)(bytes[0] << 8 | bytes[1]); }

/* Returns round(v / 257), exactly: 16 bits to 8. */
static uint8_t to8(uint32_t v) { return (uint8_t)((v * 255 + 32895) >> 16); }

/* Converts pixels of up to 8 bits. */
static void from_table(const fl_png_pixels *p, const uint8_t *row, size_t left, size_t right,
                       uint8_t *rgba) {
    const size_t depth = p->depth;
    if (depth == 8) {
        for (size_t x = left; x < right; x++, rgba += 4)
            memcpy(rgba, p->table[row[x]], 4);
        return;
    }
    const uint32_t mask = (1u << depth) - 1;
    for (size_t x = left; x < right; x++, rgba += 4) {
        const size_t bit = x * depth;
        memcpy(rgba, p->table[row[bit / 8] >> (8 - depth - bit % 8) & mask], 4);
    }
}

/* Converts pixels with samples of 16 bits, and those of 8 that need more than a copy: one or three
 * samples of color, with or without alpha. */
static void from_samples(const fl_png_pixels *p, const uint8_t *row, size_t left, size_t right,
                         uint8_t *rgba) {
    const bool wide = p->depth == 16;
    const size_t bytes = wide ? 2 : 1, pixel = p->pixel_bits / 8;
    /* the distance of the three channels in a pixel; 0: gray is all three */
    const size_t spread = p->color == FL_PNG_RGB || p->color == FL_PNG_RGBA ? bytes : 0;
    const bool alpha = p->color == FL_PNG_GRAY_ALPHA || p->color == FL_PNG_RGBA;
    const uint8_t *from = row + left * pixel;
    for (size_t x = left; x < right; x++, from += pixel, rgba += 4) {
        bool is_key = p->has_key;
        for (size_t c = 0; c < 3; c++) {
            const uint8_t *sample = from + c * spread;
            const uint16_t value = wide ? sample16(sample) : *sample;
            is_key = is_key && value == p->key[spread ? c : 0];
            rgba[c] = wide ? to8(value) : (uint8_t)value;
        }
        const uint8_t *last = from + pixel - bytes;
        rgba[3] = alpha ? (wide ? to8(sample16(last)) : *last) : is_key ? 0 : 255;
    }
}

void fl_png_pixels_rgba(const fl_png_pixels *p, const uint8_t *row, size_t left, size_t right,
                        uint8_t *rgba) {
    if (p->pixel_bits <= 8) {
        from_table(p, row, left, right, rgba);
    } else if (p->depth == 8 && p->color == FL_PNG_RGBA) {
        memcpy(rgba, row + 4 * left, 4 * (right - left));
    } else if (p->depth == 8 && p->color == FL_PNG_RGB && !p->has_key) {
        for (size_t x = left; x < right; x++, rgba += 4)
            memcpy(rgba, row + 3 * x, 4);
    } else {
        from_samples(p, row, left, right, rgba);
    }
}
