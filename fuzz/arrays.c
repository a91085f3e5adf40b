/* The body of the fuzzer for arrays: reads one array, whose shape and elements are anything, from
 * bytes that somebody made up.
 *
 * The first bytes choose what is wanted; the rest is the blob. See fuzz.c. */
#include "arrays.h"
#include "utf8.h"

#include <stdlib.h>
#include <string.h>

#define CHOICES 8

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Reads an array whose first dimension may be any, into exactly the room that it asks for. */
static void read_ragged(fl_array wanted, const uint8_t *blob, size_t size) {
    size_t length = 0, bytes = wanted.width;
    if (wanted.dimensions == 0 || fl_array_length(&wanted, blob, size, &length) != FL_ARRAY_READ)
        return;
    wanted.shape[0] = length;
    for (uint32_t i = 0; i < wanted.dimensions; i++)
        bytes *= wanted.shape[i];
    if (bytes > size) /* elements are not larger than the blob that they are in */
        abort();
    uint8_t *target = malloc(bytes ? bytes : 1);
    if (!target)
        abort();
    const fl_array_status status = fl_array_read(&wanted, blob, size, target);
    if (status != FL_ARRAY_READ && status != FL_ARRAY_BROKEN)
        abort();
    free(target);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < CHOICES)
        return 0;
    const uint8_t *blob = data + CHOICES;
    size -= CHOICES;
    fl_array wanted = {
        .form = data[0] & 1 ? FL_PG_VECTOR : FL_PG_ARRAY,
        .width = 1u << (data[0] >> 1) % 4,
        .element = 1,
        .dimensions = data[1] % (FL_MOST_DIMENSIONS + 1),
    };
    size_t bytes = wanted.width;
    for (uint32_t i = 0; i < wanted.dimensions; i++) {
        wanted.shape[i] = data[2 + i] % 8;
        /* Half of the time, what the blob itself says, or no shape would ever be the same. */
        if (data[0] & 8 && size >= 20 + 8 * (size_t)i)
            wanted.shape[i] = blob[15 + 8 * i] % 8;
        bytes *= wanted.shape[i];
    }
    /* Exactly as large as they have to be, so that a sanitizer sees an access past the end. */
    uint8_t *copy = malloc(size ? size : 1), *target = malloc(bytes ? bytes : 1);
    uint8_t *again = malloc(bytes ? bytes : 1);
    if (!copy || !target || !again)
        abort();
    memcpy(copy, blob, size);
    memset(target, 1, bytes);
    memset(again, 2, bytes);
    const fl_array_status status = fl_array_read(&wanted, copy, size, target);
    if (fl_array_read(&wanted, copy, size, again) != status)
        abort();
    /* Every byte of the target was written. */
    if (status == FL_ARRAY_READ && memcmp(target, again, bytes) != 0)
        abort();
    free(again);
    free(target);
    read_ragged(wanted, copy, size);
    if (fl_is_utf8(copy, size) && size > 0 && copy[0] == 0xFF)
        abort();
    free(copy);
    return 0;
}
