/* The chunks are walked here. libwebp alone reads still images only. libwebpdemux, which finds the
 * frames of an animation, allocates for every chunk before their number can be checked, and would
 * be a second library to link. */
#include "webp_file.h"

#include "exif.h"
#include "view.h"

#include <webp/decode.h>

#include <stdio.h>
#include <string.h>

#define CHUNK_HEADER 8
#define VP8X_BYTES 10
#define ANMF_BYTES 16

#define FLAG_ANIMATION 0x02
#define FLAG_EXIF 0x08
#define FLAG_ALPHA 0x10

typedef struct {
    const uint8_t *data;
    size_t size, at;  /* `at`: the position of the next chunk */
    uint32_t *budget; /* how many chunks may still be read */
} walk;

typedef struct {
    const uint8_t *tag, *payload;
    size_t size;   /* of the payload, as far as the blob has it */
    size_t extent; /* of the payload, as the chunk says */
} chunk;

typedef enum { CHUNK, NO_MORE, TOO_MANY } step;

/* Return the little-endian number in three or four bytes. */

static uint32_t le24(const uint8_t *p) {
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16;
}

static uint32_t le32(const uint8_t *p) { return le24(p) | (uint32_t)p[3] << 24; }

/* Returns whether the chunk has this tag. */
static bool is(const chunk *c, const char tag[4]) { return memcmp(c->tag, tag, 4) == 0; }

/* Reads the next chunk and moves past it. */
static step next_chunk(walk *w, chunk *c) {
    const size_t left = w->size - w->at;
    if (left < CHUNK_HEADER)
        return NO_MORE;
    if (*w->budget == 0)
        return TOO_MANY;
    --*w->budget;
    c->tag = w->data + w->at;
    c->payload = c->tag + CHUNK_HEADER;
    c->extent = le32(c->tag + 4);
    c->size = c->extent < left - CHUNK_HEADER ? c->extent : left - CHUNK_HEADER;
    /* Payloads are padded to an even size; the padding of the last one may be missing. */
    const size_t padded = c->size + (c->size & 1);
    w->at = padded < left - CHUNK_HEADER ? w->at + CHUNK_HEADER + padded : w->size;
    return CHUNK;
}

fl_status fl_webp_say(char message[FL_MESSAGE_BYTES], fl_status status, const char *words) {
    snprintf(message, FL_MESSAGE_BYTES, "%s", words);
    return status;
}

fl_status fl_webp_ends_early(char message[FL_MESSAGE_BYTES], size_t size) {
    snprintf(message, FL_MESSAGE_BYTES, "the blob of %zu bytes ends before any of the image comes",
             size);
    return FL_TRUNCATED;
}

/* Says that max_chunks is exceeded. Returns FL_TOO_COMPLEX. */
static fl_status too_many_chunks(const fl_options *o, char message[FL_MESSAGE_BYTES]) {
    snprintf(message, FL_MESSAGE_BYTES, "more than %u chunks", o->max_chunks);
    return FL_TOO_COMPLEX;
}

/* Sets s->data if chunk c holds the image itself. The data starts at chunk `alpha` if there is
 * one. */
static void take_if_bitstream(fl_webp_still *s, const chunk *c, const chunk *alpha) {
    if (!is(c, "VP8 ") && !is(c, "VP8L"))
        return;
    /* libwebp skips unknown chunks between the two. A VP8L image has its own alpha. */
    s->data = alpha->tag && is(c, "VP8 ") ? alpha->tag : c->tag;
    s->size = (size_t)(c->payload - s->data) + c->size;
    s->cut = c->size < c->extent;
}

/* Reads the image's own header, by which libwebp will allocate. WebPGetFeatures() reads no further
 * and allocates nothing. `size` is that of the blob. */
static fl_status read_features(fl_webp_still *s, WebPBitstreamFeatures *f, size_t size,
                               char message[FL_MESSAGE_BYTES]) {
    switch (WebPGetFeatures(s->data, s->size, f)) {
    case VP8_STATUS_OK:
        return FL_OK;
    case VP8_STATUS_NOT_ENOUGH_DATA:
    case VP8_STATUS_SUSPENDED:
        if (s->cut)
            return fl_webp_ends_early(message, size);
        return fl_webp_say(message, FL_CORRUPT, "a chunk is too short for the header of an image");
    case VP8_STATUS_UNSUPPORTED_FEATURE:
        return fl_webp_say(message, FL_UNSUPPORTED, "a kind of image that libwebp does not decode");
    default:
        return fl_webp_say(message, FL_CORRUPT, "the header of the image is broken");
    }
}

/* Looks for the image in the chunks of an ANMF chunk. */
static step find_frame(fl_webp_still *s, const chunk *frame, uint32_t *budget) {
    walk w = {frame->payload, frame->size, ANMF_BYTES, budget};
    chunk c, alpha = {0};
    step found = CHUNK;
    while (!s->data && (found = next_chunk(&w, &c)) == CHUNK) {
        if (is(&c, "ALPH"))
            alpha = c;
        take_if_bitstream(s, &c, &alpha);
    }
    return found;
}

fl_status fl_webp_find(fl_webp_still *s, const fl_options *o, const uint8_t *blob, size_t size,
                       char message[FL_MESSAGE_BYTES]) {
    memset(s, 0, sizeof *s);
    s->orientation = 1;
    /* Bytes after the RIFF chunk are not part of the image. */
    const size_t extent = (size_t)le32(blob + 4) + CHUNK_HEADER;
    const bool blob_ends = extent > size;
    uint32_t budget = o->max_chunks, flags = 0;
    walk w = {blob, blob_ends ? size : extent, FL_WEBP_HEADER_BYTES, &budget};
    if (w.size < FL_WEBP_HEADER_BYTES)
        return fl_webp_say(message, FL_CORRUPT, "the RIFF chunk is empty");
    chunk c, alpha = {0};
    bool extended = false, frame = false, exif = false;
    for (bool first = true;; first = false) {
        const step found = next_chunk(&w, &c);
        if (found == TOO_MANY)
            return too_many_chunks(o, message);
        if (found == NO_MORE)
            break;
        if (first && is(&c, "VP8X")) {
            if (c.size < VP8X_BYTES)
                break;
            extended = true;
            flags = c.payload[0];
            s->canvas_width = le24(c.payload + 4) + 1;
            s->canvas_height = le24(c.payload + 7) + 1;
            const fl_status status = fl_check_size(s->canvas_height, s->canvas_width, o, message);
            if (status != FL_OK)
                return status;
        } else if (first && !is(&c, "VP8 ") && !is(&c, "VP8L")) {
            return fl_webp_say(message, FL_CORRUPT, "the first chunk is not VP8, VP8L or VP8X");
        } else if (is(&c, "EXIF") && (flags & FLAG_EXIF) && !exif) {
            s->orientation = fl_exif_orientation(c.payload, c.size);
            exif = true;
        } else if (is(&c, "ANMF") && (flags & FLAG_ANIMATION) && !s->data) {
            if (c.size < ANMF_BYTES)
                break;
            frame = true;
            s->left = 2 * le24(c.payload);
            s->top = 2 * le24(c.payload + 3);
            s->width = le24(c.payload + 6) + 1;
            s->height = le24(c.payload + 9) + 1;
            if (find_frame(s, &c, &budget) == TOO_MANY)
                return too_many_chunks(o, message);
            s->cut = s->cut && c.size < c.extent;
            if (!s->data)
                break;
        } else if (is(&c, "ALPH") && !s->data) {
            alpha = c;
        } else if (!s->data && !(flags & FLAG_ANIMATION)) {
            take_if_bitstream(s, &c, &alpha);
        }
        /* EXIF data may come last, but only if the flag announces it. */
        if (s->data && (exif || !o->orientation || !(flags & FLAG_EXIF)))
            break;
    }
    s->cut = s->cut && blob_ends;
    if (!s->data)
        return blob_ends ? fl_webp_ends_early(message, size)
                         : fl_webp_say(message, FL_CORRUPT, "no chunk holds an image");

    WebPBitstreamFeatures f;
    const fl_status status = read_features(s, &f, size, message);
    if (status != FL_OK)
        return status;
    const uint32_t height = (uint32_t)f.height, width = (uint32_t)f.width;
    /* As in Pillow, which trusts the flag of an animation. */
    s->alpha = frame ? (flags & FLAG_ALPHA) != 0 : f.has_alpha != 0;
    if (!frame) {
        s->height = height;
        s->width = width;
    }
    if (!extended) {
        s->canvas_height = height;
        s->canvas_width = width;
    }
    if (s->height != height || s->width != width ||
        (!frame && (s->canvas_height != height || s->canvas_width != width))) {
        snprintf(message, FL_MESSAGE_BYTES,
                 "the image has %u x %u pixels, but its file says %u x %u", width, height,
                 frame ? s->width : s->canvas_width, frame ? s->height : s->canvas_height);
        return FL_CORRUPT;
    }
    /* Neither sum overflows: they add numbers of 25 and 24 bits. */
    if (s->left + s->width > s->canvas_width || s->top + s->height > s->canvas_height)
        return fl_webp_say(message, FL_CORRUPT, "the first frame extends past the canvas");
    return fl_check_size(s->canvas_height, s->canvas_width, o, message);
}
