/* Decodes PNG into a sink. */
#ifndef FL_PNG_H
#define FL_PNG_H

#include "kernel.h"
#include "sink.h"

typedef struct fl_png fl_png;

/* Returns a decoder that the caller frees, or NULL without memory. */
fl_png *fl_png_new(void);

/* NULL is allowed. */
void fl_png_free(fl_png *png);

/* Returns whether the blob starts with PNG's signature. */
bool fl_png_recognizes(const uint8_t *blob, size_t size);

/* Decodes the blob into `sink`, whose options say how and which writes the finished image to
 * `output`. Leaves `message` alone if the status is FL_OK. The sink stays the caller's. */
fl_status fl_png_decode(fl_png *png, const uint8_t *blob, size_t size, fl_sink *sink, fl_draw draw,
                        void *output, char message[FL_MESSAGE_BYTES]);

/* Returns the library that inflates: "ISA-L 2.30.0". */
const char *fl_png_library(void);

#endif
