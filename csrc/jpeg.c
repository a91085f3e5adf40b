/* libjpeg's defaults are what "exact" means here, and what Pillow uses: accurate integer DCT,
 * fancy upsampling. Both libjpeg-turbo 2.1 and 3.x serve; only the classic 8-bit calls are used. */
#include "jpeg.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>

#include <jerror.h>

#define QUOTE(x) #x
#define STRING(x) QUOTE(x)
#ifdef LIBJPEG_TURBO_VERSION
const char fl_jpeg_library[] = "libjpeg-turbo " STRING(LIBJPEG_TURBO_VERSION);
#else
const char fl_jpeg_library[] = "libjpeg " STRING(JPEG_LIB_VERSION);
#endif

struct fl_jpeg {
    struct jpeg_decompress_struct cinfo;
    struct jpeg_error_mgr errors;
    struct jpeg_source_mgr source;
    struct jpeg_progress_mgr progress;
    jmp_buf stop;
    fl_status status; /* why `stop` was jumped to */
    uint32_t max_scans;
    bool exhausted; /* the decoder asked for bytes past the end of the blob */
    bool starved;   /* entropy-coded data ended early; the rest of the picture is made up */
};

/* ---- libjpeg's callbacks ---------------------------------------------------------------- */

static void error_exit(j_common_ptr cinfo) {
    fl_jpeg *jpeg = cinfo->client_data;
    if (jpeg->status == FL_OK)
        jpeg->status = cinfo->err->msg_code == JERR_OUT_OF_MEMORY ? FL_NO_MEMORY : FL_CORRUPT;
    longjmp(jpeg->stop, 1);
}

static void emit_message(j_common_ptr cinfo, int level) {
    fl_jpeg *jpeg = cinfo->client_data;
    if (level < 0 && cinfo->err->msg_code == JWRN_HIT_MARKER)
        jpeg->starved = true;
}

static void output_message(j_common_ptr cinfo) { (void)cinfo; }

static void init_source(j_decompress_ptr cinfo) { (void)cinfo; }

/* Past the end of the blob libjpeg is fed end-of-image markers, so that it comes to an end. */
static boolean fill_input_buffer(j_decompress_ptr cinfo) {
    static const JOCTET end[2] = {0xFF, JPEG_EOI};
    fl_jpeg *jpeg = cinfo->client_data;
    jpeg->exhausted = true;
    cinfo->src->next_input_byte = end;
    cinfo->src->bytes_in_buffer = sizeof end;
    return TRUE;
}

static void skip_input_data(j_decompress_ptr cinfo, long count) {
    if (count <= 0)
        return;
    if ((size_t)count > cinfo->src->bytes_in_buffer) {
        fill_input_buffer(cinfo);
        return;
    }
    cinfo->src->next_input_byte += count;
    cinfo->src->bytes_in_buffer -= (size_t)count;
}

static void term_source(j_decompress_ptr cinfo) { (void)cinfo; }

/* Called by libjpeg for every few rows of every scan. */
static void progress_monitor(j_common_ptr cinfo) {
    fl_jpeg *jpeg = cinfo->client_data;
    if (jpeg->cinfo.input_scan_number > (int)jpeg->max_scans) {
        jpeg->status = FL_TOO_MANY_SCANS;
        longjmp(jpeg->stop, 1);
    }
}

/* ---- life ------------------------------------------------------------------------------- */

/* False without memory, or where header and library are of different versions. */
static bool create_decompress(fl_jpeg *jpeg) {
    if (setjmp(jpeg->stop))
        return false;
    jpeg_create_decompress(&jpeg->cinfo);
    return true;
}

fl_jpeg *fl_jpeg_new(void) {
    fl_jpeg *jpeg = calloc(1, sizeof *jpeg);
    if (!jpeg)
        return NULL;
    jpeg->cinfo.err = jpeg_std_error(&jpeg->errors);
    jpeg->errors.error_exit = error_exit;
    jpeg->errors.emit_message = emit_message;
    jpeg->errors.output_message = output_message;
    jpeg->cinfo.client_data = jpeg;
    if (!create_decompress(jpeg)) {
        free(jpeg);
        return NULL;
    }
    jpeg->source.init_source = init_source;
    jpeg->source.fill_input_buffer = fill_input_buffer;
    jpeg->source.skip_input_data = skip_input_data;
    jpeg->source.resync_to_restart = jpeg_resync_to_restart;
    jpeg->source.term_source = term_source;
    jpeg->cinfo.src = &jpeg->source;
    jpeg->progress.progress_monitor = progress_monitor;
    jpeg->cinfo.progress = &jpeg->progress;
    return jpeg;
}

void fl_jpeg_free(fl_jpeg *jpeg) {
    if (!jpeg)
        return;
    jpeg_destroy_decompress(&jpeg->cinfo);
    free(jpeg);
}

bool fl_jpeg_recognises(const uint8_t *blob, size_t size) {
    return size >= 3 && blob[0] == 0xFF && blob[1] == 0xD8 && blob[2] == 0xFF;
}

/* ---- decoding --------------------------------------------------------------------------- */

/* round(a * b / 255), exactly, for a and b up to 255 */
static uint8_t scale255(uint32_t a, uint32_t b) {
    const uint32_t product = a * b + 128;
    return (uint8_t)((product + (product >> 8)) >> 8);
}

/* As Pillow converts CMYK to RGB. Adobe's applications store the inks inverted (255 is no ink),
 * and so does nearly every CMYK JPEG there is; Pillow takes all of them so. */
static void rgb_from_inverted_cmyk(uint8_t *row, uint32_t width) {
    for (uint32_t x = 0; x < width; x++, row += FL_ROW_CHANNELS) {
        const uint32_t light = row[3];
        row[0] = (uint8_t)(light - scale255(255u - row[0], light));
        row[1] = (uint8_t)(light - scale255(255u - row[1], light));
        row[2] = (uint8_t)(light - scale255(255u - row[2], light));
    }
}

static fl_status read_header(fl_jpeg *jpeg, const fl_limits *limits, char *message) {
    struct jpeg_decompress_struct *cinfo = &jpeg->cinfo;
    jpeg_read_header(cinfo, TRUE);
    const uint64_t pixels = (uint64_t)cinfo->image_width * cinfo->image_height;
    if (pixels > limits->max_pixels) {
        snprintf(message, FL_MESSAGE_BYTES, "%u x %u pixels, the limit is %llu",
                 cinfo->image_width, cinfo->image_height, (unsigned long long)limits->max_pixels);
        return FL_TOO_MANY_PIXELS;
    }
    switch (cinfo->jpeg_color_space) {
    case JCS_GRAYSCALE:
    case JCS_YCbCr:
    case JCS_RGB:
        cinfo->out_color_space = JCS_EXT_RGBX;
        return FL_OK;
    case JCS_CMYK:
    case JCS_YCCK:
        cinfo->out_color_space = JCS_CMYK;
        return FL_OK;
    default:
        snprintf(message, FL_MESSAGE_BYTES, "JPEG of %d components in an unknown colour space",
                 cinfo->num_components);
        return FL_UNSUPPORTED;
    }
}

/* Everything that may jump to jpeg->stop. */
static fl_status decode(fl_jpeg *jpeg, const fl_limits *limits, fl_sink *sink, uint8_t *pixels,
                        char *message) {
    struct jpeg_decompress_struct *cinfo = &jpeg->cinfo;
    fl_status status = read_header(jpeg, limits, message);
    if (status != FL_OK)
        return status;
    jpeg_start_decompress(cinfo);
    status = fl_sink_begin(sink, cinfo->output_height, cinfo->output_width, pixels);
    if (status != FL_OK)
        return status;
    while (cinfo->output_scanline < cinfo->output_height) {
        uint8_t *rows[FL_SINK_ROWS];
        const uint32_t count = jpeg_read_scanlines(cinfo, rows, fl_sink_rows(sink, rows));
        if (cinfo->out_color_space == JCS_CMYK)
            for (uint32_t i = 0; i < count; i++)
                rgb_from_inverted_cmyk(rows[i], cinfo->output_width);
        fl_sink_push(sink, count);
    }
    return FL_OK;
}

fl_status fl_jpeg_decode(fl_jpeg *jpeg, const uint8_t *blob, size_t size, const fl_limits *limits,
                         fl_sink *sink, uint8_t *pixels, char message[FL_MESSAGE_BYTES]) {
    jpeg->source.next_input_byte = blob;
    jpeg->source.bytes_in_buffer = size;
    jpeg->max_scans = limits->max_scans;
    jpeg->status = FL_OK;
    jpeg->exhausted = false;
    jpeg->starved = false;

    fl_status status;
    if (setjmp(jpeg->stop) == 0) {
        status = decode(jpeg, limits, sink, pixels, message);
    } else {
        status = jpeg->status;
        if (status == FL_TOO_MANY_SCANS)
            snprintf(message, FL_MESSAGE_BYTES, "more than %u scans", limits->max_scans);
        else
            jpeg->errors.format_message((j_common_ptr)&jpeg->cinfo, message);
    }
    /* A blob that only lacks its end-of-image marker has all its pixels. A baseline one that
     * ended earlier has starved the entropy decoder; a progressive one may lack whole scans. */
    if ((status == FL_OK || status == FL_CORRUPT) && jpeg->exhausted &&
        (status == FL_CORRUPT || jpeg->starved || jpeg_has_multiple_scans(&jpeg->cinfo))) {
        status = FL_TRUNCATED;
        snprintf(message, FL_MESSAGE_BYTES, "the blob of %zu bytes ends before the picture does",
                 size);
    }
    jpeg_abort_decompress(&jpeg->cinfo);
    return status;
}
