/* Finds the still image, or the first frame of an animation, in the chunks of a WebP file. */
#ifndef FL_WEBP_FILE_H
#define FL_WEBP_FILE_H

#include "kernel.h"

#define FL_WEBP_HEADER_BYTES 12 /* "RIFF", a size, "WEBP" */

typedef struct {
    uint32_t canvas_height, canvas_width;
    uint32_t top, left, height, width; /* of the still image or first frame, on the canvas */
    bool alpha;
    unsigned orientation; /* EXIF's, 1 to 8 */
    const uint8_t *data;  /* the chunks ALPH, if there is one, and VP8 or VP8L; borrowed */
    size_t size;
    bool cut; /* the blob ends before these chunks do */
} fl_webp_still;

/* Reads a blob that starts with the header. Checks the limits of the options, and that the image
 * has the size that libwebp will find. Allocates nothing. Writes `message` unless the status is
 * FL_OK. */
fl_status fl_webp_find(fl_webp_still *s, const fl_options *options, const uint8_t *blob,
                       size_t size, char message[FL_MESSAGE_BYTES]);

/* Writes the words and returns the status. */
fl_status fl_webp_say(char message[FL_MESSAGE_BYTES], fl_status status, const char *words);

/* Says that the blob ends before any row of the image. Returns FL_TRUNCATED. */
fl_status fl_webp_ends_early(char message[FL_MESSAGE_BYTES], size_t size);

#endif
