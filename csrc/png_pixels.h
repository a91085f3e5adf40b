/* What a row of a PNG means: its samples to red, green, blue, alpha. */
#ifndef FL_PNG_PIXELS_H
#define FL_PNG_PIXELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    FL_PNG_GREY = 0,
    FL_PNG_RGB = 2,
    FL_PNG_PALETTE = 3,
    FL_PNG_GREY_ALPHA = 4,
    FL_PNG_RGBA = 6
};

typedef struct {
    uint8_t depth, colour; /* as in IHDR */
    uint32_t pixel_bits;
    bool alpha;   /* the fourth byte of a pixel means something */
    bool has_key; /* pixels of just this colour are transparent */
    uint16_t key[3];
    uint8_t table[256][4]; /* of pixels of 8 bits and less */
} fl_png_pixels;

/* False where PNG does not have such pixels. No key, and a palette that is all black. */
bool fl_png_pixels_set(fl_png_pixels *pixels, uint8_t depth, uint8_t colour);

/* PLTE's contents. False where there are no whole colours in it, or too many. */
bool fl_png_pixels_palette(fl_png_pixels *pixels, const uint8_t *colours, size_t size);

/* tRNS's contents; ignored where they do not fit. */
void fl_png_pixels_transparency(fl_png_pixels *pixels, const uint8_t *values, size_t size);

/* Pixels left to right - 1 of a row. Without pixels->alpha the fourth byte is arbitrary. One byte
 * past the row's end may be read. */
void fl_png_pixels_rgba(const fl_png_pixels *pixels, const uint8_t *row, size_t left, size_t right,
                        uint8_t *rgba);

#endif
