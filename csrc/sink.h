/* The row sink: decoders push rows of pixels as they come, finished rows of the resized picture are
 * written where they will be read. There is no full-size picture in memory, only the few rows that
 * the filter needs.
 *
 * A decoder that knows the size of its picture says fl_sink_begin(), which tells it what part is
 * needed; fl_sink_open() with the columns that it will really deliver; and then, row by row from
 * `needed.top` until fl_sink_done(),
 *   either fl_sink_rows() and fl_sink_push(), for rows that are in the sink's own form,
 *   or fl_sink_rgba() and fl_sink_push_rgba(). */
#ifndef FL_SINK_H
#define FL_SINK_H

#include "filter.h"
#include "kernel.h"
#include "memory.h"
#include "passes.h"
#include "view.h"
#include "writer.h"

/* A decoder may fill this many rows before it has to push them. libjpeg hands out at most four
 * at once (max_v_samp_factor). */
#define FL_SINK_ROWS 4

/* Half open: top to bottom - 1. */
typedef struct {
    uint32_t top, bottom, left, right;
} fl_region;

typedef struct {
    const fl_options *options;
    const fl_passes *passes;
    fl_writer writer;

    fl_view view; /* of the picture being pushed, as all below */
    fl_filter vertical, horizontal;
    void *picture;
    fl_region needed;
    uint32_t left, columns; /* that are delivered: contains needed.left to needed.right */
    uint32_t pushed;        /* rows, counted from the picture's top */
    uint32_t narrowed;      /* output rows through the vertical pass */
    uint32_t finished;      /* output rows written: two at a time, so it may lag by one */
    int fraction_bits;

    fl_memory ring; /* ring_rows rows of stride bytes: row y is at y % ring_rows */
    uint32_t ring_rows;
    size_t stride;
    fl_memory taps;    /* pointers to the rows of the ring under the filter */
    fl_memory between; /* two rows after the vertical pass, `stride` int16_t apart */
    fl_memory levels;  /* two rows after the horizontal pass, where they are not written directly */
    fl_memory rgba;    /* one row, where the sink's own have one channel */

    fl_times times;
} fl_sink;

/* The options are borrowed for as long as the sink lives. */
void fl_sink_init(fl_sink *sink, const fl_options *options);
void fl_sink_clear(fl_sink *sink);

/* After each picture: gives large scratch memory back. */
void fl_sink_trim(fl_sink *sink);

/* Starts a picture of height x width, stored as it will be pushed, of which `view` is wanted.
 * Sets `needed`. FL_OK or FL_NO_MEMORY. */
fl_status fl_sink_begin(fl_sink *sink, const fl_view *view, uint32_t height, uint32_t width,
                        void *picture);

/* The rows that are pushed will hold columns left to right - 1. FL_OK or FL_NO_MEMORY. */
fl_status fl_sink_open(fl_sink *sink, uint32_t left, uint32_t right);

/* Where the next FL_SINK_ROWS rows go, in the sink's form: four bytes a pixel (red, green, blue and
 * any), or with options->channels == 1 one of luma. Returns how many of them are still needed. */
uint32_t fl_sink_rows(fl_sink *sink, uint8_t *rows[FL_SINK_ROWS]);

/* Takes the first `count` of those rows and writes every output row that they complete. */
void fl_sink_push(fl_sink *sink, uint32_t count);

/* Where the next row may be put as red, green, blue, alpha. */
uint8_t *fl_sink_rgba(fl_sink *sink);

/* Takes that row. alpha: whether its fourth byte is one. */
void fl_sink_push_rgba(fl_sink *sink, bool alpha);

static inline bool fl_sink_done(const fl_sink *sink) {
    return sink->finished == sink->view.out_height;
}

/* No more rows come: those that are still needed are mid-grey, as libjpeg has them too. */
void fl_sink_end_early(fl_sink *sink);

#endif
