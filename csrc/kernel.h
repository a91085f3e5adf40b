/* The whole C interface: an encoded picture in, one picture of the wanted size, layout and type
 * out.
 *
 * Nothing here includes Python.h, so the kernel can be compiled, sanitised and fuzzed alone.
 * No function raises, jumps or exits across this boundary: what went wrong is a status, and
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
    FL_PARTIAL,        /* decoded, but the blob ends early or is damaged: what is missing is grey */
    FL_EMPTY,          /* a blob of no bytes */
    FL_UNKNOWN_FORMAT, /* the first bytes are no format that the kernel decodes */
    FL_CORRUPT,        /* the decoder gave up */
    FL_TRUNCATED,      /* the blob ends before a row of the picture came, or fl_options.strict */
    FL_UNSUPPORTED,    /* well-formed, but of a kind that is not decoded */
    FL_TOO_MANY_PIXELS, /* fl_options.max_pixels */
    FL_TOO_COMPLEX,     /* fl_options.max_scans or max_chunks, or too much work altogether */
    FL_NO_MEMORY,
    FL_OTHER_VALUES /* FL_NEAREST, and the values that are stored would become others */
} fl_status;

typedef enum { FL_STRETCH = 0, FL_CROP, FL_PAD, FL_RANDOM_CROP } fl_fit;
typedef enum { FL_NEAREST = 0, FL_BOX, FL_BILINEAR, FL_BICUBIC, FL_LANCZOS } fl_filter_kind;
typedef enum { FL_NHWC = 0, FL_NCHW } fl_layout;
typedef enum { FL_UINT8 = 0, FL_FLOAT32, FL_FLOAT16, FL_BFLOAT16 } fl_dtype;

typedef struct {
    uint32_t height, width; /* of the picture that is wanted, 1 to 65535 */
    uint32_t channels;      /* 3: red, green, blue; 1: luma */
    bool luma_later;        /* the caller makes luma of the colors: with FL_NEAREST as channels 1 */

    fl_fit fit;
    double crop_fraction; /* FL_CROP: of the largest box with the wanted picture's proportions */
    double scale[2];      /* FL_RANDOM_CROP: least and greatest share of the picture's area */
    double ratio[2];      /* FL_RANDOM_CROP: least and greatest width / height of the box */
    bool flip;            /* left to right, one time in two */
    uint64_t seed;        /* of the random crops and flips */
    fl_filter_kind filter;
    bool orientation; /* turn the picture as its EXIF data asks for */

    bool fast;             /* decode a JPEG or WebP at a reduced size, with cheaper arithmetic */
    bool compose;          /* alpha over `background`; otherwise alpha is dropped */
    uint8_t background[3]; /* also what FL_PAD pads with */

    fl_layout layout;
    fl_dtype dtype;
    double mean[3], std[3]; /* of the float types: (level / 255 - mean) / std */

    bool strict;         /* where it would be FL_PARTIAL it is FL_TRUNCATED, whatever came of it */
    uint64_t max_pixels; /* width * height of the encoded picture */
    uint32_t max_scans;  /* of a JPEG: each one is a pass over all its coefficients */
    uint32_t max_chunks; /* of a PNG or WebP file */
    bool portable;       /* no vector instructions; the pixels are the same */
    bool timed;          /* keep fl_times */
} fl_options;

/* Which picture this is, for the random crops and flips: the same numbers, the same crop. */
typedef struct {
    uint64_t row, epoch;
} fl_draw;

/* Pixels that are decoded already: height rows of width pixels, one after the other. */
typedef struct {
    uint32_t height, width;
    const uint8_t *pixels;
    uint32_t channels;    /* 3: red, green, blue; 4: and alpha */
    bool alpha;           /* false: the fourth byte says nothing */
    unsigned orientation; /* EXIF's, 1 to 8 */
    /* The size that it had before it was resized to this, or 0: a random crop is a box of that. */
    uint32_t original_height, original_width;
} fl_raw;

/* Nanoseconds spent so far, where fl_options.timed. What is not here is the decoder's own. */
typedef struct {
    uint64_t total, resize, write;
} fl_times;

/* What the kernel decodes. */
typedef enum { FL_JPEG, FL_PNG, FL_WEBP, FL_FORMATS } fl_format;

/* Decoded pictures of a format: how many, the bytes of their blobs, their pixels before the resize,
 * and those of the largest. */
typedef struct {
    uint64_t decoded, bytes, pixels, largest;
} fl_pictures;

typedef struct fl_decoder fl_decoder;

/* NULL without memory, or where an option is out of its range. */
fl_decoder *fl_decoder_new(const fl_options *options);

/* NULL is allowed. */
void fl_decoder_free(fl_decoder *decoder);

/* Bytes of a finished picture: height * width * channels * those of the type. */
size_t fl_picture_bytes(const fl_decoder *decoder);

/* Decodes `size` bytes at `blob` into fl_picture_bytes() bytes at `picture`, which is aligned for
 * the type. Only after FL_OK and FL_PARTIAL has every byte been written. The blob is borrowed for
 * the call. */
fl_status fl_decode(fl_decoder *decoder, const uint8_t *blob, size_t size, fl_draw draw,
                    void *picture);

/* The same from pixels. */
fl_status fl_resize(fl_decoder *decoder, const fl_raw *raw, fl_draw draw, void *picture);

/* Height and width of the last picture, turned as it is to be seen. */
void fl_decoder_seen(const fl_decoder *decoder, uint32_t size[2]);

/* What the last call on this decoder has to say, in UTF-8; "" after FL_OK. Valid until the next. */
const char *fl_decoder_message(const fl_decoder *decoder);

fl_times fl_decoder_times(const fl_decoder *decoder);

/* The CRC-32 of zlib, PNG and Ethernet, of bytes that follow those whose it is `crc`; 0 to begin.
 */
uint32_t fl_crc32(uint32_t crc, const uint8_t *bytes, size_t size);

/* What has been decoded since the last call. */
fl_pictures fl_decoder_take_pictures(fl_decoder *decoder, fl_format format);

/* The vector instructions in use: "avx2", "neon" or "portable". */
const char *fl_decoder_simd(const fl_decoder *decoder);

/* Writes the names and versions of the libraries in use: "libjpeg-turbo 2.1.5, ...". */
void fl_libraries(char text[FL_MESSAGE_BYTES]);

/* Whether they can be used as this was compiled. Writes `message` if not. */
bool fl_libraries_fit(char message[FL_MESSAGE_BYTES]);

/* Whether the kernel was compiled with AddressSanitizer, so that a test run can insist on it. */
bool fl_sanitized(void);

#endif
