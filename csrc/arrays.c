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

static fl_array_status read_pg_array(const fl_array *wanted, const uint8_t *blob, size_t size,
                                     uint8_t *target) {
    if (size < 12)
        return FL_ARRAY_BROKEN;
    const uint32_t dimensions = get32(blob);
    if (dimensions > FL_MOST_DIMENSIONS || get32(blob + 8) != wanted->element)
        return FL_ARRAY_BROKEN;
    const size_t start = 12 + 8 * (size_t)dimensions;
    if (size < start)
        return FL_ARRAY_BROKEN;
    bool same = dimensions == wanted->dimensions;
    size_t count = 1;
    for (uint32_t i = 0; i < dimensions; i++) {
        const uint32_t length = get32(blob + 12 + 8 * i);
        same = same && length == wanted->shape[i];
        if (length > 0 && count > size / length) /* an element takes at least 4 bytes */
            return FL_ARRAY_BROKEN;
        count *= length;
    }
    if (dimensions == 0) {
        for (uint32_t i = 0; i < wanted->dimensions; i++)
            if (wanted->shape[i] == 0)
                return FL_ARRAY_READ;
        return FL_ARRAY_OTHER_SHAPE;
    }
    if (size - start != count * (4 + wanted->width)) /* a NULL has no bytes */
        return get32(blob + 4) == 1 ? FL_ARRAY_HAS_NULL : FL_ARRAY_BROKEN;
    if (!same)
        return FL_ARRAY_OTHER_SHAPE;
    return put_elements(target, blob + start, count, wanted->width, true) ? FL_ARRAY_READ
                                                                          : FL_ARRAY_BROKEN;
}

static fl_array_status read_pg_vector(const fl_array *wanted, const uint8_t *blob, size_t size,
                                      uint8_t *target) {
    if (size < 4)
        return FL_ARRAY_BROKEN;
    const size_t count = get16(blob);
    if (size - 4 != count * wanted->width)
        return FL_ARRAY_BROKEN;
    if (wanted->dimensions != 1 || wanted->shape[0] != count)
        return FL_ARRAY_OTHER_SHAPE;
    put_elements(target, blob + 4, count, wanted->width, false);
    return FL_ARRAY_READ;
}

fl_array_status fl_array_read(const fl_array *wanted, const uint8_t *blob, size_t size,
                              void *target) {
    return wanted->form == FL_PG_ARRAY ? read_pg_array(wanted, blob, size, target)
                                       : read_pg_vector(wanted, blob, size, target);
}
