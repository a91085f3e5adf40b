/* A JPEG at an eighth of its size, from the constant coefficient of every block.
 *
 * libjpeg does that too, but it decodes all other coefficients on the way to the next block, and of a
 * progressive picture keeps room for them all. */
#ifndef FL_JPEG_EIGHTH_H
#define FL_JPEG_EIGHTH_H

#include "huffman.h"
#include "memory.h"
#include "sink.h"

#include <stdio.h>

#include <jpeglib.h>

#define FL_EIGHTH_COMPONENTS 3
#define FL_EIGHTH_TABLES 4

typedef struct {
    uint32_t id;
    uint32_t across, down;  /* its sampling factors: blocks in an MCU */
    uint32_t columns, rows; /* samples of a block: 2 where another component has twice its blocks */
    const uint16_t *quanta;
    uint8_t *samples; /* rows of fl_eighth.stride bytes */
    bool read;
    const fl_huffman *dc, *ac; /* in the scan being read, as all below; ac: NULL if it has none */
    uint32_t shift;            /* bits that it leaves out */
    uint16_t constant;         /* of the block before */
} fl_eighth_component;

typedef struct {
    bool progressive;
    uint32_t width, interval; /* interval: MCUs from restart to restart, or 0 */
    fl_eighth_component component[FL_EIGHTH_COMPONENTS];
    uint32_t components, to_read;
    size_t stride;
    fl_memory samples;
    fl_bits bits;
    fl_huffman dc[FL_EIGHTH_TABLES], ac[FL_EIGHTH_TABLES];
    bool dc_is_set[FL_EIGHTH_TABLES], ac_is_set[FL_EIGHTH_TABLES];
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
