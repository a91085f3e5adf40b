/* Notes where the entropy-coded data of a JPEG breaks off. libjpeg makes up the rest of the image
 * and only warns. */
#ifndef FL_JPEG_DAMAGE_H
#define FL_JPEG_DAMAGE_H

#include "kernel.h"

#include <stdio.h>

#include <jpeglib.h>

typedef struct {
    size_t size;        /* of the blob */
    bool exhausted;     /* libjpeg asked for bytes past the end of the blob */
    bool found;         /* some of the image's data is missing or broken */
    bool starved;       /* no more data comes: what follows is gray */
    uint32_t gray_from; /* the first row of MCUs that is entirely gray */
    bool displayable;   /* a row of MCUs was whole before the first damage, or before the end */
    size_t at;          /* bytes of the blob before the first damage */
    int marker;         /* the marker at which the data breaks off; 0: at an invalid code */
    uint64_t made_up;   /* blocks of the restart intervals that broke off, at most */
} fl_jpeg_damage;

/* Starts over. Call it before each blob. */
void fl_jpeg_damage_start(fl_jpeg_damage *damage, size_t size);

/* Call it for each warning of libjpeg's. */
void fl_jpeg_damage_warned(fl_jpeg_damage *damage, const struct jpeg_decompress_struct *cinfo);

/* Call it when libjpeg asks for bytes past the end of the blob. */
void fl_jpeg_damage_exhausted(fl_jpeg_damage *damage, const struct jpeg_decompress_struct *cinfo);

/* Looks for a marker that ends the data. Call it every few rows and at the end: libjpeg's
 * arithmetic decoder continues with zeros behind any marker and does not warn. */
void fl_jpeg_damage_look(fl_jpeg_damage *damage, const struct jpeg_decompress_struct *cinfo);

/* Writes what was found, for users. */
void fl_jpeg_damage_message(const fl_jpeg_damage *damage, char message[FL_MESSAGE_BYTES]);

#endif
