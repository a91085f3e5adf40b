/* The floor: what libjpeg-turbo itself takes to decode pictures, with its default settings, to RGB.
 *
 * Nothing is resized and nothing is kept. Every row goes to the same place, which stays in the
 * processor's cache, and the decoder is reused, so no loader that decodes all of a picture can do
 * less. */
#include <setjmp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <jpeglib.h>

#define CHANNELS 3

typedef struct {
    struct jpeg_error_mgr manager;
    jmp_buf stop;
} errors;

typedef struct {
    struct jpeg_decompress_struct cinfo;
    errors errors;
    JSAMPLE *row;
    size_t row_bytes;
    size_t decoded;
} bare;

static void error_exit(j_common_ptr cinfo) { longjmp(((errors *)cinfo->err)->stop, 1); }

static void output_message(j_common_ptr cinfo) { (void)cinfo; }

static int reserve(bare *b, size_t bytes) {
    JSAMPLE *row;
    if (bytes <= b->row_bytes)
        return 1;
    row = realloc(b->row, bytes);
    if (!row)
        return 0;
    b->row = row;
    b->row_bytes = bytes;
    return 1;
}

static int decode(bare *b, const unsigned char *blob, size_t size) {
    struct jpeg_decompress_struct *cinfo = &b->cinfo;
    jpeg_mem_src(cinfo, blob, (unsigned long)size);
    jpeg_read_header(cinfo, TRUE);
    cinfo->out_color_space = JCS_RGB;
    jpeg_start_decompress(cinfo);
    if (!reserve(b, (size_t)cinfo->output_width * CHANNELS))
        return 0;
    while (cinfo->output_scanline < cinfo->output_height)
        jpeg_read_scanlines(cinfo, &b->row, 1);
    jpeg_finish_decompress(cinfo);
    return 1;
}

/* Decodes `count` blobs one after the other; returns how many, fewer only where one is bad. */
size_t bare_decode(const unsigned char *const *blobs, const size_t *sizes, size_t count) {
    size_t decoded = 0;
    bare *b = calloc(1, sizeof *b);
    if (!b)
        return 0;
    b->cinfo.err = jpeg_std_error(&b->errors.manager);
    b->errors.manager.error_exit = error_exit;
    b->errors.manager.output_message = output_message;
    if (!setjmp(b->errors.stop)) {
        jpeg_create_decompress(&b->cinfo);
        while (b->decoded < count && decode(b, blobs[b->decoded], sizes[b->decoded]))
            b->decoded++;
    }
    decoded = b->decoded;
    jpeg_destroy_decompress(&b->cinfo);
    free(b->row);
    free(b);
    return decoded;
}
