/* A JPEG at an eighth of its size, from the constant coefficient of every block.
 *
 * libjpeg does that too, but it decodes all other coefficients on the way to the next block, and of
 * a progressive picture keeps room for them all. */
#ifndef FL_JPEG_EIGHTH_H
#define FL_JPEG_EIGHTH_H

#include "huffman.h"
#include "memory.h"
#include "sink.h"

#include <stdio.h>

#include <jpeglib.h>

#define FL_EIGHTH_COMPONENTS 3
#define FL_EIGHTH_TABLES 4

/* With 4:2:0 luma has 2 x 2 blocks in an MCU of one sample each, chroma one block of 2 x 2 samples.
 */
typedef struct {
    uint32_t id;
    uint32_t across, down;  /* its sampling factors: blocks in an MCU */
    uint32_t columns, rows; /* samples of a block */
    const uint16_t *quanta;
    uint8_t *samples; /* rows of fl_eighth.stride bytes */
    bool read;
    const fl_huffman *dc, *ac; /* in the scan being read, as all below; ac: NULL if it has none */
    uint32_t shift;            /* bits that it leaves out */
    uint16_t constant;         /* of the block before */
} fl_eighth_component;

/* What a DHT segment says; `counts` is NULL before one has. It is set in order to be read when a
 * scan asks for it: a blob of DHT segments must not take longer than its bytes. */
typedef struct {
    const uint8_t *counts, *symbols;
    size_t size; /* of the symbols */
    bool is_set;
    fl_huffman huffman;
} fl_eighth_table;

typedef struct {
    bool progressive;
    uint32_t width, interval; /* interval: MCUs from restart to restart, or 0 */
    fl_eighth_component component[FL_EIGHTH_COMPONENTS];
    uint32_t components, to_read;
    size_t stride;
    fl_memory samples;
    fl_bits bits;
    fl_eighth_table tables[2][FL_EIGHTH_TABLES]; /* of DC, of AC coefficients */
} fl_eighth;

/* After jpeg_read_header() of the blob; takes nothing from cinfo. FL_OK; FL_NO_MEMORY; or
 * FL_UNSUPPORTED where the picture is of a kind that is not read here, is damaged or ends early:
 * libjpeg, called as if nothing had been, says which. */
fl_status fl_eighth_decode(fl_eighth *e, const struct jpeg_decompress_struct *cinfo,
                           const uint8_t *blob, size_t size, const fl_view *view, fl_sink *sink,
                           void *picture);

/* The part of it that fills fl_eighth_component.samples, for the rows of the reduced picture above
 * `bottom`. False: FL_UNSUPPORTED. */
bool fl_eighth_read(fl_eighth *e, const struct jpeg_decompress_struct *cinfo, const uint8_t *blob,
                    size_t size, uint32_t bottom);

#endif
