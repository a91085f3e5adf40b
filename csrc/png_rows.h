/* Reads the rows of a PNG: inflates the IDAT chunks and undoes the row filters. */
#ifndef FL_PNG_ROWS_H
#define FL_PNG_ROWS_H

#include "inflate.h"
#include "kernel.h"
#include "memory.h"

typedef struct {
    fl_inflate *inflate;
    fl_memory batch, rows[2];

    /* Set by the caller who reads the header. The blob and the message are borrowed. */
    const uint8_t *blob;
    size_t size, next; /* `next`: the position of the first IDAT chunk, later of the next one */
    uint32_t pixel_bits;
    bool portable;
    char *message;

    size_t row_bytes, useful_bytes;
    uint32_t to_come; /* rows still to be inflated */
    uint32_t ready;   /* rows that are inflated, at `filtered` */
    const uint8_t *filtered;
    bool first;
    fl_status stopped; /* why no more bytes come; FL_OK while they do */
    uint64_t read;     /* rows so far, of all runs */
} fl_png_rows;

/* Initializes an object that fl_png_rows_clear() frees. Returns false without memory. */
bool fl_png_rows_init(fl_png_rows *r);
void fl_png_rows_clear(fl_png_rows *r);

/* Starts an image whose rows have at most `width` pixels. Returns FL_OK or FL_NO_MEMORY. */
fl_status fl_png_rows_open(fl_png_rows *r, uint32_t width);

/* Starts a run of `count` rows of `width` pixels, of which only the first `useful` are needed: a
 * pass of an interlaced image, or the whole image. */
void fl_png_rows_begin(fl_png_rows *r, uint32_t width, uint32_t useful, uint32_t count);

/* Sets *row to the next row, which is valid until the second call after this one. Returns FL_OK;
 * FL_TRUNCATED if no more rows come, with a message that says what ended; or FL_CORRUPT. */
fl_status fl_png_rows_next(fl_png_rows *r, const uint8_t **row);

/* Frees large scratch memory. Call it after each image. */
void fl_png_rows_trim(fl_png_rows *r);

/* Writes the message and returns the status. */
__attribute__((format(printf, 3, 4))) fl_status fl_png_fail(char *message, fl_status status,
                                                            const char *format, ...);

#endif
