/* Reads the chunks that a PNG file consists of. */
#ifndef FL_PNG_CHUNKS_H
#define FL_PNG_CHUNKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FL_PNG_SIGNATURE_BYTES 8
#define FL_PNG_MOST ((uint32_t)0x7FFFFFFF) /* of a length or a dimension */

#define FL_PNG_TYPE(a, b, c, d)                                                                    \
    ((uint32_t)(a) << 24 | (uint32_t)(b) << 16 | (uint32_t)(c) << 8 | (uint32_t)(d))

#define FL_PNG_IDAT FL_PNG_TYPE('I', 'D', 'A', 'T')

typedef struct {
    uint32_t type;
    const uint8_t *data; /* borrowed from the blob */
    size_t size;         /* as far as the blob has the data */
    bool whole;          /* the blob has all of the data, and the checksum */
} fl_png_chunk;

typedef enum { FL_PNG_CHUNK = 0, FL_PNG_NO_CHUNK, FL_PNG_BLOB_ENDS } fl_png_found;

/* Returns the big-endian number in four bytes. */
uint32_t fl_png_number(const uint8_t *bytes);

/* Returns whether the blob starts with PNG's signature. */
bool fl_png_is_signed(const uint8_t *blob, size_t size);

/* Reads the chunk at *next, which is at most `size`, and moves *next behind it. Does not check the
 * checksum. Unless it returns FL_PNG_CHUNK, *c and *next are left alone. */
fl_png_found fl_png_chunk_read(const uint8_t *blob, size_t size, size_t *next, fl_png_chunk *c);

/* Returns whether the chunk is whole and its checksum right. */
bool fl_png_chunk_is_intact(const fl_png_chunk *c);

#endif
