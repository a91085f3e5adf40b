/* The floor: how long libjpeg-turbo itself takes to decode images to RGB, with its default
 * settings.
 *
 * Nothing is resized and nothing is kept. Every row goes to the same place, which stays in the
 * processor's cache, and the decoder is reused, so no loader that decodes whole images can do less.
 * The other modes are the floors of a reduced decode and of entropy decoding alone. */
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

typedef enum {
    BARE_FULL,         /* libjpeg's defaults */
    BARE_FAST,         /* reduced, cheaper arithmetic: what the kernel's quality "fast" asks for */
    BARE_ENTROPY,      /* entropy decoding alone, whose results are dropped */
    BARE_COEFFICIENTS, /* entropy decoding into memory: jpeg_read_coefficients() */
} bare_mode;

typedef struct {
    struct jpeg_decompress_struct cinfo;
    bare_mode mode;
    JDIMENSION height, width; /* BARE_FAST does not go below this */
    errors errors;
    JSAMPLE *row;
    size_t row_bytes;
    size_t decoded;
} bare;

static void error_exit(j_common_ptr cinfo) { longjmp(((errors *)cinfo->err)->stop, 1); }

static void output_message(j_common_ptr cinfo) { (void)cinfo; }

/* Makes room for a row. Returns 0 without memory. */
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

/* Returns the reduction that csrc/jpeg_fast.c chooses. */
static unsigned reduction_for(const bare *b) {
    unsigned reduction = 8;
    while (reduction > 1 && (b->cinfo.image_width < b->width * reduction ||
                             b->cinfo.image_height < b->height * reduction))
        reduction /= 2;
    return reduction;
}

/* Sets the options of the mode, after the header is read. */
static void set_mode(bare *b) {
    struct jpeg_decompress_struct *cinfo = &b->cinfo;
    cinfo->out_color_space = JCS_RGB;
    if (b->mode == BARE_FAST) {
        cinfo->scale_num = 1;
        cinfo->scale_denom = reduction_for(b);
        cinfo->dct_method = JDCT_IFAST;
        cinfo->do_block_smoothing = FALSE;
    }
    if (b->mode != BARE_FULL)
        cinfo->do_fancy_upsampling = FALSE; /* it would look at rows that are skipped */
}

/* Decodes one blob. Returns 0 without memory; jumps to b->errors.stop if the blob is bad. */
static int decode(bare *b, const unsigned char *blob, size_t size) {
    struct jpeg_decompress_struct *cinfo = &b->cinfo;
    jpeg_mem_src(cinfo, blob, (unsigned long)size);
    jpeg_read_header(cinfo, TRUE);
    if (b->mode == BARE_COEFFICIENTS) {
        jpeg_read_coefficients(cinfo);
        jpeg_finish_decompress(cinfo);
        return 1;
    }
    set_mode(b);
    jpeg_start_decompress(cinfo);
    if (!reserve(b, (size_t)cinfo->output_width * CHANNELS))
        return 0;
    if (b->mode == BARE_ENTROPY) {
        /* libjpeg entropy-decodes the rows that it skips and keeps nothing. Skipping to the very
         * end would do nothing at all, so the last rows are decoded: 1 in 40 of a photograph. */
        const JDIMENSION last = (JDIMENSION)cinfo->max_v_samp_factor * DCTSIZE;
        if (cinfo->output_height > last)
            jpeg_skip_scanlines(cinfo, cinfo->output_height - last);
    }
    while (cinfo->output_scanline < cinfo->output_height)
        jpeg_read_scanlines(cinfo, &b->row, 1);
    jpeg_finish_decompress(cinfo);
    return 1;
}

/* Decodes `count` blobs one after the other and returns how many: fewer only if one is bad. */
size_t bare_decode(const unsigned char *const *blobs, const size_t *sizes, size_t count, int mode,
                   unsigned height, unsigned width) {
    size_t decoded = 0;
    bare *b = calloc(1, sizeof *b);
    if (!b)
        return 0;
    b->mode = (bare_mode)mode;
    b->height = height;
    b->width = width;
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
