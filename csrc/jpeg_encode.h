/* Encodes JPEG: baseline, 4:2:0, with Huffman tables made for the image. The same pixels and
 * options give the same bytes. */
#ifndef FL_JPEG_ENCODE_H
#define FL_JPEG_ENCODE_H

#include "kernel.h"

typedef struct {
    uint32_t height, width; /* 1 to 65500, libjpeg's own limit */
    uint32_t channels;      /* 3: red, green, blue; 1: luma */
    const uint8_t *pixels;  /* borrowed for the call: height rows of width pixels */
    int quality;            /* 1 to 100, on libjpeg's scale */
} fl_encoding;

/* Encodes the pixels into *blob, *size bytes that the caller frees with free(). Without FL_OK,
 * *blob is NULL and `message` is written. The statuses are FL_OK, FL_NO_MEMORY, and FL_UNSUPPORTED
 * for an option out of its range. */
fl_status fl_jpeg_encode(const fl_encoding *encoding, uint8_t **blob, size_t *size,
                         char message[FL_MESSAGE_BYTES]);

#endif
