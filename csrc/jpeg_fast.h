/* JPEG for fl_options.fast: a reduced size, cheaper arithmetic, and of a progressive image only the
 * scans that this takes. */
#ifndef FL_JPEG_FAST_H
#define FL_JPEG_FAST_H

#include "view.h"

#include <stdio.h>

#include <jpeglib.h>

/* Returns the largest of 1, 2, 4 and 8 by which the inverse DCT can reduce the image without going
 * below the size that `view` asks for. */
uint32_t fl_jpeg_reduction(const fl_view *view);

/* Takes the place of jpeg_start_decompress(), to 1 / reduction of the size. Calls the progress
 * monitor while it reads scans. Reports errors as libjpeg does, through error_exit(). */
void fl_jpeg_start_fast(struct jpeg_decompress_struct *cinfo, uint32_t reduction);

#endif
