/* Reads an array of numbers in the form in which a database sends it. */
#ifndef FL_ARRAYS_H
#define FL_ARRAYS_H

#include <stddef.h>
#include <stdint.h>

#define FL_MOST_DIMENSIONS 6 /* PostgreSQL's MAXDIM */

typedef enum {
    FL_PG_ARRAY, /* PostgreSQL's array_send(): big-endian 32-bit numbers are the number of
                  * dimensions, flags, the OID of the elements' type; then size and lower bound of
                  * each dimension; then size and bytes of each element, size -1 for NULL. An array
                  * without elements has no dimensions. */
    FL_PG_VECTOR /* pgvector's vector_send(), halfvec_send(): the number of elements and an unused
                  * number, both 16 bits; then the elements; all big-endian */
} fl_array_form;

/* What a blob has to hold. */
typedef struct {
    fl_array_form form;
    uint32_t width;      /* bytes of an element: 1 (a bool), 2, 4 or 8 */
    uint32_t element;    /* FL_PG_ARRAY: the OID of the elements' type */
    uint32_t dimensions; /* at most FL_MOST_DIMENSIONS */
    size_t shape[FL_MOST_DIMENSIONS];
} fl_array;

typedef enum {
    FL_ARRAY_READ = 0,
    FL_ARRAY_NULL, /* there is no blob; fl_array_read() does not return it */
    FL_ARRAY_HAS_NULL,
    FL_ARRAY_OTHER_SHAPE,
    FL_ARRAY_BROKEN /* the blob is not of this form, or of other elements */
} fl_array_status;

/* Writes the elements to `target` in this machine's byte order, a bool as 0 or 1. `target` has room
 * for the elements of the shape, whose size in bytes fits size_t. If the status is another than
 * FL_ARRAY_READ, what is there has no meaning. */
fl_array_status fl_array_read(const fl_array *wanted, const uint8_t *blob, size_t size,
                              void *target);

/* Finds the size of the first dimension, whatever `wanted->shape[0]` is; 0 for an array without
 * elements. The others have to be as wanted. If the status is FL_ARRAY_READ, fl_array_read() of the
 * same blob with this shape[0] can only find that it is FL_ARRAY_BROKEN. */
fl_array_status fl_array_length(const fl_array *wanted, const uint8_t *blob, size_t size,
                                size_t *length);

#endif
