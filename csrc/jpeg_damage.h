/* Where a JPEG's entropy-coded data breaks off. libjpeg makes up the rest, and says so in warnings
 * alone. */
#ifndef FL_JPEG_DAMAGE_H
#define FL_JPEG_DAMAGE_H

#include "kernel.h"

#include <stdio.h>

#include <jpeglib.h>

typedef struct {
    size_t size;        /* of the blob */
    bool exhausted;     /* libjpeg asked for bytes past its end */
    bool found;         /* some of the picture's data is missing or broken */
    bool starved;       /* no more of it comes: what follows is grey */
    uint32_t grey_from; /* rows of MCUs: from this one on there is nothing but grey */
    bool displayable;   /* a row of MCUs had come whole before the first damage, or the end */
    size_t at;          /* how much of the blob is before the first damage */
    int marker;         /* at which it broke off; 0: at a code that is none */
    uint64_t made_up;   /* blocks of restart intervals that broke off, at most */
} fl_jpeg_damage;

/* Before each blob. */
void fl_jpeg_damage_start(fl_jpeg_damage *damage, size_t size);

/* For each warning of libjpeg's. */
void fl_jpeg_damage_warned(fl_jpeg_damage *damage, const struct jpeg_decompress_struct *cinfo);

/* When libjpeg asks for more bytes. */
void fl_jpeg_damage_exhausted(fl_jpeg_damage *damage, const struct jpeg_decompress_struct *cinfo);

/* Now and then: the arithmetic decoder goes on behind any marker, with zeros and without a word. */
void fl_jpeg_damage_look(fl_jpeg_damage *damage, const struct jpeg_decompress_struct *cinfo);

/* In words. */
void fl_jpeg_damage_message(const fl_jpeg_damage *damage, char message[FL_MESSAGE_BYTES]);

#endif
