/* The geometry of one picture: which part of it is wanted, and where its pixels go. */
#ifndef FL_VIEW_H
#define FL_VIEW_H

#include "kernel.h"

typedef struct {
    /* The part that is resized, in pixels of the picture as it is stored, but counted from the edge
     * that is seen first: from the last row where rows are reversed. The filter also looks past its
     * edges, as far as there are pixels: Pillow's resize(size, filter, box). */
    double top, left, height, width;
    bool reversed_rows, reversed_columns; /* by orientation; a flip mirrors the finished picture */
    double all_rows, all_columns;         /* of the picture, of which those are counted */
    /* What it becomes, still as stored: rows and columns swapped where the picture is turned. */
    uint32_t out_height, out_width;
    /* Pixel (y, x) of that goes to pixel origin + y * row_step + x * column_step of the finished
     * picture: where orientation, flip and padding are. */
    ptrdiff_t origin, row_step, column_step;
    uint32_t seen_height, seen_width; /* of the whole picture, turned, at its own size */
    uint64_t pixels;
} fl_view;

/* FL_OK if a picture of this size may be decoded. No side may have more than 65,535 pixels: the
 * resize costs in proportion to either, and not only to both. Writes `message` unless FL_OK. */
fl_status fl_check_size(uint32_t height, uint32_t width, const fl_options *options,
                        char message[FL_MESSAGE_BYTES]);

/* Of a picture that is stored as height x width, both at least 1, with EXIF's `orientation`, 1 to
 * 8; others count as 1, and so do all where the options say so. */
void fl_view_set(fl_view *view, const fl_options *options, uint32_t height, uint32_t width,
                 unsigned orientation, fl_draw draw);

/* The same view of the picture at another size: so many times its rows and columns. */
void fl_view_scale(fl_view *view, double down, double across);

#endif
