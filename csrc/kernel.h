/* The whole C interface: an encoded picture in, rows of RGB pixels of one size out.
 *
 * Nothing here includes Python.h, so the kernel can be compiled, sanitised and fuzzed alone.
 * No function raises, jumps or exits across this boundary: what went wrong is a status, and
 * fl_decoder_message() says it in words. A decoder belongs to one thread at a time. */
#ifndef FL_KERNEL_H
#define FL_KERNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FL_CHANNELS 3

typedef enum {
    FL_OK = 0,
    FL_EMPTY,           /* a blob of no bytes */
    FL_UNKNOWN_FORMAT,  /* the first bytes are no format that the kernel decodes */
    FL_CORRUPT,         /* the decoder gave up */
    FL_TRUNCATED,       /* the blob ends before the picture does */
    FL_UNSUPPORTED,     /* well-formed, but of a kind that is not decoded */
    FL_TOO_MANY_PIXELS, /* fl_limits.max_pixels */
    FL_TOO_MANY_SCANS,  /* fl_limits.max_scans */
    FL_NO_MEMORY
} fl_status;

/* What a blob may ask for. Checked before the memory for it is allocated. */
typedef struct {
    uint64_t max_pixels; /* width * height of the encoded picture */
    uint32_t max_scans;  /* of a progressive JPEG: each one is a pass over all its coefficients */
} fl_limits;

typedef struct fl_decoder fl_decoder;

/* A decoder for pictures of `height` rows of `width` pixels, or NULL without memory.
 * `portable` keeps it from using the processor's vector instructions; the pixels are the same. */
fl_decoder *fl_decoder_new(uint32_t height, uint32_t width, fl_limits limits, bool portable);

/* NULL is allowed. */
void fl_decoder_free(fl_decoder *decoder);

/* Decodes `size` bytes at `blob` and resizes them into height * width * FL_CHANNELS bytes at
 * `pixels`. Only after FL_OK has every byte been written. The blob is borrowed for the call. */
fl_status fl_decode(fl_decoder *decoder, const uint8_t *blob, size_t size, uint8_t *pixels);

/* What the last fl_decode() of this decoder has to say, in UTF-8; "" after FL_OK. Valid until the
 * next call on the decoder. */
const char *fl_decoder_message(const fl_decoder *decoder);

/* The vector instructions in use: "avx2" or "portable". */
const char *fl_decoder_simd(const fl_decoder *decoder);

/* The JPEG library that the kernel was compiled against: "libjpeg-turbo 2.1.5". */
const char *fl_jpeg_version(void);

/* Whether the kernel was compiled with AddressSanitizer, so that a test run can insist on it. */
bool fl_sanitized(void);

#endif
