/* The two inner loops of the resize, in a portable and an AVX2 version that give the same bytes:
 * both add the same integers, and integer addition does not mind the order. */
#ifndef FL_PASSES_H
#define FL_PASSES_H

#include <stdbool.h>
#include <stdint.h>

/* Samples between the passes are int16_t with this many bits behind the point. 255 << 7 is the
 * most that fits, and rounding to them costs 1/256 of a level where 8 bits would cost 1/2. */
#define FL_FRACTION_BITS 7

/* The largest filter precisions whose sums stay below 2^31, rounding included. */
#define FL_VERTICAL_PRECISION 22
#define FL_HORIZONTAL_PRECISION 16

/* Rows hold four bytes a pixel, red, green, blue and one that nobody reads: libjpeg-turbo writes
 * them 9 % faster than three (1.05 against 1.15 ms for 500x375, 4:4:4), and the horizontal pass
 * finds two pixels in 16 bytes of int16_t. */
#define FL_ROW_CHANNELS 4

/* Both versions of a pass may read and write this many samples past the end of a row. */
#define FL_ROW_SLACK 32

typedef struct {
    const char *name;
    /* out[x] = sum over t < taps of weight[t] * rows[t][x], for x < size, 2^precision being one.
     * taps is even. Rounds half up. */
    void (*vertical)(const uint8_t *const *rows, const int16_t *weight, uint32_t taps,
                     int precision, uint32_t size, int16_t *out);
    /* For both rows r: pixels[r][3 * x + c] = sum over t < taps of weight[x * taps + t] *
     * rows[r][4 * (first[x] + t) + c], for x < width and c < 3. taps is even. Rounds half up. */
    void (*horizontal)(const int16_t *const rows[2], const uint32_t *first, const int16_t *weight,
                       uint32_t taps, int precision, uint32_t width, uint8_t *const pixels[2]);
} fl_passes;

const fl_passes *fl_passes_pick(bool portable);

#endif
