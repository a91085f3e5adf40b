#include "png_rows.h"

#include "png_chunks.h"
#include "unfilter.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* How many bytes of rows are inflated at once, or one row if that is more. 4 to 256 KiB take the
 * same time. */
#define BATCH_BYTES ((size_t)32 << 10)

bool fl_png_rows_init(fl_png_rows *r) {
    memset(r, 0, sizeof *r);
    r->inflate = fl_inflate_new();
    return r->inflate != NULL;
}

void fl_png_rows_clear(fl_png_rows *r) {
    fl_inflate_free(r->inflate);
    fl_memory_clear(&r->batch);
    fl_memory_clear(&r->rows[0]);
    fl_memory_clear(&r->rows[1]);
    memset(r, 0, sizeof *r);
}

fl_status fl_png_fail(char *message, fl_status status, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, FL_MESSAGE_BYTES, format, arguments);
    va_end(arguments);
    return status;
}

void fl_png_rows_trim(fl_png_rows *r) {
    fl_memory_trim(&r->batch);
    fl_memory_trim(&r->rows[0]);
    fl_memory_trim(&r->rows[1]);
}

/* ---- bytes ----------------------------------------------------------------------------------- */

/* Feeds the next IDAT chunk to the inflater. Returns FL_TRUNCATED if there are no more. */
static fl_status feed_chunk(fl_png_rows *r) {
    fl_png_chunk c;
    const fl_png_found status = fl_png_chunk_read(r->blob, r->size, &r->next, &c);
    if (status == FL_PNG_NO_CHUNK)
        return fl_png_fail(r->message, FL_CORRUPT, "PNG: an invalid chunk at byte %zu", r->next);
    if (status == FL_PNG_BLOB_ENDS)
        return fl_png_fail(r->message, FL_TRUNCATED, "the blob of %zu bytes ends", r->size);
    if (c.type != FL_PNG_IDAT)
        return fl_png_fail(r->message, FL_TRUNCATED, "the compressed data ends");
    if (c.whole && !fl_png_chunk_is_intact(&c))
        return fl_png_fail(r->message, FL_CORRUPT, "PNG: the checksum of IDAT is wrong");
    fl_inflate_feed(r->inflate, c.data, c.size);
    return FL_OK;
}

/* Inflates `size` bytes, from as many chunks as it takes. Adds to *got what came, whatever the
 * status. */
static fl_status inflate_bytes(fl_png_rows *r, uint8_t *to, size_t size, size_t *got) {
    for (;;) {
        const size_t before = *got;
        const fl_inflate_status status = fl_inflate_read(r->inflate, to, size, got);
        to += *got - before;
        size -= *got - before;
        switch (status) {
        case FL_INFLATE_FULL:
            return FL_OK;
        case FL_INFLATE_END:
            return fl_png_fail(r->message, FL_TRUNCATED, "the compressed data ends");
        case FL_INFLATE_BAD:
            return fl_png_fail(r->message, FL_CORRUPT, "PNG: the compressed data is broken");
        case FL_INFLATE_HUNGRY: {
            const fl_status fed = feed_chunk(r);
            if (fed != FL_OK)
                return fed;
            break;
        }
        }
    }
}

/* ---- rows ------------------------------------------------------------------------------------ */

/* Returns the bytes of a row of so many pixels. */
static size_t bytes_of(const fl_png_rows *r, uint32_t pixels) {
    return (size_t)(((uint64_t)pixels * r->pixel_bits + 7) / 8);
}

fl_status fl_png_rows_open(fl_png_rows *r, uint32_t width) {
    const uint64_t row = ((uint64_t)width * r->pixel_bits + 7) / 8, filtered = 1 + row;
    r->stopped = FL_OK;
    r->read = 0;
    fl_inflate_start(r->inflate);
    if (!fl_memory_reserve(&r->rows[0], row + FL_UNFILTER_SLACK) ||
        !fl_memory_reserve(&r->rows[1], row + FL_UNFILTER_SLACK) ||
        !fl_memory_reserve(&r->batch,
                           (filtered > BATCH_BYTES ? filtered : BATCH_BYTES) + FL_UNFILTER_SLACK))
        return fl_png_fail(r->message, FL_NO_MEMORY, "not enough memory for rows of %u pixels",
                           width);
    return FL_OK;
}

void fl_png_rows_begin(fl_png_rows *r, uint32_t width, uint32_t useful, uint32_t count) {
    r->row_bytes = bytes_of(r, width);
    r->useful_bytes = bytes_of(r, useful);
    r->to_come = count;
    r->ready = 0;
    r->first = true;
}

/* Inflates some more rows, never past those that are needed. Returns FL_OK if there is at least
 * one. */
static fl_status inflate_rows(fl_png_rows *r) {
    const size_t stride = 1 + r->row_bytes;
    const size_t most = stride < BATCH_BYTES ? BATCH_BYTES / stride : 1;
    const size_t rows = r->to_come < most ? r->to_come : most;
    size_t got = 0;
    if (r->stopped == FL_OK)
        r->stopped = inflate_bytes(r, r->batch.bytes, rows * stride, &got);
    r->filtered = r->batch.bytes;
    r->ready = (uint32_t)(got / stride);
    r->to_come -= r->ready;
    return r->ready > 0 ? FL_OK : r->stopped;
}

fl_status fl_png_rows_next(fl_png_rows *r, const uint8_t **row) {
    const fl_status status = r->ready > 0 ? FL_OK : inflate_rows(r);
    if (status != FL_OK)
        return status;
    const unsigned filter = r->filtered[0];
    if (filter > 4)
        return fl_png_fail(r->message, FL_CORRUPT, "PNG: unknown filter %u of row %llu", filter,
                           (unsigned long long)r->read);
    uint8_t *const above = r->rows[r->read % 2].bytes;
    uint8_t *const to = r->rows[(r->read + 1) % 2].bytes;
    if (r->first)
        memset(above, 0, r->useful_bytes + FL_UNFILTER_SLACK);
    const size_t pixel_bytes = r->pixel_bits < 8 ? 1 : r->pixel_bits / 8;
    fl_unfilter(filter, pixel_bytes, r->useful_bytes, r->filtered + 1, above, to, r->portable);
    r->first = false;
    r->filtered += 1 + r->row_bytes;
    r->ready--;
    r->read++;
    *row = to;
    return FL_OK;
}
