/* "Exact" means libjpeg's defaults here, which Pillow uses too: accurate integer DCT and fancy
 * upsampling. libjpeg-turbo 2.1 and 3.x both serve: only the classic 8-bit calls are used. */
#include "jpeg.h"

#include "color.h"
#include "jpeg_damage.h"
#include "jpeg_eighth.h"
#include "jpeg_fast.h"
#include "jpeg_segments.h"

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
    fl_eighth eighth;
    const uint8_t *blob; /* borrowed for the call */
    size_t size;
    jmp_buf stop;
    fl_status status; /* why libjpeg's callbacks jumped to `stop` */
    uint32_t max_scans;
    fl_jpeg_damage damage;
};

/* ---- libjpeg's callbacks --------------------------------------------------------------------- */

/* Returns the status for an error code of libjpeg's. */
static fl_status status_of(int msg_code) {
    switch (msg_code) {
    case JERR_OUT_OF_MEMORY:
        return FL_NO_MEMORY;
    case JERR_ARITH_NOTIMPL:
    case JERR_BAD_PRECISION:
    case JERR_CCIR601_NOTIMPL:
    case JERR_CONVERSION_NOTIMPL:
    case JERR_FRACT_SAMPLE_NOTIMPL:
    case JERR_NOT_COMPILED:
    case JERR_NOTIMPL:
    case JERR_SOF_UNSUPPORTED:
        return FL_UNSUPPORTED;
    default:
        return FL_CORRUPT;
    }
}

/* Does not return: jumps to jpeg->stop. */
static void error_exit(j_common_ptr cinfo) {
    fl_jpeg *jpeg = cinfo->client_data;
    if (jpeg->status == FL_OK)
        jpeg->status = status_of(cinfo->err->msg_code);
    longjmp(jpeg->stop, 1);
}

/* Notes warnings, whose level is negative, and ignores traces. */
static void emit_message(j_common_ptr cinfo, int level) {
    fl_jpeg *jpeg = cinfo->client_data;
    if (level < 0)
        fl_jpeg_damage_warned(&jpeg->damage, &jpeg->cinfo);
}

static void output_message(j_common_ptr cinfo) { (void)cinfo; }

static void init_source(j_decompress_ptr cinfo) { (void)cinfo; }

/* Past the end of the blob, gives libjpeg end-of-image markers, so that it finishes. */
static boolean fill_input_buffer(j_decompress_ptr cinfo) {
    static const JOCTET end[2] = {0xFF, JPEG_EOI};
    fl_jpeg *jpeg = cinfo->client_data;
    fl_jpeg_damage_exhausted(&jpeg->damage, cinfo);
    cinfo->src->next_input_byte = end;
    cinfo->src->bytes_in_buffer = sizeof end;
    return TRUE;
}

/* Skips `count` bytes; past the end of the blob, as fill_input_buffer() does. */
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

/* libjpeg calls this for every few rows of every scan. Jumps to jpeg->stop after too many scans. */
static void progress_monitor(j_common_ptr cinfo) {
    fl_jpeg *jpeg = cinfo->client_data;
    fl_jpeg_damage_look(&jpeg->damage, &jpeg->cinfo);
    if (jpeg->cinfo.input_scan_number > (int)jpeg->max_scans) {
        jpeg->status = FL_TOO_COMPLEX;
        longjmp(jpeg->stop, 1);
    }
}

/* ---- life ------------------------------------------------------------------------------------ */

fl_jpeg *fl_jpeg_new(void) {
    fl_jpeg *jpeg = calloc(1, sizeof *jpeg);
    if (!jpeg)
        return NULL;
    jpeg_std_error(&jpeg->errors);
    jpeg->errors.error_exit = error_exit;
    jpeg->errors.emit_message = emit_message;
    jpeg->errors.output_message = output_message;
    jpeg->source.init_source = init_source;
    jpeg->source.fill_input_buffer = fill_input_buffer;
    jpeg->source.skip_input_data = skip_input_data;
    jpeg->source.resync_to_restart = jpeg_resync_to_restart;
    jpeg->source.term_source = term_source;
    jpeg->progress.progress_monitor = progress_monitor;
    return jpeg;
}

void fl_jpeg_free(fl_jpeg *jpeg) {
    if (jpeg)
        fl_memory_clear(&jpeg->eighth.samples);
    free(jpeg);
}

/* Creates a decompressor for one image, which costs 2 us. A reused one would keep its tables, and
 * an image without tables would be decoded with those of the image before it. */
static void create_decompress(fl_jpeg *jpeg) {
    memset(&jpeg->cinfo, 0, sizeof jpeg->cinfo);
    jpeg->cinfo.err = &jpeg->errors;
    jpeg->cinfo.client_data = jpeg;
    jpeg_create_decompress(&jpeg->cinfo);
    jpeg->cinfo.src = &jpeg->source;
    jpeg->cinfo.progress = &jpeg->progress;
}

bool fl_jpeg_fits(char message[FL_MESSAGE_BYTES]) {
    fl_jpeg *jpeg = fl_jpeg_new();
    if (!jpeg) {
        snprintf(message, FL_MESSAGE_BYTES, "not enough memory");
        return false;
    }
    if (setjmp(jpeg->stop) != 0) {
        jpeg->errors.format_message((j_common_ptr)&jpeg->cinfo, message);
        fl_jpeg_free(jpeg);
        return false;
    }
    create_decompress(jpeg);
    jpeg_destroy_decompress(&jpeg->cinfo);
    fl_jpeg_free(jpeg);
    return true;
}

bool fl_jpeg_recognizes(const uint8_t *blob, size_t size) {
    return size >= 3 && blob[0] == 0xFF && blob[1] == 0xD8 && blob[2] == 0xFF;
}

/* ---- header ---------------------------------------------------------------------------------- */

/* All scans together may visit this many times max_pixels: an image of that size may have 16 scans,
 * a smaller one up to max_scans. */
#define MAX_VISITS 16

/* Reads the header, checks its size, and sets max_scans and the color space to decode to. Writes
 * `message` unless it returns FL_OK. May jump to jpeg->stop. */
static fl_status read_jpeg_header(fl_jpeg *jpeg, const fl_options *options, char *message) {
    struct jpeg_decompress_struct *cinfo = &jpeg->cinfo;
    jpeg_read_header(cinfo, TRUE);
    const fl_status status =
        fl_check_size(cinfo->image_height, cinfo->image_width, options, message);
    if (status != FL_OK)
        return status;
    const uint64_t pixels = (uint64_t)cinfo->image_width * cinfo->image_height;
    const uint64_t affordable = options->max_pixels / pixels * MAX_VISITS;
    jpeg->max_scans = affordable < options->max_scans ? (uint32_t)affordable : options->max_scans;
    switch (cinfo->jpeg_color_space) {
    case JCS_GRAYSCALE:
    case JCS_YCbCr:
    case JCS_RGB:
        cinfo->out_color_space = options->channels == 1 ? JCS_GRAYSCALE : JCS_EXT_RGBX;
        return FL_OK;
    case JCS_CMYK:
    case JCS_YCCK:
        cinfo->out_color_space = JCS_CMYK;
        return FL_OK;
    default:
        snprintf(message, FL_MESSAGE_BYTES, "JPEG of %d components in an unknown color space",
                 cinfo->num_components);
        return FL_UNSUPPORTED;
    }
}

/* ---- rows ------------------------------------------------------------------------------------ */

/* Extra columns on either side of the needed ones. Fancy upsampling looks at the next sample of
 * chroma, which is up to two columns away. */
#define MARGIN 2

/* Returns whether the scans of a progressive image lack bits of any coefficient. */
static bool lacks_bits(const struct jpeg_decompress_struct *cinfo) {
    for (int component = 0; component < cinfo->num_components; component++)
        for (int k = 0; k < DCTSIZE2; k++)
            if (cinfo->coef_bits[component][k] != 0)
                return true;
    return false;
}

/* Opens the sink, and leaves out columns and rows that are not needed as far as libjpeg can. All
 * columns are decoded if libjpeg will smooth the blocks of an incomplete image, because it would
 * take the first decoded column for the edge of the image. May jump to jpeg->stop. */
static fl_status open_sink(struct jpeg_decompress_struct *cinfo, fl_sink *sink) {
    const fl_region *needed = &sink->needed;
    JDIMENSION left = needed->left > MARGIN ? needed->left - MARGIN : 0;
    JDIMENSION right = needed->right + MARGIN;
    if (right > cinfo->output_width)
        right = cinfo->output_width;
    if (cinfo->progressive_mode && cinfo->do_block_smoothing && lacks_bits(cinfo)) {
        left = 0;
        right = cinfo->output_width;
    }
    JDIMENSION width = right - left;
    if (width < cinfo->output_width)
        jpeg_crop_scanline(cinfo, &left, &width);
    const fl_status status = fl_sink_open(sink, left, left + width);
    if (status == FL_OK && needed->top > 0)
        jpeg_skip_scanlines(cinfo, needed->top);
    return status;
}

/* Decodes the next few rows into the sink. May jump to jpeg->stop. */
static void push_rows(struct jpeg_decompress_struct *cinfo, fl_sink *sink) {
    if (cinfo->out_color_space == JCS_CMYK) {
        uint8_t *row = fl_sink_rgba(sink);
        jpeg_read_scanlines(cinfo, &row, 1);
        fl_rgb_from_inverted_cmyk(row, cinfo->output_width);
        fl_sink_push_rgba(sink, false);
    } else {
        uint8_t *rows[FL_SINK_ROWS];
        const uint32_t wanted = fl_sink_rows(sink, rows);
        fl_sink_push(sink, jpeg_read_scanlines(cinfo, rows, wanted));
    }
}

/* Decodes the blob that is set; the caller has set jpeg->stop, where libjpeg's errors jump to, and
 * destroys the decompressor. Returns FL_OK also for an image that libjpeg has filled up. */
static fl_status decode_jpeg(fl_jpeg *jpeg, unsigned orientation, fl_sink *sink, fl_draw draw,
                             void *output, char *message) {
    struct jpeg_decompress_struct *cinfo = &jpeg->cinfo;
    const fl_options *options = sink->options;
    create_decompress(jpeg);
    fl_status status = read_jpeg_header(jpeg, options, message);
    if (status != FL_OK)
        return status;
    fl_view view;
    fl_view_set(&view, options, cinfo->image_height, cinfo->image_width, orientation, draw);
    if (fl_sink_looks(sink, &view))
        return FL_OK;
    if (options->fast) {
        const uint32_t reduction = fl_jpeg_reduction(&view);
        fl_view_scale(&view, 1.0 / reduction, 1.0 / reduction);
        if (reduction == 8 && !jpeg->damage.exhausted) {
            status =
                fl_eighth_decode(&jpeg->eighth, cinfo, jpeg->blob, jpeg->size, &view, sink, output);
            if (status != FL_UNSUPPORTED)
                return status;
        }
        fl_jpeg_start_fast(cinfo, reduction);
    } else {
        jpeg_start_decompress(cinfo);
    }
    status = fl_sink_begin(sink, &view, cinfo->output_height, cinfo->output_width, output);
    if (status == FL_OK)
        status = open_sink(cinfo, sink);
    if (status != FL_OK)
        return status;
    /* Once the data has ended, libjpeg would make up the rest, however large it is. */
    const uint32_t block_rows = DCTSIZE * cinfo->scale_num / cinfo->scale_denom;
    const uint32_t mcu_rows = (uint32_t)cinfo->max_v_samp_factor * block_rows;
    while (!fl_sink_done(sink) && !(jpeg->damage.starved && !jpeg_has_multiple_scans(cinfo) &&
                                    cinfo->output_scanline >= jpeg->damage.gray_from * mcu_rows))
        push_rows(cinfo, sink);
    fl_sink_end_early(sink);
    return FL_OK;
}

/* ---- the end --------------------------------------------------------------------------------- */

/* Returns whether the blob ended before all scans. A blob that only lacks its end-of-image marker
 * has all its pixels. An image of several scans may lack the later ones, and only a progressive
 * image tells which bits are missing. */
static bool lacks_scans(const fl_jpeg *jpeg) {
    const struct jpeg_decompress_struct *cinfo = &jpeg->cinfo;
    return jpeg->damage.exhausted && jpeg_has_multiple_scans((j_decompress_ptr)cinfo) &&
           (!cinfo->progressive_mode || lacks_bits(cinfo));
}

/* Decodes the first `size` bytes of the blob. FL_CORRUPT and FL_UNSUPPORTED may be consequences of
 * damage, or of the end of the blob. */
static fl_status decode_bytes(fl_jpeg *jpeg, const uint8_t *blob, size_t size, unsigned orientation,
                              fl_sink *sink, fl_draw draw, void *output, char *message) {
    jpeg->blob = blob;
    jpeg->size = size;
    jpeg->source.next_input_byte = blob;
    jpeg->source.bytes_in_buffer = size;
    jpeg->status = FL_OK;

    fl_status status;
    if (setjmp(jpeg->stop) == 0) {
        status = decode_jpeg(jpeg, orientation, sink, draw, output, message);
        fl_jpeg_damage_look(&jpeg->damage, &jpeg->cinfo);
        if (status == FL_OK && (jpeg->damage.found || lacks_scans(jpeg)))
            status = jpeg->damage.displayable && !sink->options->strict ? FL_PARTIAL : FL_TRUNCATED;
    } else {
        status = jpeg->status;
        if (status == FL_TOO_COMPLEX)
            snprintf(message, FL_MESSAGE_BYTES, "more than %u scans", jpeg->max_scans);
        else
            jpeg->errors.format_message((j_common_ptr)&jpeg->cinfo, message);
    }
    jpeg_destroy_decompress(&jpeg->cinfo);
    return status;
}

fl_status fl_jpeg_decode(fl_jpeg *jpeg, const uint8_t *blob, size_t size, fl_sink *sink,
                         fl_draw draw, void *output, char message[FL_MESSAGE_BYTES]) {
    const unsigned orientation = sink->options->orientation ? fl_jpeg_orientation(blob, size) : 1;
    fl_jpeg_damage *damage = &jpeg->damage;
    fl_jpeg_damage_start(damage, size);
    fl_status status = decode_bytes(jpeg, blob, size, orientation, sink, draw, output, message);
    /* Behind damage, libjpeg takes anything for a segment; and if the blob ends within a segment,
     * it takes our end-of-image markers for the contents. It then gives up an image whose scans so
     * far are good, so these are decoded alone. */
    if ((status == FL_CORRUPT || status == FL_UNSUPPORTED) &&
        (damage->found || damage->exhausted)) {
        const size_t good = damage->found ? damage->at : fl_jpeg_whole_segments(blob, size);
        if (good < size) {
            damage->starved = damage->exhausted = false;
            status = decode_bytes(jpeg, blob, good, orientation, sink, draw, output, message);
        }
        if (status == FL_OK)
            message[0] = '\0';
        else if (status == FL_CORRUPT && damage->exhausted)
            status = FL_TRUNCATED;
    }
    fl_memory_trim(&jpeg->eighth.samples);
    if (status == FL_TRUNCATED || status == FL_PARTIAL)
        fl_jpeg_damage_message(damage, message);
    return status;
}
