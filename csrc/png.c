/* Chunks and filters are our own, over fl_inflate. The 24 Kodak pictures (768x512, 641 kB) from blob
 * to 224x224 take 3.8 ms each on Zen 4: inflating 2.9, unfiltering 0.5, the rest resizing. libpng
 * takes 10.2 ms and libspng 11.5 for the decoding alone, most of it in zlib.
 *
 * Where files are not as they should be:
 * - The checksums of chunks that make the pixels have to be right (0.06 ms), as for libpng. Pillow
 *   does not look at IDAT's. zlib's own is not looked at: the chunks' cover the same bytes.
 *   EXIF data with a wrong checksum is passed over.
 * - Where the blob, the run of IDAT chunks or the zlib stream ends before the picture does, the rows
 *   that came are kept. Pillow refuses all three. Damaged compressed data is refused.
 * - What comes behind the last row that is needed is not inflated, and may be broken or missing. */
#include "png.h"

#include "exif.h"
#include "inflate.h"
#include "png_chunks.h"
#include "png_pixels.h"
#include "unfilter.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* So many bytes of rows are inflated at once, or one row where that is more. Small enough to stay
 * in the first-level cache until they are unfiltered. */
#define BATCH_BYTES ((size_t)32 << 10)

#define MID_GREY 128

/* No deflate stream holds more than 258 bytes in 2 bits. */
#define DEFLATE_RATIO 1032
#define SMALL_PIXELS ((uint64_t)1 << 22)

typedef struct {
    uint8_t *bytes;
    size_t have;
} memory;

struct fl_png {
    fl_inflate *inflate;
    memory batch, rows[2], line, picture;

    const uint8_t *blob; /* of this picture, as all below */
    size_t size, next;   /* where the next chunk begins */
    uint64_t compressed; /* bytes in all IDAT chunks */
    uint32_t width, height;
    bool interlaced;
    fl_png_pixels pixels;
    bool portable;
    char *message;

    /* The rows of one pass, or of the whole picture. */
    size_t row_bytes, useful_bytes; /* those that hold pixels left of needed.right */
    uint32_t rows_left;             /* still to be inflated */
    uint32_t rows_ready;            /* inflated, from `filtered` on */
    const uint8_t *filtered;
    fl_status stopped; /* why no more bytes come, FL_OK while they do */
    bool first;
    uint64_t rows_read; /* of all passes */
};

fl_png *fl_png_new(void) {
    fl_png *png = calloc(1, sizeof *png);
    if (png && !(png->inflate = fl_inflate_new())) {
        free(png);
        png = NULL;
    }
    return png;
}

void fl_png_free(fl_png *png) {
    if (!png)
        return;
    fl_inflate_free(png->inflate);
    free(png->batch.bytes);
    free(png->rows[0].bytes);
    free(png->rows[1].bytes);
    free(png->line.bytes);
    free(png->picture.bytes);
    free(png);
}

const char *fl_png_library(void) { return fl_inflate_library; }

__attribute__((format(printf, 3, 4))) static fl_status fail(const fl_png *png, fl_status status,
                                                            const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(png->message, FL_MESSAGE_BYTES, format, arguments);
    va_end(arguments);
    return status;
}

/* ---- chunks ------------------------------------------------------------------------------------ */

#define IHDR FL_PNG_TYPE('I', 'H', 'D', 'R')
#define PLTE FL_PNG_TYPE('P', 'L', 'T', 'E')
#define TRNS FL_PNG_TYPE('t', 'R', 'N', 'S')
#define EXIF FL_PNG_TYPE('e', 'X', 'I', 'f')
#define IDAT FL_PNG_TYPE('I', 'D', 'A', 'T')
#define IEND FL_PNG_TYPE('I', 'E', 'N', 'D')

bool fl_png_recognises(const uint8_t *blob, size_t size) { return fl_png_is_signed(blob, size); }

static fl_png_found read_chunk(const fl_png *png, size_t *next, fl_png_chunk *c) {
    return fl_png_chunk_read(png->blob, png->size, next, c);
}

static fl_status blob_ends(const fl_png *png) {
    return fail(png, FL_TRUNCATED, "the blob of %zu bytes ends before the picture begins",
                png->size);
}

static fl_status bad_checksum(const fl_png *png, const char *type) {
    return fail(png, FL_CORRUPT, "PNG: the checksum of %s is wrong", type);
}

/* The header is checked before anything is allocated by its numbers. */
static fl_status read_header(fl_png *png, const fl_options *options) {
    fl_png_chunk c;
    png->next = FL_PNG_SIGNATURE_BYTES;
    const fl_png_found status = read_chunk(png, &png->next, &c);
    if (status == FL_PNG_BLOB_ENDS || (status == FL_PNG_CHUNK && c.type == IHDR && !c.whole))
        return blob_ends(png);
    if (status == FL_PNG_NO_CHUNK || c.type != IHDR || c.size != 13)
        return fail(png, FL_CORRUPT, "PNG: the first chunk is no header");
    if (!fl_png_chunk_is_intact(&c))
        return bad_checksum(png, "IHDR");
    png->width = fl_png_number(c.data);
    png->height = fl_png_number(c.data + 4);
    png->interlaced = c.data[12] == 1;
    if (png->width == 0 || png->width > FL_PNG_MOST || png->height == 0 || png->height > FL_PNG_MOST)
        return fail(png, FL_CORRUPT, "PNG: %u x %u pixels", png->width, png->height);
    if (!fl_png_pixels_set(&png->pixels, c.data[8], c.data[9]))
        return fail(png, FL_CORRUPT, "PNG: bit depth %u with colour type %u", c.data[8], c.data[9]);
    if (c.data[10] != 0 || c.data[11] != 0 || c.data[12] > 1)
        return fail(png, FL_CORRUPT, "PNG: compression %u, filter %u, interlace %u", c.data[10],
                    c.data[11], c.data[12]);
    const uint64_t pixels = (uint64_t)png->width * png->height;
    if (pixels > options->max_pixels)
        return fail(png, FL_TOO_MANY_PIXELS, "%u x %u pixels, the limit is %llu", png->width,
                    png->height, (unsigned long long)options->max_pixels);
    return FL_OK;
}

/* Looks at the heads of all chunks, so that max_chunks is about the whole file and EXIF data is
 * found behind the picture too, where PNG allows it. Leaves png->next at the first IDAT. What comes
 * behind it is nobody's concern if it is broken. */
static fl_status survey(fl_png *png, const fl_options *options, unsigned *orientation) {
    fl_png_chunk c, palette = {0}, transparency = {0};
    fl_png_found status = FL_PNG_CHUNK;
    size_t next = png->next, picture = 0;
    png->compressed = 0;
    *orientation = 1;
    for (uint32_t count = 2;; count++) {
        const size_t at = next;
        status = read_chunk(png, &next, &c);
        if (status != FL_PNG_CHUNK || c.type == IEND)
            break;
        if (count > options->max_chunks)
            return fail(png, FL_TOO_COMPLEX, "more than %u chunks", options->max_chunks);
        if (c.type == IDAT) {
            picture = picture ? picture : at;
            png->compressed += c.size;
        } else if (c.type == EXIF) {
            if (fl_png_chunk_is_intact(&c))
                *orientation = fl_exif_orientation(c.data, c.size);
        } else if (c.whole && !picture && c.type == PLTE) {
            palette = c;
        } else if (c.whole && !picture && c.type == TRNS) {
            transparency = c;
        }
    }
    if (!picture && status == FL_PNG_BLOB_ENDS)
        return blob_ends(png);
    if (!picture)
        return fail(png, FL_CORRUPT, "PNG: no IDAT");
    png->next = picture;
    if (palette.data && !fl_png_chunk_is_intact(&palette))
        return bad_checksum(png, "PLTE");
    if (transparency.data && !fl_png_chunk_is_intact(&transparency))
        return bad_checksum(png, "tRNS");
    if (png->pixels.colour == FL_PNG_PALETTE &&
        !fl_png_pixels_palette(&png->pixels, palette.data, palette.size))
        return fail(png, FL_CORRUPT, "PNG: a palette of %zu bytes", palette.size);
    if (transparency.data)
        fl_png_pixels_transparency(&png->pixels, transparency.data, transparency.size);
    /* So that a few bytes cannot claim gigabytes and seconds. Half of a small picture is still
     * welcome, however little of it there is. */
    const uint64_t pixels = (uint64_t)png->width * png->height;
    if (pixels > SMALL_PIXELS &&
        pixels / DEFLATE_RATIO / 8 * png->pixels.pixel_bits > png->compressed)
        return fail(png, FL_TRUNCATED, "PNG: %llu compressed bytes for %u x %u pixels",
                    (unsigned long long)png->compressed, png->width, png->height);
    return FL_OK;
}

/* ---- rows as they are stored ------------------------------------------------------------------- */

/* FL_TRUNCATED: no more comes. */
static fl_status feed(fl_png *png) {
    fl_png_chunk c;
    const fl_png_found status = read_chunk(png, &png->next, &c);
    if (status == FL_PNG_NO_CHUNK)
        return fail(png, FL_CORRUPT, "PNG: no chunk at byte %zu", png->next);
    if (status == FL_PNG_BLOB_ENDS)
        return fail(png, FL_TRUNCATED, "the blob of %zu bytes ends", png->size);
    if (c.type != IDAT)
        return fail(png, FL_TRUNCATED, "the compressed data ends");
    if (c.whole && !fl_png_chunk_is_intact(&c))
        return bad_checksum(png, "IDAT");
    fl_inflate_feed(png->inflate, c.data, c.size);
    return FL_OK;
}

/* Adds to *got what came, whatever the status. */
static fl_status inflate_bytes(fl_png *png, uint8_t *to, size_t size, size_t *got) {
    for (;;) {
        const size_t before = *got;
        const fl_inflate_status status = fl_inflate_read(png->inflate, to, size, got);
        to += *got - before;
        size -= *got - before;
        switch (status) {
        case FL_INFLATE_FULL:
            return FL_OK;
        case FL_INFLATE_END:
            return fail(png, FL_TRUNCATED, "the compressed data ends");
        case FL_INFLATE_BAD:
            return fail(png, FL_CORRUPT, "PNG: the compressed data is broken");
        case FL_INFLATE_HUNGRY: {
            const fl_status fed = feed(png);
            if (fed != FL_OK)
                return fed;
            break;
        }
        }
    }
}

static size_t bytes_of(const fl_png *png, uint32_t pixels) {
    return (size_t)(((uint64_t)pixels * png->pixels.pixel_bits + 7) / 8);
}

/* At least `bytes` bytes; what was there is lost if it was too small. */
static bool reserve(memory *m, uint64_t bytes) {
    if (m->have >= bytes)
        return true;
    free(m->bytes);
    m->bytes = bytes <= PTRDIFF_MAX ? malloc((size_t)bytes) : NULL;
    m->have = m->bytes ? (size_t)bytes : 0;
    return m->bytes != NULL;
}

/* Room for rows of the whole width, after which no pass needs more. */
static bool reserve_rows(fl_png *png) {
    const uint64_t row = ((uint64_t)png->width * png->pixels.pixel_bits + 7) / 8;
    const uint64_t filtered = 1 + row;
    return reserve(&png->rows[0], row + FL_UNFILTER_SLACK) &&
           reserve(&png->rows[1], row + FL_UNFILTER_SLACK) &&
           reserve(&png->batch,
                   (filtered > BATCH_BYTES ? filtered : BATCH_BYTES) + FL_UNFILTER_SLACK);
}

/* Rows of `width` pixels follow; only `useful` of them are looked at, and only so many rows. */
static void begin_rows(fl_png *png, uint32_t width, uint32_t useful, uint32_t rows) {
    png->row_bytes = bytes_of(png, width);
    png->useful_bytes = bytes_of(png, useful);
    png->rows_left = rows;
    png->rows_ready = 0;
    png->first = true;
}

/* Inflates some more rows, never beyond those that are needed. */
static fl_status inflate_rows(fl_png *png) {
    const size_t stride = 1 + png->row_bytes, most = (png->batch.have - FL_UNFILTER_SLACK) / stride;
    const size_t rows = png->rows_left < most ? png->rows_left : most;
    size_t got = 0;
    if (png->stopped == FL_OK)
        png->stopped = inflate_bytes(png, png->batch.bytes, rows * stride, &got);
    png->filtered = png->batch.bytes;
    png->rows_ready = (uint32_t)(got / stride);
    png->rows_left -= png->rows_ready;
    return png->rows_ready > 0 ? FL_OK : png->stopped;
}

/* The next row of samples, valid until the one after the next. */
static fl_status read_row(fl_png *png, const uint8_t **row) {
    const fl_status status = png->rows_ready > 0 ? FL_OK : inflate_rows(png);
    if (status != FL_OK)
        return status;
    const unsigned filter = png->filtered[0];
    if (filter > 4)
        return fail(png, FL_CORRUPT, "PNG: filter %u of row %llu", filter,
                    (unsigned long long)png->rows_read);
    uint8_t *const above = png->rows[png->rows_read % 2].bytes;
    uint8_t *const to = png->rows[(png->rows_read + 1) % 2].bytes;
    if (png->first)
        memset(above, 0, png->useful_bytes + FL_UNFILTER_SLACK);
    const size_t pixel_bytes = png->pixels.pixel_bits < 8 ? 1 : png->pixels.pixel_bits / 8;
    fl_unfilter(filter, pixel_bytes, png->useful_bytes, png->filtered + 1, above, to,
                png->portable);
    png->first = false;
    png->filtered += 1 + png->row_bytes;
    png->rows_ready--;
    png->rows_read++;
    *row = to;
    return FL_OK;
}

/* ---- rows into the sink ------------------------------------------------------------------------ */

static fl_status read_straight(fl_png *png, fl_sink *sink) {
    const fl_region needed = sink->needed;
    begin_rows(png, png->width, needed.right, needed.bottom);
    for (uint32_t y = 0; !fl_sink_done(sink); y++) {
        const uint8_t *row;
        const fl_status status = read_row(png, &row);
        if (status != FL_OK)
            return status;
        if (y < needed.top)
            continue;
        fl_png_pixels_rgba(&png->pixels, row, needed.left, needed.right, fl_sink_rgba(sink));
        fl_sink_push_rgba(sink, png->pixels.alpha);
    }
    return FL_OK;
}

/* Adam7: pass p holds pixels top + i * down, left + j * across. */
static const struct {
    uint8_t top, left, down, across;
} passes[7] = {{0, 0, 8, 8}, {0, 4, 8, 8}, {4, 0, 8, 4}, {0, 2, 4, 4},
               {2, 0, 4, 2}, {0, 1, 2, 2}, {1, 0, 2, 1}};

/* How many of first, first + step, ... are below `end`. */
static uint32_t steps(uint32_t end, uint32_t first, uint32_t step) {
    return end <= first ? 0 : (end - first - 1) / step + 1;
}

/* Into png->picture, which holds the needed part. After FL_TRUNCATED pixels that did not come are
 * mid-grey. */
static fl_status read_passes(fl_png *png, const fl_region *needed, bool strict) {
    const size_t columns = needed->right - needed->left;
    fl_status status = FL_OK;
    for (uint32_t p = 0; p < 7; p++) {
        const uint32_t left = passes[p].left, across = passes[p].across;
        const uint32_t begin = steps(needed->left, left, across);
        const uint32_t end = steps(needed->right, left, across);
        const uint32_t width = steps(png->width, left, across);
        /* Rows of the last pass can be left out; the others are in its way. */
        const uint32_t bottom = p < 6 ? png->height : needed->bottom;
        const uint32_t rows = steps(bottom, passes[p].top, passes[p].down);
        if (width == 0)
            continue;
        begin_rows(png, width, end, rows);
        for (uint32_t i = 0; i < rows; i++) {
            const uint32_t y = passes[p].top + i * passes[p].down;
            const uint8_t *row = NULL;
            if (status == FL_OK)
                status = read_row(png, &row);
            if (status != FL_OK && (status != FL_TRUNCATED || strict || png->rows_read == 0))
                return status;
            if (y < needed->top || y >= needed->bottom)
                continue;
            uint8_t *line = png->line.bytes;
            if (row)
                fl_png_pixels_rgba(&png->pixels, row, begin, end, line);
            uint8_t *to = png->picture.bytes + (size_t)(y - needed->top) * columns * 4;
            for (uint32_t j = begin; j < end; j++, line += 4) {
                static const uint8_t grey[4] = {MID_GREY, MID_GREY, MID_GREY, 255};
                memcpy(to + ((size_t)left + (size_t)j * across - needed->left) * 4,
                       row ? line : grey, 4);
            }
        }
    }
    return status;
}

static fl_status read_interlaced(fl_png *png, fl_sink *sink) {
    const fl_region needed = sink->needed;
    const uint64_t columns = needed.right - needed.left;
    const uint64_t pixels = columns * (needed.bottom - needed.top);
    if (!reserve(&png->line, columns * 4) || pixels > PTRDIFF_MAX / 4 ||
        !reserve(&png->picture, pixels * 4))
        return fail(png, FL_NO_MEMORY, "no memory for %llu pixels", (unsigned long long)pixels);
    const fl_status status = read_passes(png, &needed, sink->options->strict);
    if (status == FL_OK || (status == FL_TRUNCATED && png->rows_read > 0 && !sink->options->strict))
        for (uint64_t y = 0; !fl_sink_done(sink); y++) {
            memcpy(fl_sink_rgba(sink), png->picture.bytes + (size_t)(y * columns * 4),
                   (size_t)columns * 4);
            fl_sink_push_rgba(sink, png->pixels.alpha);
        }
    return status;
}

/* ---- the whole --------------------------------------------------------------------------------- */

/* Rows in all passes together. */
static uint64_t rows_of(const fl_png *png) {
    uint64_t rows = 0;
    if (!png->interlaced)
        return png->height;
    for (int p = 0; p < 7; p++)
        if (png->width > passes[p].left)
            rows += steps(png->height, passes[p].top, passes[p].down);
    return rows;
}

fl_status fl_png_decode(fl_png *png, const uint8_t *blob, size_t size, fl_sink *sink, fl_draw draw,
                        void *picture, char message[FL_MESSAGE_BYTES]) {
    const fl_options *options = sink->options;
    png->blob = blob;
    png->size = size;
    png->portable = options->portable;
    png->message = message;
    png->rows_read = 0;
    png->stopped = FL_OK;

    unsigned orientation;
    fl_status status = read_header(png, options);
    if (status == FL_OK)
        status = survey(png, options, &orientation);
    if (status != FL_OK)
        return status;

    fl_view view;
    fl_view_set(&view, options, png->height, png->width, orientation, draw);
    if (!reserve_rows(png) ||
        fl_sink_begin(sink, &view, png->height, png->width, picture) != FL_OK ||
        fl_sink_open(sink, sink->needed.left, sink->needed.right) != FL_OK)
        return fail(png, FL_NO_MEMORY, "no memory for rows of %u pixels", png->width);

    fl_inflate_start(png->inflate);
    status = png->interlaced ? read_interlaced(png, sink) : read_straight(png, sink);
    if (status != FL_TRUNCATED)
        return status;

    /* The message so far says what ended. */
    char cause[64];
    snprintf(cause, sizeof cause, "%s", message);
    fail(png, status, "%s before the picture does; %llu of %llu rows came", cause,
         (unsigned long long)png->rows_read, (unsigned long long)rows_of(png));
    if (png->rows_read == 0 || options->strict)
        return FL_TRUNCATED;
    fl_sink_end_early(sink);
    return FL_PARTIAL;
}
