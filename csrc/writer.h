/* The last step: rows of finished levels become the picture's type and layout, where it is wanted.
 */
#ifndef FL_WRITER_H
#define FL_WRITER_H

#include "kernel.h"
#include "view.h"

typedef struct {
    fl_dtype dtype;
    fl_layout layout;
    uint32_t channels;
    size_t height, width;
    size_t item_bytes;
    /* What each level of each channel becomes. A table rounds as it is told to once, whatever the
     * processor; looking up 224 x 224 x 3 of them takes 0.05 ms. */
    union {
        uint32_t as32[3][256];
        uint16_t as16[3][256];
        uint8_t as8[3][256];
    } table;
} fl_writer;

void fl_writer_init(fl_writer *writer, const fl_options *options);

/* Where row y may be written as it is, channels side by side; NULL if it needs fl_writer_row(). */
uint8_t *fl_writer_direct(const fl_writer *writer, const fl_view *view, uint32_t y, void *picture);

/* Writes row y, view->out_width pixels with the channels side by side. */
void fl_writer_row(const fl_writer *writer, const fl_view *view, uint32_t y, const uint8_t *row,
                   void *picture);

/* Writes the colour, or its luma, to every pixel. */
void fl_writer_fill(const fl_writer *writer, const uint8_t colour[3], void *picture);

#endif
