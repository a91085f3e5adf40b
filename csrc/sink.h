/* The row sink: decoders push rows of pixels (FL_ROW_CHANNELS) as they come, finished rows of the resized
 * picture are written where they will be read. There is no full-size picture in memory, only the
 * few rows that the filter needs. */
#ifndef FL_SINK_H
#define FL_SINK_H

#include "filter.h"
#include "kernel.h"
#include "passes.h"

/* A decoder may fill this many rows before it has to push them. libjpeg hands out at most four
 * at once (max_v_samp_factor). */
#define FL_SINK_ROWS 4

typedef struct {
    uint32_t out_height, out_width;
    const fl_passes *passes;
    fl_filter vertical, horizontal;

    uint8_t *pixels;    /* of the slot: out_height rows of out_width * FL_CHANNELS bytes */
    uint32_t in_height; /* of the picture being pushed */
    uint32_t pushed;    /* rows of it so far */
    uint32_t narrowed;  /* output rows through the vertical pass so far */
    uint32_t finished;  /* output rows written so far: two at a time, so it may lag by one */

    uint8_t *ring;      /* ring_rows rows of stride bytes: row y is at y % ring_rows */
    size_t ring_bytes;  /* allocated */
    uint32_t ring_rows;
    size_t stride;

    int16_t *between;   /* two rows after the vertical pass, between_stride samples apart */
    size_t between_bytes;
    size_t between_stride;
    const uint8_t **taps; /* rows of the ring under the filter */
    size_t taps_bytes;
} fl_sink;

void fl_sink_init(fl_sink *sink, uint32_t out_height, uint32_t out_width, bool portable);
void fl_sink_clear(fl_sink *sink);

/* Starts a picture of height x width that ends up in `pixels`. FL_OK or FL_NO_MEMORY. */
fl_status fl_sink_begin(fl_sink *sink, uint32_t height, uint32_t width, uint8_t *pixels);

/* Where the next `FL_SINK_ROWS` rows go, FL_ROW_CHANNELS * width bytes each. Returns how many of them still
 * belong to the picture. */
uint32_t fl_sink_rows(fl_sink *sink, uint8_t *rows[FL_SINK_ROWS]);

/* Takes the first `count` of those rows and writes every output row that they complete. */
void fl_sink_push(fl_sink *sink, uint32_t count);

#endif
