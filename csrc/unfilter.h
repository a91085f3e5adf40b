/* PNG's five row filters, undone. */
#ifndef FL_UNFILTER_H
#define FL_UNFILTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* All three rows of fl_unfilter() may be read, and the last one written, this far past their end.
 */
#define FL_UNFILTER_SLACK 16

/* Undoes filter 0 to 4 on `size` bytes at `from`, where a pixel takes pixel_bytes (1 to 8, and 1
 * where it takes less). `above` is the row before, all zero for the first one. The rows do not
 * overlap. */
void fl_unfilter(unsigned filter, size_t pixel_bytes, size_t size, const uint8_t *from,
                 const uint8_t *above, uint8_t *to, bool portable);

#endif
