#include "arrays.h"

#include <stdbool.h>
#include <string.h>

/* memcpy() because neither a blob nor a target is aligned; compilers make one instruction of it. */

static inline uint16_t get16(const uint8_t *at) { return (uint16_t)(at[0] << 8 | at[1]); }

static inline uint32_t get32(const uint8_t *at) {
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static inline uint64_t get64(const uint8_t *at) {
    return (uint64_t)get32(at) << 32 | get32(at + 4);
}

/* Converts one element of `width` bytes. */
static inline void put_element(uint8_t *to, const uint8_t *at, uint32_t width) {
    if (width == 1) {
        *to = *at != 0;
    } else if (width == 2) {
        const uint16_t value = get16(at);
        memcpy(to, &value, sizeof value);
    } else if (width == 4) {
        const uint32_t value = get32(at);
        memcpy(to, &value, sizeof value);
    } else {
        const uint64_t value = get64(at);
        memcpy(to, &value, sizeof value);
    }
}

/* Converts `count` elements, each behind its size if `sized`. Returns whether all sizes are the
 * width. Callers pass constants, so that each kind of element gets a loop of its own. */
static inline bool put_all(uint8_t *restrict to, const uint8_t *restrict at, size_t count,
                           uint32_t width, bool sized) {
    const size_t step = width + (sized ? 4 : 0);
    uint32_t wrong = 0;
    for (size_t i = 0; i < count; i++, at += step, to += width) {
        if (sized)
            wrong |= get32(at) ^ width;
        put_element(to, at + step - width, width);
    }
    return wrong == 0;
}

static bool put_elements(uint8_t *to, const uint8_t *at, size_t count, uint32_t width, bool sized) {
    switch (width) {
    case 1:
        return sized ? put_all(to, at, count, 1, true) : put_all(to, at, count, 1, false);
    case 2:
        return sized ? put_all(to, at, count, 2, true) : put_all(to, at, count, 2, false);
    case 4:
        return sized ? put_all(to, at, count, 4, true) : put_all(to, at, count, 4, false);
    default:
        return sized ? put_all(to, at, count, 8, true) : put_all(to, at, count, 8, false);
    }
}

/* Checks all but the sizes of the elements. Sets the first dimension, which may be any, and the
 * number of elements, which are at the end of the blob. */
static fl_array_status parse_pg_array(const fl_array *wanted, const uint8_t *blob, size_t size,
                                      size_t *length, size_t *count) {
    if (size < 12)
        return FL_ARRAY_BROKEN;
    const uint32_t dimensions = get32(blob);
    if (dimensions > FL_MOST_DIMENSIONS || get32(blob + 8) != wanted->element)
        return FL_ARRAY_BROKEN;
    const size_t start = 12 + 8 * (size_t)dimensions;
    if (size < start)
        return FL_ARRAY_BROKEN;
    bool same = dimensions == wanted->dimensions || dimensions == 0;
    *length = *count = dimensions == 0 ? 0 : 1;
    for (uint32_t i = 0; i < dimensions; i++) {
        const uint32_t its = get32(blob + 12 + 8 * i);
        if (i == 0)
            *length = its;
        else
            same = same && its == wanted->shape[i];
        if (its > 0 && *count > size / its) /* an element takes at least 4 bytes */
            return FL_ARRAY_BROKEN;
        *count *= its;
    }
    if (size - start != *count * (4 + wanted->width)) /* a NULL has no bytes */
        return get32(blob + 4) == 1 ? FL_ARRAY_HAS_NULL : FL_ARRAY_BROKEN;
    return same ? FL_ARRAY_READ : FL_ARRAY_OTHER_SHAPE;
}

static fl_array_status parse_pg_vector(const fl_array *wanted, const uint8_t *blob, size_t size,
                                       size_t *count) {
    if (size < 4)
        return FL_ARRAY_BROKEN;
    *count = get16(blob);
    if (size - 4 != *count * wanted->width)
        return FL_ARRAY_BROKEN;
    return wanted->dimensions == 1 ? FL_ARRAY_READ : FL_ARRAY_OTHER_SHAPE;
}

fl_array_status fl_array_length(const fl_array *wanted, const uint8_t *blob, size_t size,
                                size_t *length) {
    size_t count;
    return wanted->form == FL_PG_ARRAY ? parse_pg_array(wanted, blob, size, length, &count)
                                       : parse_pg_vector(wanted, blob, size, length);
}

fl_array_status fl_array_read(const fl_array *wanted, const uint8_t *blob, size_t size,
                              void *target) {
    const bool sized = wanted->form == FL_PG_ARRAY;
    size_t length = 0, count = 0;
    fl_array_status status;
    if (sized) {
        status = parse_pg_array(wanted, blob, size, &length, &count);
    } else {
        status = parse_pg_vector(wanted, blob, size, &count);
        length = count;
    }
    if (status != FL_ARRAY_READ)
        return status;
    if (length != wanted->shape[0])
        return FL_ARRAY_OTHER_SHAPE;
    const uint8_t *elements = blob + size - count * (wanted->width + (sized ? 4 : 0));
    return put_elements(target, elements, count, wanted->width, sized) ? FL_ARRAY_READ
                                                                       : FL_ARRAY_BROKEN;
}
