/* Decodes WebP into a sink, through libwebp, a window of rows at a time. */
#ifndef FL_WEBP_H
#define FL_WEBP_H

#include "kernel.h"
#include "sink.h"

typedef struct fl_webp fl_webp;

/* Returns a decoder that the caller frees, or NULL without memory. */
fl_webp *fl_webp_new(void);

/* NULL is allowed. */
void fl_webp_free(fl_webp *webp);

/* Returns whether the blob starts as a WebP file does. */
bool fl_webp_recognizes(const uint8_t *blob, size_t size);

/* Decodes the parts of the image that its view needs, or of the first frame of an animation, into
 * `sink`, which writes the finished image to `output`. Leaves `message` alone if the status is
 * FL_OK. The sink stays the caller's. */
fl_status fl_webp_decode(fl_webp *webp, const uint8_t *blob, size_t size, fl_sink *sink,
                         fl_draw draw, void *output, char message[FL_MESSAGE_BYTES]);

/* Returns the version of the loaded libwebp: 0x010204 for 1.2.4. */
int fl_webp_version(void);

#endif
