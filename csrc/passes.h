/* The two inner loops of the resize, in portable, AVX2 and NEON versions. All give the same bytes:
 * they add the same integers, in another order. */
#ifndef FL_PASSES_H
#define FL_PASSES_H

#include <stdbool.h>
#include <stdint.h>

/* Samples between the passes are int16_t with this many bits after the point. 255 << 7 is the
 * largest that fits, and rounding to 7 bits costs 1/256 of a level where rounding to 8-bit levels
 * would cost 1/2. Filters with negative weights need room for sums outside 0 to 255, at most twice
 * as far; they are saturated. */
#define FL_FRACTION_BITS 7
#define FL_FRACTION_BITS_OVERSHOOT 6

/* The largest filter precisions whose sums stay below 2^31, including the half that rounds. */
#define FL_VERTICAL_PRECISION 22
#define FL_HORIZONTAL_PRECISION 16
#define FL_VERTICAL_PRECISION_OVERSHOOT 21
#define FL_HORIZONTAL_PRECISION_OVERSHOOT 15

/* Rows of three channels hold four bytes for each pixel: red, green, blue and one that nobody
 * reads. libjpeg-turbo writes four bytes 9 % faster than three (500x375, 4:4:4), and the horizontal
 * pass finds two pixels in 16 bytes of int16_t. */
#define FL_ROW_CHANNELS(channels) ((channels) == 3 ? 4u : 1u)

/* Every version of a pass may read and write this many samples past the end of a row. It may also
 * read pixels past the end that have no weight, one fewer than the filter has taps. */
#define FL_ROW_SLACK 32

/* The horizontal filter. The row starts with pixel number `origin`; `first` counts from pixel 0. */
typedef struct {
    const uint32_t *first;
    const int16_t *weight; /* [width * taps] */
    uint32_t taps, origin, width;
    int shift; /* the sum of the filter's precision and the fraction bits */
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
    /* As horizontal3, for rows of one channel. */
    void (*horizontal1)(const int16_t *const rows[2], const fl_horizontal *h,
                        uint8_t *const pixels[2]);
} fl_passes;

/* Returns the fastest version for this processor, or the portable one. It is static. */
const fl_passes *fl_passes_pick(bool portable);

#endif
