/* The container of a WebP picture: finds the picture, or the first frame, in a file's chunks. */
#ifndef FL_WEBP_FILE_H
#define FL_WEBP_FILE_H

#include "kernel.h"

#define FL_WEBP_HEADER_BYTES 12 /* "RIFF", a size, "WEBP" */

typedef struct {
    uint32_t canvas_height, canvas_width;
    uint32_t top, left, height, width; /* of the picture, or first frame, on the canvas */
    bool alpha;
    unsigned orientation;
    const uint8_t *data; /* the chunks ALPH, if there is one, and VP8 or VP8L */
    size_t size;
    bool cut; /* the blob ends before these do */
} fl_webp_still;

/* Of a blob that begins with the header. Checks the options' limits, and that the picture is as
 * large as libwebp will find it; allocates nothing. Writes `message` unless FL_OK. */
fl_status fl_webp_find(fl_webp_still *s, const fl_options *options, const uint8_t *blob,
                       size_t size, char message[FL_MESSAGE_BYTES]);

/* Writes the words and returns the status. */
fl_status fl_webp_say(char message[FL_MESSAGE_BYTES], fl_status status, const char *words);

/* FL_TRUNCATED: no row of the picture came. */
fl_status fl_webp_ends_early(char message[FL_MESSAGE_BYTES], size_t size);

#endif
