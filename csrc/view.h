/* The geometry of one image: which part of it is wanted, and where its pixels go. */
#ifndef FL_VIEW_H
#define FL_VIEW_H

#include "kernel.h"

typedef struct {
    /* The part that is resized, in pixels of the source image as it is stored, but counted from the
     * edge that a viewer sees first: from the last row if rows are reversed. The filter also looks
     * past the edges of the part, as far as there are pixels, as Pillow's resize(size, filter, box)
     * does. */
    double top, left, height, width;
    bool reversed_rows, reversed_columns; /* by the orientation; a flip mirrors the output image */
    double all_rows, all_columns;         /* of the source image */
    /* The size that the part is resized to, still as stored: rows and columns are swapped if the
     * image is turned. */
    uint32_t out_height, out_width;
    /* Pixel (y, x) of that goes to pixel origin + y * row_step + x * column_step of the output
     * image. Orientation, flip and padding are in these numbers. */
    ptrdiff_t origin, row_step, column_step;
    uint32_t seen_height, seen_width; /* of the whole source image, turned */
    unsigned orientation;             /* EXIF's, 1 to 8 */
    uint64_t pixels;                  /* of the source image */
} fl_view;

/* Returns FL_OK if an image of this size may be decoded. No side may have more than 65,535 pixels,
 * because the resize costs in proportion to each side, not only to their product. Writes `message`
 * unless the status is FL_OK. */
fl_status fl_check_size(uint32_t height, uint32_t width, const fl_options *options,
                        char message[FL_MESSAGE_BYTES]);

/* Sets the view of a source image that is stored as height x width, both at least 1. `orientation`
 * is EXIF's, 1 to 8; other values count as 1, and so do all if the options ignore orientation. */
void fl_view_set(fl_view *view, const fl_options *options, uint32_t height, uint32_t width,
                 unsigned orientation, fl_draw draw);

/* Adapts the view to a source image of another size: `down` times the rows, `across` times the
 * columns. */
void fl_view_scale(fl_view *view, double down, double across);

#endif
