/* The whole C interface: an encoded image goes in, and an image of the wanted size, layout and type
 * comes out.
 *
 * Words: a blob is an encoded image. A source image is what it decodes to, at its own size. An
 * output image is what the caller gets.
 *
 * Nothing here includes Python.h, so the kernel can be compiled, sanitized and fuzzed alone. No
 * function raises, jumps or exits across this boundary: a status tells what went wrong, and
 * fl_decoder_message() says it in words. A decoder belongs to one thread at a time. */
#ifndef FL_KERNEL_H
#define FL_KERNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Room for the longest message of any library (libjpeg's JMSG_LENGTH_MAX is 200) and our own. */
#define FL_MESSAGE_BYTES 256

typedef enum {
    FL_OK = 0,
    FL_PARTIAL,         /* decoded, but the blob ends early or is damaged: missing parts are gray */
    FL_EMPTY,           /* the blob has no bytes */
    FL_UNKNOWN_FORMAT,  /* the kernel decodes no format that starts like this */
    FL_CORRUPT,         /* the decoder gave up */
    FL_TRUNCATED,       /* the blob ends before the first row, or anywhere if fl_options.strict */
    FL_UNSUPPORTED,     /* well-formed, but of a kind that is not decoded */
    FL_TOO_MANY_PIXELS, /* above fl_options.max_pixels */
    FL_TOO_COMPLEX,     /* above fl_options.max_scans or max_chunks, or too much work altogether */
    FL_NO_MEMORY,
    FL_OTHER_VALUES /* FL_NEAREST, and decoding would change the stored values */
} fl_status;

typedef enum { FL_STRETCH = 0, FL_CROP, FL_PAD, FL_RANDOM_CROP } fl_fit;
typedef enum { FL_NEAREST = 0, FL_BOX, FL_BILINEAR, FL_BICUBIC, FL_LANCZOS } fl_filter_kind;
typedef enum { FL_NHWC = 0, FL_NCHW } fl_layout;
typedef enum { FL_UINT8 = 0, FL_FLOAT32, FL_FLOAT16, FL_BFLOAT16 } fl_dtype;

typedef struct {
    uint32_t height, width; /* of the output image, 1 to 65535 */
    uint32_t channels;      /* 3: red, green, blue; 1: luma */
    bool luma_later;        /* the caller converts RGB to luma: FL_NEAREST then acts as for luma */

    fl_fit fit;
    double crop_fraction; /* FL_CROP: of the largest box with the output image's proportions */
    double scale[2];      /* FL_RANDOM_CROP: least and greatest share of the source image's area */
    double ratio[2];      /* FL_RANDOM_CROP: least and greatest width / height of the box */
    bool flip;            /* mirror half of the images, left to right */
    uint64_t seed;        /* of the random crops and flips */
    fl_filter_kind filter;
    bool orientation; /* turn the image as its EXIF data asks */

    bool fast;             /* decode a JPEG or WebP at a reduced size, with cheaper arithmetic */
    bool compose;          /* compose alpha over `background`; otherwise alpha is dropped */
    uint8_t background[3]; /* also what FL_PAD pads with */

    fl_layout layout;
    fl_dtype dtype;
    double mean[3], std[3]; /* the float types hold (level / 255 - mean) / std */

    bool strict;         /* return FL_TRUNCATED instead of FL_PARTIAL */
    uint64_t max_pixels; /* width * height of the source image */
    uint32_t max_scans;  /* of a JPEG: each scan is a pass over all its coefficients */
    uint32_t max_chunks; /* of a PNG or WebP file */
    bool portable;       /* use no vector instructions; the pixels are the same */
    bool timed;          /* keep fl_times */
} fl_options;

/* What random crops and flips are a function of, with the seed: the same numbers, the same crop. */
typedef struct {
    uint64_t row, epoch;
} fl_draw;

/* A source image that is decoded already: height rows of width pixels, one after the other. */
typedef struct {
    uint32_t height, width;
    const uint8_t *pixels; /* borrowed for the call */
    uint32_t channels;     /* 3: red, green, blue; 4: and alpha */
    bool alpha;            /* if false, a fourth byte means nothing */
    unsigned orientation;  /* EXIF's, 1 to 8 */
    /* The size before the image was resized to this, or 0. Random crops are boxes of that size. */
    uint32_t original_height, original_width;
} fl_raw;

/* Nanoseconds spent so far, if fl_options.timed. The rest of `total` is decoding. */
typedef struct {
    uint64_t total, resize, write;
} fl_times;

/* What the kernel decodes. */
typedef enum { FL_JPEG, FL_PNG, FL_WEBP, FL_FORMATS } fl_format;

/* What the head of a blob says. */
typedef struct {
    fl_format format;
    uint32_t height, width; /* of the source image, turned as EXIF asks */
    unsigned orientation;   /* EXIF's, 1 to 8; 1 if fl_options.orientation is false */
} fl_head;

/* The decoded images of a format: their number, the bytes of their blobs, the pixels of the source
 * images, and the pixels of the largest one. */
typedef struct {
    uint64_t decoded, bytes, pixels, largest;
} fl_images;

typedef struct fl_decoder fl_decoder;

/* Returns a decoder that the caller frees; NULL without memory or if an option is out of its range.
 * Copies the options. */
fl_decoder *fl_decoder_new(const fl_options *options);

/* NULL is allowed. */
void fl_decoder_free(fl_decoder *decoder);

/* Returns the bytes of an output image: height * width * channels * bytes of the type. */
size_t fl_image_bytes(const fl_decoder *decoder);

/* Decodes `size` bytes at `blob` into fl_image_bytes() bytes at `output`, which is aligned for the
 * type. Every byte of it is written only if the status is FL_OK or FL_PARTIAL. The blob is borrowed
 * for the call. */
fl_status fl_decode(fl_decoder *decoder, const uint8_t *blob, size_t size, fl_draw draw,
                    void *output);

/* Reads only as much of a blob as tells its format, size and orientation, with the checks that
 * fl_decode() makes before it decodes. Writes `head` if the status is FL_OK. */
fl_status fl_look(fl_decoder *decoder, const uint8_t *blob, size_t size, fl_head *head);

/* As fl_decode(), from decoded pixels. */
fl_status fl_resize(fl_decoder *decoder, const fl_raw *raw, fl_draw draw, void *output);

/* Writes the height and width of the last source image, turned as EXIF asks. */
void fl_decoder_seen(const fl_decoder *decoder, uint32_t size[2]);

/* Returns what the last call on this decoder has to say, in UTF-8; "" after FL_OK. Valid until the
 * next call. */
const char *fl_decoder_message(const fl_decoder *decoder);

/* Returns the times so far; zeros unless fl_options.timed. */
fl_times fl_decoder_times(const fl_decoder *decoder);

/* Returns the CRC-32 of zlib, PNG and Ethernet. `crc` is that of the bytes before, 0 at first. */
uint32_t fl_crc32(uint32_t crc, const uint8_t *bytes, size_t size);

/* Returns what has been decoded since the last call for this format. */
fl_images fl_decoder_take_images(fl_decoder *decoder, fl_format format);

/* Returns the vector instructions in use: "avx2", "neon" or "portable". */
const char *fl_decoder_simd(const fl_decoder *decoder);

/* Writes the names and versions of the libraries in use: "libjpeg-turbo 2.1.5, ...". */
void fl_libraries(char text[FL_MESSAGE_BYTES]);

/* Returns whether the loaded libraries match the headers that this was compiled with. Writes
 * `message` if not. */
bool fl_libraries_fit(char message[FL_MESSAGE_BYTES]);

/* Returns whether the kernel was compiled with AddressSanitizer, so that a test run can insist on
 * it. */
bool fl_sanitized(void);

#endif
