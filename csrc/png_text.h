/* EXIF data that a PNG carries as text: ImageMagick's form, from before there were eXIf chunks. */
#ifndef FL_PNG_TEXT_H
#define FL_PNG_TEXT_H

#include "inflate.h"
#include "memory.h"
#include "png_chunks.h"

/* Returns whether it is a tEXt or zTXt chunk that says it holds EXIF data. */
bool fl_png_text_is_exif(const fl_png_chunk *chunk);

/* Sets *orientation to what such a chunk asks for, 1 to 8; to 1 if it is silent or broken. Starts
 * another stream on `inflate` and overwrites `scratch`. Returns false without memory. */
bool fl_png_text_orientation(const fl_png_chunk *chunk, fl_inflate *inflate, fl_memory *scratch,
                             unsigned *orientation);

#endif
