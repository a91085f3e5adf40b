/* PNG in, rows into the sink. */
#ifndef FL_PNG_H
#define FL_PNG_H

#include "kernel.h"
#include "sink.h"

typedef struct fl_png fl_png;

/* NULL without memory. */
fl_png *fl_png_new(void);
void fl_png_free(fl_png *png); /* NULL is allowed */

bool fl_png_recognises(const uint8_t *blob, size_t size);

/* Decodes `blob` into the sink, whose options say how. The message is left alone after FL_OK. */
fl_status fl_png_decode(fl_png *png, const uint8_t *blob, size_t size, fl_sink *sink, fl_draw draw,
                        void *picture, char message[FL_MESSAGE_BYTES]);

/* The library that inflates: "ISA-L 2.30.0". */
const char *fl_png_library(void);

#endif
