/* Stores the numbers of a database in the type that a batch holds. */
#ifndef FL_NUMBERS_H
#define FL_NUMBERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What a value is; fastloader/fields/values.py has the others. */
enum { FL_INTEGER = 1, FL_REAL = 2 };

typedef enum {
    FL_NUMBER_BOOL,
    FL_NUMBER_INT8,
    FL_NUMBER_INT16,
    FL_NUMBER_INT32,
    FL_NUMBER_INT64,
    FL_NUMBER_UINT8,
    FL_NUMBER_UINT16,
    FL_NUMBER_UINT32,
    FL_NUMBER_UINT64,
    FL_NUMBER_FLOAT16,
    FL_NUMBER_FLOAT32,
    FL_NUMBER_FLOAT64
} fl_number;

/* Stores n values in `target`, which is aligned for the type, and in `fits` whether each has kept
 * its value. An integer has to be the same; a float may be rounded to a float, half to even, but
 * not made infinite. Values of other kinds do not fit. Where one does not fit, the target has no
 * meaning. Returns how many do not fit.
 *
 * `numbers` has the integer for FL_INTEGER, and the bits of a double for FL_REAL. */
size_t fl_numbers_store(fl_number type, const uint8_t *kinds, const int64_t *numbers, size_t n,
                        void *target, uint8_t *fits);

#endif
