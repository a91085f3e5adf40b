/* Vertical pass first: it runs over contiguous bytes, and the horizontal pass, which has to shuffle,
 * is then left with output rows only. Zen 4, 790 photographs of 500x375 to 224x224: decode 1.04 ms,
 * vertical 0.06, horizontal 0.08, weights 0.02 ms a picture. */
#include "sink.h"

#include <stdlib.h>
#include <string.h>

void fl_sink_init(fl_sink *sink, uint32_t out_height, uint32_t out_width, bool portable) {
    memset(sink, 0, sizeof *sink);
    sink->out_height = out_height;
    sink->out_width = out_width;
    sink->passes = fl_passes_pick(portable);
}

void fl_sink_clear(fl_sink *sink) {
    fl_filter_clear(&sink->vertical);
    fl_filter_clear(&sink->horizontal);
    free(sink->ring);
    free(sink->between);
    free(sink->taps);
    memset(sink, 0, sizeof *sink);
}

static void *aligned_calloc(size_t bytes) {
    bytes = (bytes + 63) / 64 * 64;
    void *memory = aligned_alloc(64, bytes);
    return memory ? memset(memory, 0, bytes) : NULL;
}

/* At least `bytes` bytes, zeroed when new; what was there is lost if it was too small. */
static void *reserve(void *memory, size_t *have, size_t bytes) {
    if (*have >= bytes)
        return memory;
    free(memory);
    memory = aligned_calloc(bytes);
    *have = memory ? bytes : 0;
    return memory;
}

/* Rows start one pixel past an aligned address on purpose. Where they are aligned, libjpeg-turbo
 * writes them around the cache (movntdq), and the vertical pass, which reads them next, waits for
 * memory: 0.24 ms a picture instead of 0.07. */
#define MISALIGNMENT FL_ROW_CHANNELS

fl_status fl_sink_begin(fl_sink *sink, uint32_t height, uint32_t width, uint8_t *pixels) {
    if (!fl_filter_set(&sink->vertical, height, sink->out_height, FL_VERTICAL_PRECISION) ||
        !fl_filter_set(&sink->horizontal, width, sink->out_width, FL_HORIZONTAL_PRECISION))
        return FL_NO_MEMORY;

    /* Neither side of a picture has more than 2^16 samples (JPEG's own limit, checked by the
     * decoders' headers), so none of these products overflows 64 bits. */
    const size_t samples = MISALIGNMENT + (size_t)width * FL_ROW_CHANNELS + FL_ROW_SLACK;
    sink->stride = (samples + 63) / 64 * 64;
    sink->ring_rows = sink->vertical.taps + FL_SINK_ROWS;
    sink->ring = reserve(sink->ring, &sink->ring_bytes, sink->stride * sink->ring_rows);
    sink->between_stride = sink->stride;
    sink->between = reserve(sink->between, &sink->between_bytes,
                            2 * sink->between_stride * sizeof *sink->between);
    /* `taps` holds pointers; const only stops the sink from writing through them. */
    sink->taps = reserve((void *)sink->taps, &sink->taps_bytes,
                         sink->vertical.taps * sizeof *sink->taps);
    if (!sink->ring || !sink->between || !sink->taps)
        return FL_NO_MEMORY;

    sink->pixels = pixels;
    sink->in_height = height;
    sink->pushed = 0;
    sink->narrowed = 0;
    sink->finished = 0;
    return FL_OK;
}

static uint8_t *ring_row(const fl_sink *sink, uint32_t y) {
    return sink->ring + (size_t)(y % sink->ring_rows) * sink->stride + MISALIGNMENT;
}

uint32_t fl_sink_rows(fl_sink *sink, uint8_t *rows[FL_SINK_ROWS]) {
    for (uint32_t i = 0; i < FL_SINK_ROWS; i++)
        rows[i] = ring_row(sink, sink->pushed + i);
    const uint32_t left = sink->in_height - sink->pushed;
    return left < FL_SINK_ROWS ? left : FL_SINK_ROWS;
}

static int16_t *between_row(const fl_sink *sink, uint32_t y) {
    return sink->between + (y % 2) * sink->between_stride;
}

static void narrow_row(fl_sink *sink) {
    const fl_filter *filter = &sink->vertical;
    const uint32_t y = sink->narrowed++, first = filter->first[y], count = filter->count[y];
    for (uint32_t t = 0; t < count; t++)
        sink->taps[t] = ring_row(sink, first + t);
    if (count % 2) /* the weight of this one is zero */
        sink->taps[count] = sink->taps[0];
    sink->passes->vertical(sink->taps, filter->weight + (size_t)y * filter->taps, count + count % 2,
                           filter->precision, sink->horizontal.in_size * FL_ROW_CHANNELS,
                           between_row(sink, y));
}

/* The last two rows that were narrowed, or the last one twice where their number is odd. */
static void finish_rows(fl_sink *sink) {
    const fl_filter *filter = &sink->horizontal;
    const uint32_t upper = sink->finished, lower = sink->narrowed - 1;
    const size_t bytes = (size_t)sink->out_width * FL_CHANNELS;
    const int16_t *const rows[2] = {between_row(sink, upper), between_row(sink, lower)};
    uint8_t *const pixels[2] = {sink->pixels + upper * bytes, sink->pixels + lower * bytes};
    sink->passes->horizontal(rows, filter->first, filter->weight, filter->taps, filter->precision,
                             sink->out_width, pixels);
    sink->finished = sink->narrowed;
}

void fl_sink_push(fl_sink *sink, uint32_t count) {
    const fl_filter *filter = &sink->vertical;
    sink->pushed += count;
    while (sink->narrowed < sink->out_height &&
           filter->first[sink->narrowed] + filter->count[sink->narrowed] <= sink->pushed) {
        narrow_row(sink);
        if (sink->narrowed - sink->finished == 2 || sink->narrowed == sink->out_height)
            finish_rows(sink);
    }
}
