/* The row sink: decoders push rows of the source image as they come, and the sink writes finished
 * rows of the output image where they will be read. The source image is never in memory as a whole,
 * only the few rows that the filter needs.
 *
 * A decoder that knows the size of its image calls
 *   fl_sink_looks(), and is done if that returns true;
 *   fl_sink_begin(), which tells it what part is needed;
 *   fl_sink_open(), with the columns that it will deliver;
 *   and then for each row from `needed.top` on, until fl_sink_done(),
 *     either fl_sink_rows() and fl_sink_push(), for rows in the sink's own form,
 *     or fl_sink_rgba() and fl_sink_push_rgba(). */
#ifndef FL_SINK_H
#define FL_SINK_H

#include "filter.h"
#include "kernel.h"
#include "memory.h"
#include "passes.h"
#include "view.h"
#include "writer.h"

/* A decoder may fill this many rows before it pushes them. libjpeg hands out at most four at once
 * (max_v_samp_factor). */
#define FL_SINK_ROWS 4

/* Rows top to bottom - 1 and columns left to right - 1. */
typedef struct {
    uint32_t top, bottom, left, right;
} fl_region;

typedef struct {
    const fl_options *options; /* borrowed */
    const fl_passes *passes;
    fl_writer writer;

    bool looks; /* no rows are wanted, only the view: see fl_sink_looks() */

    fl_view view; /* of the image that is being pushed, as all below */
    fl_filter vertical, horizontal;
    void *output; /* borrowed */
    fl_region needed;
    uint32_t left, columns; /* what is delivered; contains needed.left to needed.right */
    uint32_t pushed;        /* rows, counted from the top of the source image */
    uint32_t narrowed;      /* output rows that are through the vertical pass */
    uint32_t finished;      /* output rows that are written: two at a time, so it may lag by one */
    int fraction_bits;

    fl_memory ring; /* ring_rows rows of stride bytes: row y is at y % ring_rows */
    uint32_t ring_rows;
    size_t stride;
    fl_memory taps;    /* pointers to the rows of the ring that are under the filter */
    fl_memory between; /* two rows after the vertical pass, `stride` int16_t apart */
    fl_memory levels;  /* two rows after the horizontal pass, unless they are written directly */
    fl_memory rgba;    /* one RGBA row, if the sink's own rows have one channel */

    fl_times times;
} fl_sink;

/* Initializes a sink that fl_sink_clear() frees. Borrows the options until then. */
void fl_sink_init(fl_sink *sink, const fl_options *options);
void fl_sink_clear(fl_sink *sink);

/* Frees large scratch memory. Call it after each image. */
void fl_sink_trim(fl_sink *sink);

/* Keeps the view and returns true if nothing else is wanted: the decoder then returns FL_OK. */
bool fl_sink_looks(fl_sink *sink, const fl_view *view);

/* Starts a source image that is pushed as height x width, of which `view` is wanted, and sets
 * `needed`. Borrows `output` until the last row is pushed. Returns FL_OK or FL_NO_MEMORY. */
fl_status fl_sink_begin(fl_sink *sink, const fl_view *view, uint32_t height, uint32_t width,
                        void *output);

/* Prepares for rows that hold columns left to right - 1. Returns FL_OK or FL_NO_MEMORY. */
fl_status fl_sink_open(fl_sink *sink, uint32_t left, uint32_t right);

/* Sets `rows` to where the next FL_SINK_ROWS rows go, in the sink's own form: four bytes for each
 * pixel (red, green, blue and any), or one byte of luma if options->channels is 1. Returns how many
 * of these rows are still needed. */
uint32_t fl_sink_rows(fl_sink *sink, uint8_t *rows[FL_SINK_ROWS]);

/* Takes the first `count` of those rows and writes every output row that they complete. */
void fl_sink_push(fl_sink *sink, uint32_t count);

/* Returns where to put the next row as red, green, blue, alpha. */
uint8_t *fl_sink_rgba(fl_sink *sink);

/* Takes that row. `alpha`: whether the fourth byte of a pixel is alpha. */
void fl_sink_push_rgba(fl_sink *sink, bool alpha);

/* Returns whether the output image is complete. */
static inline bool fl_sink_done(const fl_sink *sink) {
    return sink->finished == sink->view.out_height;
}

/* Completes the output image when no more rows come: the missing ones are mid-gray, as they are in
 * libjpeg. */
void fl_sink_end_early(fl_sink *sink);

#endif
