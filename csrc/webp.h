/* The WebP part of the kernel: libwebp, a window of rows at a time, into a row sink. */
#ifndef FL_WEBP_H
#define FL_WEBP_H

#include "kernel.h"
#include "sink.h"

typedef struct fl_webp fl_webp;

/* NULL without memory. */
fl_webp *fl_webp_new(void);

/* NULL is allowed. */
void fl_webp_free(fl_webp *webp);

bool fl_webp_recognises(const uint8_t *blob, size_t size);

/* Decodes the parts of the picture that its view needs, of an animation those of its first frame,
 * and pushes them into the sink, which belongs to the caller. The message is left alone when all
 * is well. */
fl_status fl_webp_decode(fl_webp *webp, const uint8_t *blob, size_t size, fl_sink *sink,
                         fl_draw draw, void *picture, char message[FL_MESSAGE_BYTES]);

/* Of the libwebp that is loaded: 0x010204 for 1.2.4. */
int fl_webp_version(void);

#endif
