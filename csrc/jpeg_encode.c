#include "jpeg_encode.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>

#include <jpeglib.h>

#include <jerror.h>

/* libjpeg's own destination in memory frees nothing if it runs out of memory, so this is ours. */
typedef struct {
    struct jpeg_compress_struct cinfo;
    struct jpeg_error_mgr errors;
    struct jpeg_destination_mgr destination;
    uint8_t *blob; /* owned until the end */
    size_t capacity;
    jmp_buf stop;
} encoder;

/* Does not return: jumps to encoder->stop. */
static void stop_encoding(j_common_ptr cinfo) {
    encoder *e = cinfo->client_data;
    longjmp(e->stop, 1);
}

static void ignore_message(j_common_ptr cinfo, int level) {
    (void)cinfo;
    (void)level;
}

static void init_destination(j_compress_ptr cinfo) {
    encoder *e = cinfo->client_data;
    e->destination.next_output_byte = e->blob;
    e->destination.free_in_buffer = e->capacity;
}

/* Doubles the buffer, which is full. */
static boolean empty_output_buffer(j_compress_ptr cinfo) {
    encoder *e = cinfo->client_data;
    const size_t full = e->capacity;
    uint8_t *larger = full <= SIZE_MAX / 2 ? realloc(e->blob, 2 * full) : NULL;
    if (!larger)
        ERREXIT1(cinfo, JERR_OUT_OF_MEMORY, 0);
    e->blob = larger;
    e->capacity = 2 * full;
    e->destination.next_output_byte = larger + full;
    e->destination.free_in_buffer = full;
    return TRUE;
}

static void term_destination(j_compress_ptr cinfo) { (void)cinfo; }

static bool can_encode(const fl_encoding *its) {
    return its->height >= 1 && its->height <= JPEG_MAX_DIMENSION && its->width >= 1 &&
           its->width <= JPEG_MAX_DIMENSION && (its->channels == 1 || its->channels == 3) &&
           its->quality >= 1 && its->quality <= 100;
}

/* Encodes with libjpeg, which may jump to e->stop. */
static void encode_pixels(encoder *e, const fl_encoding *its) {
    struct jpeg_compress_struct *cinfo = &e->cinfo;
    jpeg_create_compress(cinfo);
    cinfo->dest = &e->destination;
    cinfo->image_height = its->height;
    cinfo->image_width = its->width;
    cinfo->input_components = (int)its->channels;
    cinfo->in_color_space = its->channels == 1 ? JCS_GRAYSCALE : JCS_RGB;
    jpeg_set_defaults(cinfo); /* 4:2:0 for colors, and the accurate transform */
    jpeg_set_quality(cinfo, its->quality, TRUE);
    cinfo->optimize_coding = TRUE;
    jpeg_start_compress(cinfo, TRUE);
    const size_t stride = (size_t)its->width * its->channels;
    while (cinfo->next_scanline < cinfo->image_height) {
        /* libjpeg only reads the row, but its type is not const. */
        JSAMPROW row = (JSAMPROW)(uintptr_t)(its->pixels + cinfo->next_scanline * stride);
        jpeg_write_scanlines(cinfo, &row, 1);
    }
    jpeg_finish_compress(cinfo);
}

fl_status fl_jpeg_encode(const fl_encoding *its, uint8_t **blob, size_t *size,
                         char message[FL_MESSAGE_BYTES]) {
    *blob = NULL;
    *size = 0;
    if (!can_encode(its)) {
        snprintf(message, FL_MESSAGE_BYTES,
                 "JPEG: %u x %u pixels of %u channels at quality %d cannot be encoded", its->height,
                 its->width, its->channels, its->quality);
        return FL_UNSUPPORTED;
    }
    encoder *e = calloc(1, sizeof *e);
    if (e) {
        /* Most photographs at quality 90 take less than half a byte for each level. */
        e->capacity = 4096 + (size_t)its->height * its->width * its->channels / 2;
        e->blob = malloc(e->capacity);
    }
    if (!e || !e->blob) {
        free(e);
        snprintf(message, FL_MESSAGE_BYTES, "not enough memory to encode it");
        return FL_NO_MEMORY;
    }
    e->cinfo.err = jpeg_std_error(&e->errors);
    e->errors.error_exit = stop_encoding;
    e->errors.emit_message = ignore_message;
    e->destination.init_destination = init_destination;
    e->destination.empty_output_buffer = empty_output_buffer;
    e->destination.term_destination = term_destination;
    e->cinfo.client_data = e;
    fl_status status = FL_OK;
    if (setjmp(e->stop)) {
        /* Nothing but memory can fail with these options. */
        snprintf(message, FL_MESSAGE_BYTES, "not enough memory to encode it");
        status = FL_NO_MEMORY;
        free(e->blob);
    } else {
        encode_pixels(e, its);
        *blob = e->blob;
        *size = e->capacity - e->destination.free_in_buffer;
    }
    jpeg_destroy_compress(&e->cinfo);
    free(e);
    return status;
}
