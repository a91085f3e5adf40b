/* JPEG into a sink, through the libjpeg API. */
#ifndef FL_JPEG_H
#define FL_JPEG_H

#include "kernel.h"
#include "sink.h"

typedef struct fl_jpeg fl_jpeg;

fl_jpeg *fl_jpeg_new(void);
void fl_jpeg_free(fl_jpeg *jpeg);

bool fl_jpeg_recognises(const uint8_t *blob, size_t size);

/* Pushes the picture into `sink`, which ends in `picture`. Writes `message` unless FL_OK. */
fl_status fl_jpeg_decode(fl_jpeg *jpeg, const uint8_t *blob, size_t size, fl_sink *sink,
                         fl_draw draw, void *picture, char message[FL_MESSAGE_BYTES]);

/* Whether the library that was loaded takes calls by the headers that this was compiled with.
 * Writes `message` if not. */
bool fl_jpeg_fits(char message[FL_MESSAGE_BYTES]);

/* "libjpeg-turbo 2.1.5" */
extern const char fl_jpeg_library[];

#endif
