/* Undoes the five row filters of PNG. */
#ifndef FL_UNFILTER_H
#define FL_UNFILTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* fl_unfilter() may read all three rows this far past their end, and write the last one. */
#define FL_UNFILTER_SLACK 16

/* Undoes filter 0 to 4 on the `size` bytes at `from` and writes them to `to`. A pixel takes
 * pixel_bytes: 1 to 8, or 1 if it is smaller than a byte. `above` is the row before, all zero for
 * the first one. The rows must not overlap. */
void fl_unfilter(unsigned filter, size_t pixel_bytes, size_t size, const uint8_t *from,
                 const uint8_t *above, uint8_t *to, bool portable);

#endif
