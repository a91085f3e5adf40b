/* Converts the samples of a PNG's row to red, green, blue, alpha. */
#ifndef FL_PNG_PIXELS_H
#define FL_PNG_PIXELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    FL_PNG_GRAY = 0,
    FL_PNG_RGB = 2,
    FL_PNG_PALETTE = 3,
    FL_PNG_GRAY_ALPHA = 4,
    FL_PNG_RGBA = 6
};

typedef struct {
    uint8_t depth, color; /* as in IHDR */
    uint32_t pixel_bits;
    bool alpha;   /* the fourth byte of a pixel is alpha; otherwise it is arbitrary */
    bool has_key; /* pixels of exactly the color `key` are transparent */
    uint16_t key[3];
    uint8_t table[256][4]; /* RGBA of a pixel of up to 8 bits */
} fl_png_pixels;

/* Sets the format, without a key and with a palette that is all black. Returns false if PNG has no
 * such pixels. */
bool fl_png_pixels_set(fl_png_pixels *pixels, uint8_t depth, uint8_t color);

/* Takes the contents of PLTE. Returns false unless they are 1 to 256 whole colors. */
bool fl_png_pixels_palette(fl_png_pixels *pixels, const uint8_t *colors, size_t size);

/* Takes the contents of tRNS; ignores them if they do not fit the format. */
void fl_png_pixels_transparency(fl_png_pixels *pixels, const uint8_t *values, size_t size);

/* Converts pixels left to right - 1 of a row. Without pixels->alpha the fourth byte is arbitrary.
 * May read one byte past the end of the row. */
void fl_png_pixels_rgba(const fl_png_pixels *pixels, const uint8_t *row, size_t left, size_t right,
                        uint8_t *rgba);

#endif
