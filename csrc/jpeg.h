/* Decodes JPEG into a sink, through the API of libjpeg. */
#ifndef FL_JPEG_H
#define FL_JPEG_H

#include "kernel.h"
#include "sink.h"

typedef struct fl_jpeg fl_jpeg;

/* Returns a decoder that the caller frees, or NULL without memory. */
fl_jpeg *fl_jpeg_new(void);

/* NULL is allowed. */
void fl_jpeg_free(fl_jpeg *jpeg);

/* Returns whether the blob starts as a JPEG does. */
bool fl_jpeg_recognizes(const uint8_t *blob, size_t size);

/* Decodes the blob into `sink`, which writes the finished image to `output`. Writes `message`
 * unless the status is FL_OK. The sink stays the caller's. */
fl_status fl_jpeg_decode(fl_jpeg *jpeg, const uint8_t *blob, size_t size, fl_sink *sink,
                         fl_draw draw, void *output, char message[FL_MESSAGE_BYTES]);

/* Returns whether the loaded library accepts calls made with the headers that this was compiled
 * with. Writes `message` if not. */
bool fl_jpeg_fits(char message[FL_MESSAGE_BYTES]);

/* "libjpeg-turbo 2.1.5" */
extern const char fl_jpeg_library[];

#endif
