#include "png_pixels.h"

#include <string.h>

bool fl_png_pixels_set(fl_png_pixels *p, uint8_t depth, uint8_t colour) {
    static const uint8_t samples[7] = {1, 0, 3, 1, 2, 0, 4};
    const bool power = depth == 1 || depth == 2 || depth == 4 || depth == 8 || depth == 16;
    if (!power || colour > 6 || samples[colour] == 0 || (colour == FL_PNG_PALETTE && depth == 16) ||
        (colour != FL_PNG_GREY && colour != FL_PNG_PALETTE && depth < 8))
        return false;
    memset(p, 0, sizeof *p);
    p->depth = depth;
    p->colour = colour;
    p->pixel_bits = (uint32_t)samples[colour] * depth;
    p->alpha = colour == FL_PNG_GREY_ALPHA || colour == FL_PNG_RGBA;
    for (uint32_t i = 0; i < 256; i++) {
        const uint32_t most = depth < 8 ? (1u << depth) - 1 : 255;
        memset(p->table[i], colour == FL_PNG_GREY ? (int)((i & most) * 255 / most) : 0, 3);
        p->table[i][3] = 255;
    }
    return true;
}

bool fl_png_pixels_palette(fl_png_pixels *p, const uint8_t *colours, size_t size) {
    if (size == 0 || size % 3 != 0 || size > 256 * 3)
        return false;
    if (p->colour == FL_PNG_PALETTE)
        for (size_t i = 0; i < size / 3; i++)
            memcpy(p->table[i], colours + 3 * i, 3);
    return true;
}

void fl_png_pixels_transparency(fl_png_pixels *p, const uint8_t *values, size_t size) {
    const size_t samples = p->colour == FL_PNG_RGB ? 3 : 1;
    if (p->colour == FL_PNG_PALETTE) {
        for (size_t i = 0; i < size && i < 256; i++)
            p->table[i][3] = values[i];
    } else if ((p->colour == FL_PNG_GREY || p->colour == FL_PNG_RGB) && size >= 2 * samples) {
        for (size_t i = 0; i < samples; i++)
            p->key[i] =
                (uint16_t)((values[2 * i] << 8 | values[2 * i + 1]) & ((1 << p->depth) - 1));
        if (p->colour == FL_PNG_GREY && p->depth <= 8)
            p->table[p->key[0]][3] = 0;
        p->has_key = true;
    } else {
        return;
    }
    p->alpha = true;
}

/* ---- rows ------------------------------------------------------------------------------------ */

static uint16_t sample16(const uint8_t *bytes) { return (uint16_t)(bytes[0] << 8 | bytes[1]); }

/* round(v / 257), exactly */
static uint8_t to8(uint32_t v) { return (uint8_t)((v * 255 + 32895) >> 16); }

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

/* Samples of 16 bits, and those of 8 that need more than moving: one or three of colour, with alpha
 * or not. `spread` is 1 where each channel has its own, 0 where grey is all three. */
static void from_samples(const fl_png_pixels *p, const uint8_t *row, size_t left, size_t right,
                         uint8_t *rgba) {
    const bool wide = p->depth == 16;
    const size_t bytes = wide ? 2 : 1, pixel = p->pixel_bits / 8;
    const size_t spread = p->colour == FL_PNG_RGB || p->colour == FL_PNG_RGBA ? bytes : 0;
    const bool alpha = p->colour == FL_PNG_GREY_ALPHA || p->colour == FL_PNG_RGBA;
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
    } else if (p->depth == 8 && p->colour == FL_PNG_RGBA) {
        memcpy(rgba, row + 4 * left, 4 * (right - left));
    } else if (p->depth == 8 && p->colour == FL_PNG_RGB && !p->has_key) {
        for (size_t x = left; x < right; x++, rgba += 4)
            memcpy(rgba, row + 3 * x, 4);
    } else {
        from_samples(p, row, left, right, rgba);
    }
}
