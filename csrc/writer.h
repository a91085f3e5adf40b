/* The last step: writes rows of finished levels to the output image, in its type and layout. */
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
    /* What each level of each channel becomes. A table rounds the same way on every processor. */
    union {
        uint32_t as32[3][256];
        uint16_t as16[3][256];
        uint8_t as8[3][256];
    } table;
} fl_writer;

/* Sets the writer up for all images with these options. */
void fl_writer_init(fl_writer *writer, const fl_options *options);

/* Returns where the levels of row y may be written as they are, with the channels of a pixel next
 * to each other; NULL if they have to go through fl_writer_row(). */
uint8_t *fl_writer_direct(const fl_writer *writer, const fl_view *view, uint32_t y, void *output);

/* Writes row y: view->out_width pixels with their channels next to each other. */
void fl_writer_row(const fl_writer *writer, const fl_view *view, uint32_t y, const uint8_t *row,
                   void *output);

/* Writes the color, or its luma, to every pixel of the output image. */
void fl_writer_fill(const fl_writer *writer, const uint8_t color[3], void *output);

#endif
