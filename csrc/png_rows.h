/* The rows of a PNG as they are stored: out of the IDAT chunks, inflated, filters undone. */
#ifndef FL_PNG_ROWS_H
#define FL_PNG_ROWS_H

#include "inflate.h"
#include "kernel.h"
#include "memory.h"

typedef struct {
    fl_inflate *inflate;
    fl_memory batch, rows[2];

    /* Set by who reads the header, as is width. */
    const uint8_t *blob;
    size_t size, next; /* `next`: where the first IDAT chunk is, and then the next */
    uint32_t pixel_bits;
    bool portable;
    char *message;

    size_t row_bytes, useful_bytes;
    uint32_t to_come; /* still to be inflated */
    uint32_t ready;   /* inflated, from `filtered` on */
    const uint8_t *filtered;
    bool first;
    fl_status stopped; /* why no more bytes come, FL_OK while they do */
    uint64_t read;     /* rows so far, of all runs */
} fl_png_rows;

/* False without memory. */
bool fl_png_rows_init(fl_png_rows *r);
void fl_png_rows_clear(fl_png_rows *r);

/* Starts a picture whose rows have at most `width` pixels. FL_OK or FL_NO_MEMORY. */
fl_status fl_png_rows_open(fl_png_rows *r, uint32_t width);

/* A run of `count` rows of `width` pixels follows, of which only the first `useful` are looked at.
 */
void fl_png_rows_begin(fl_png_rows *r, uint32_t width, uint32_t useful, uint32_t count);

/* The next of them, valid until the one after the next. FL_TRUNCATED where no more come, with a
 * message that says what ended; FL_CORRUPT. */
fl_status fl_png_rows_next(fl_png_rows *r, const uint8_t **row);

/* After each picture. */
void fl_png_rows_trim(fl_png_rows *r);

/* Writes the message and returns the status. */
__attribute__((format(printf, 3, 4))) fl_status fl_png_fail(char *message, fl_status status,
                                                            const char *format, ...);

#endif
