/* The two inner loops of the resize, in portable, AVX2 and NEON versions that give the same bytes:
 * all add the same integers, and integer addition does not mind the order. */
#ifndef FL_PASSES_H
#define FL_PASSES_H

#include <stdbool.h>
#include <stdint.h>

/* Samples between the passes are int16_t with so many bits behind the point. 255 << 7 is the most
 * that fits, and rounding to them costs 1/256 of a level where 8 bits would cost 1/2. Filters with
 * negative weights need room for sums outside 0 to 255 (at most twice as far: saturated). */
#define FL_FRACTION_BITS 7
#define FL_FRACTION_BITS_OVERSHOOT 6

/* The largest filter precisions whose sums stay below 2^31, rounding included. */
#define FL_VERTICAL_PRECISION 22
#define FL_HORIZONTAL_PRECISION 16
#define FL_VERTICAL_PRECISION_OVERSHOOT 21
#define FL_HORIZONTAL_PRECISION_OVERSHOOT 15

/* Rows of three channels hold four bytes a pixel, red, green, blue and one that nobody reads:
 * libjpeg-turbo writes them 9 % faster than three (1.05 against 1.15 ms for 500x375, 4:4:4), and
 * the horizontal pass finds two pixels in 16 bytes of int16_t. */
#define FL_ROW_CHANNELS(channels) ((channels) == 3 ? 4u : 1u)

/* Both versions of a pass may read and write this many samples past the end of a row, and read
 * pixels past it that have no weight, one fewer than the filter has taps. */
#define FL_ROW_SLACK 32

/* `first` is counted from a pixel that need not be the row's first, which is number `origin`. */
typedef struct {
    const uint32_t *first;
    const int16_t *weight; /* [width * taps] */
    uint32_t taps, origin, width;
    int shift; /* the filter's precision and the fraction bits */
} fl_horizontal;

typedef struct {
    const char *name;
    /* out[x] = sum over t < taps of weight[t] * rows[t][x], for x < size, shifted by `shift` and
     * saturated. taps is even. Rounds half up. */
    void (*vertical)(const uint8_t *const *rows, const int16_t *weight, uint32_t taps, int shift,
                     uint32_t size, int16_t *out);
    /* For both rows r: pixels[r][3 * x + c] = sum over t < taps of weight[x * taps + t] *
     * rows[r][4 * (first[x] + t) + c], for x < width and c < 3. taps is even. Rounds half up. */
    void (*horizontal3)(const int16_t *const rows[2], const fl_horizontal *h,
                        uint8_t *const pixels[2]);
    /* The same for rows of one channel. */
    void (*horizontal1)(const int16_t *const rows[2], const fl_horizontal *h,
                        uint8_t *const pixels[2]);
} fl_passes;

const fl_passes *fl_passes_pick(bool portable);

#endif
