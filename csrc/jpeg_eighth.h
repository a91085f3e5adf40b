/* Decodes a JPEG at an eighth of its size, from the constant coefficient of every block.
 *
 * libjpeg can do this too, but it decodes all other coefficients on the way to the next block, and
 * keeps all of them in memory if the image is progressive. */
#ifndef FL_JPEG_EIGHTH_H
#define FL_JPEG_EIGHTH_H

#include "huffman.h"
#include "memory.h"
#include "sink.h"

#include <stdio.h>

#include <jpeglib.h>

#define FL_EIGHTH_COMPONENTS 3
#define FL_EIGHTH_TABLES 4

/* With 4:2:0, an MCU has 2 x 2 luma blocks of one sample each, and one block of 2 x 2 samples for
 * each chroma component. */
typedef struct {
    uint32_t id;
    uint32_t across, down;  /* sampling factors: blocks in an MCU */
    uint32_t columns, rows; /* samples of a block */
    const uint16_t *quanta; /* borrowed from libjpeg, in natural order */
    uint8_t *samples;       /* rows of fl_eighth.stride bytes, in fl_eighth.samples */
    bool read;
    const fl_huffman *dc, *ac; /* of the current scan, as all below; ac: NULL if it has none */
    uint32_t shift;            /* low bits that the scan leaves out */
    uint16_t constant;         /* of the previous block */
} fl_eighth_component;

/* A table of a DHT segment; `counts` is NULL before there is one. `huffman` is built only when a
 * scan asks for it, so that a blob full of DHT segments takes no longer than its bytes. */
typedef struct {
    const uint8_t *counts, *symbols; /* borrowed from the blob, or from libjpeg */
    size_t size;                     /* of the symbols */
    bool is_set;
    fl_huffman huffman;
} fl_eighth_table;

typedef struct {
    bool progressive;
    uint32_t width, interval; /* interval: MCUs between restarts, or 0 */
    fl_eighth_component component[FL_EIGHTH_COMPONENTS];
    uint32_t components, to_read;
    size_t stride;
    fl_memory samples;
    fl_bits bits;
    fl_eighth_table tables[2][FL_EIGHTH_TABLES]; /* of DC, of AC coefficients */
} fl_eighth;

/* Decodes the blob after jpeg_read_header() and leaves cinfo as it is. Returns FL_OK, FL_NO_MEMORY,
 * or FL_UNSUPPORTED if the image is damaged, ends early, or is of a kind that is not read here. The
 * caller then continues with libjpeg, as if this had not been called, which tells these cases
 * apart. */
fl_status fl_eighth_decode(fl_eighth *e, const struct jpeg_decompress_struct *cinfo,
                           const uint8_t *blob, size_t size, const fl_view *view, fl_sink *sink,
                           void *output);

/* The part of it that fills fl_eighth_component.samples, for the rows of the reduced image above
 * `bottom`. Returns false for FL_UNSUPPORTED. */
bool fl_eighth_read(fl_eighth *e, const struct jpeg_decompress_struct *cinfo, const uint8_t *blob,
                    size_t size, uint32_t bottom);

#endif
