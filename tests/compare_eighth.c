/* Encodes random images in every way that jpeg_eighth.c reads, and compares what it decodes with
 * the means of 8 x 8 pixels of libjpeg's full decode. Prints the number of images. */
#include "below.h"
#include "jpeg_eighth.h"

#include <stdlib.h>
#include <string.h>

/* Exits, and says what is wrong with image `number`, unless `right`. */
static void check(bool right, const char *what, int number) {
    if (right)
        return;
    printf("image %d: %s\n", number, what);
    exit(1);
}

typedef struct {
    uint32_t width, height;
    int components, across, down; /* the factors of luma; chroma has 1 and 1 */
    bool progressive, apart;      /* apart: luma and chroma have scans of their own */
    bool refined;                 /* the scan that completes luma's constants precedes chroma's */
    unsigned interval;
    int quality;
} kind;

/* Sets the scans of an image and returns their number. Scans of further bits and of the other
 * coefficients come in between, so that they have to be stepped over. */
static int set_scans(const kind *k, jpeg_scan_info scans[8]) {
    // clang-format off: one table for each script
    static const jpeg_scan_info together[] = {{3, {0, 1, 2}, 0, 0, 0, 1}, {1, {0}, 1, 63, 0, 0},
                                              {3, {0, 1, 2}, 0, 0, 1, 0}, {1, {1}, 1, 63, 0, 0},
                                              {1, {2}, 1, 63, 0, 0}};
    static const jpeg_scan_info apart[] = {{1, {0}, 0, 0, 0, 0}, {1, {0}, 1, 8, 0, 2},
                                           {1, {0}, 9, 63, 0, 2}, {2, {1, 2}, 0, 0, 0, 0},
                                           {1, {1}, 1, 63, 0, 0}, {1, {2}, 1, 63, 0, 0}};
    static const jpeg_scan_info refined[] = {{1, {0}, 0, 0, 0, 1}, {1, {0}, 1, 63, 0, 0},
                                             {1, {0}, 0, 0, 1, 0}, {2, {1, 2}, 0, 0, 0, 0},
                                             {1, {1}, 1, 63, 0, 0}, {1, {2}, 1, 63, 0, 0}};
    static const jpeg_scan_info gray[] = {{1, {0}, 0, 0, 0, 1}, {1, {0}, 1, 63, 0, 0},
                                          {1, {0}, 0, 0, 1, 0}};
    static const jpeg_scan_info baseline[] = {{1, {2}, 0, 63, 0, 0}, {2, {0, 1}, 0, 63, 0, 0}};
    // clang-format on
    const jpeg_scan_info *from = k->components == 1 ? gray
                                 : !k->progressive  ? baseline
                                 : k->refined       ? refined
                                 : k->apart         ? apart
                                                    : together;
    const int count = k->components == 1 ? 3 : !k->progressive ? 2 : k->apart ? 6 : 5;
    memcpy(scans, from, (size_t)count * sizeof *from);
    return count;
}

/* Encodes a smooth image with noise of up to `noise`. The caller frees *blob. Returns its size. */
static size_t encode(const kind *k, uint32_t noise, uint8_t **blob) {
    struct jpeg_compress_struct cinfo;
    struct jpeg_error_mgr errors;
    jpeg_scan_info scans[8];
    unsigned long size = 0;
    memset(&cinfo, 0, sizeof cinfo);
    cinfo.err = jpeg_std_error(&errors);
    jpeg_create_compress(&cinfo);
    *blob = NULL;
    jpeg_mem_dest(&cinfo, blob, &size);
    cinfo.image_width = k->width;
    cinfo.image_height = k->height;
    cinfo.input_components = k->components;
    cinfo.in_color_space = k->components == 1 ? JCS_GRAYSCALE : JCS_YCbCr;
    jpeg_set_defaults(&cinfo);
    jpeg_set_quality(&cinfo, k->quality, TRUE);
    cinfo.comp_info[0].h_samp_factor = k->across;
    cinfo.comp_info[0].v_samp_factor = k->down;
    cinfo.restart_interval = k->interval;
    if (k->progressive || k->apart) {
        cinfo.num_scans = set_scans(k, scans);
        cinfo.scan_info = scans;
    }
    cinfo.optimize_coding = below(2) ? TRUE : FALSE;
    jpeg_start_compress(&cinfo, TRUE);
    uint8_t *row = malloc((size_t)k->width * 3);
    if (!row)
        exit(2);
    for (uint32_t y = 0; y < k->height; y++) {
        for (uint32_t x = 0; x < k->width; x++)
            for (uint32_t c = 0; c < (uint32_t)k->components; c++) {
                const uint32_t ramp = (x * (c + 1) + y * (3 - c)) % 512;
                const uint32_t level = 20 + (ramp < 256 ? ramp : 511 - ramp) * 3 / 4;
                row[x * (uint32_t)k->components + c] = (uint8_t)(level + below(noise + 1));
            }
        jpeg_write_scanlines(&cinfo, &row, 1);
    }
    free(row);
    jpeg_finish_compress(&cinfo);
    jpeg_destroy_compress(&cinfo);
    return size;
}

/* Creates a decompressor and reads the header; the caller destroys it. */
static void start(struct jpeg_decompress_struct *cinfo, struct jpeg_error_mgr *errors,
                  const uint8_t *blob, size_t size) {
    memset(cinfo, 0, sizeof *cinfo);
    cinfo->err = jpeg_std_error(errors);
    jpeg_create_decompress(cinfo);
    jpeg_mem_src(cinfo, blob, size);
    jpeg_read_header(cinfo, TRUE);
}

/* Returns the pixels of libjpeg's full decode, which the caller frees. */
static uint8_t *decode(const kind *k, const uint8_t *blob, size_t size) {
    struct jpeg_decompress_struct cinfo;
    struct jpeg_error_mgr errors;
    start(&cinfo, &errors, blob, size);
    cinfo.out_color_space = k->components == 1 ? JCS_GRAYSCALE : JCS_YCbCr;
    cinfo.do_fancy_upsampling = FALSE;
    jpeg_start_decompress(&cinfo);
    const size_t stride = (size_t)k->width * (size_t)k->components;
    uint8_t *pixels = malloc(stride * k->height);
    if (!pixels)
        exit(2);
    while (cinfo.output_scanline < k->height) {
        uint8_t *row = pixels + cinfo.output_scanline * stride;
        jpeg_read_scanlines(&cinfo, &row, 1);
    }
    jpeg_destroy_decompress(&cinfo);
    return pixels;
}

/* Returns whether jpeg_eighth.c reads the image, down to row `bottom`. */
static bool read_eighth(fl_eighth *e, const uint8_t *blob, size_t size, uint32_t bottom) {
    struct jpeg_decompress_struct cinfo;
    struct jpeg_error_mgr errors;
    start(&cinfo, &errors, blob, size);
    const bool read = fl_eighth_read(e, &cinfo, blob, size, bottom);
    jpeg_destroy_decompress(&cinfo);
    return read;
}

/* Returns the largest difference of component `c` from the means of whole blocks. */
static double worst(const fl_eighth *e, const kind *k, const uint8_t *pixels, uint32_t bottom,
                    uint32_t c) {
    double most = 0;
    for (uint32_t y = 0; y < bottom && 8 * y + 8 <= k->height; y++)
        for (uint32_t x = 0; 8 * x + 8 <= k->width; x++) {
            double sum = 0;
            for (uint32_t i = 0; i < 64; i++)
                sum +=
                    pixels[((8 * y + i / 8) * k->width + 8 * x + i % 8) * (uint32_t)k->components +
                           c];
            const double off = e->component[c].samples[y * e->stride + x] - sum / 64;
            most = off > most ? off : -off > most ? -off : most;
        }
    return most;
}

/* Checks what jpeg_eighth.c decodes down to row `bottom`. */
static void check_rows(fl_eighth *e, const kind *k, const uint8_t *blob, size_t size,
                       const uint8_t *pixels, uint32_t bottom, int number) {
    check(read_eighth(e, blob, size, bottom), "it was not read", number);
    for (uint32_t c = 0; c < e->components; c++) {
        /* The first scan of a progressive image's chroma has only the constants. If a chroma block
         * covers two luma blocks, half of its ramp is missing. */
        const bool flat = k->progressive && c > 0 && k->across * k->down > 1;
        check(worst(e, k, pixels, bottom, c) <= (flat ? 18 : 2.5), "the means differ", number);
    }
}

int main(void) {
    static const int factors[5][2] = {{1, 1}, {2, 1}, {1, 2}, {2, 2}, {1, 1}};
    fl_eighth *e = calloc(1, sizeof *e);
    if (!e)
        return 2;
    int number = 0;
    for (; number < 400; number++) {
        const int *f = factors[number % 5];
        kind k = {
            .width = 1 + below(150),
            .height = 1 + below(150),
            .components = number % 5 == 4 ? 1 : 3,
            .across = f[0],
            .down = f[1],
            .progressive = below(2),
            .apart = below(2),
            .interval = below(2) ? 0 : 1 + below(9),
            .quality = 60 + (int)below(40),
        };
        k.apart = k.apart && k.components == 3;
        k.refined = k.apart && k.progressive && below(4) == 0;
        const uint32_t rows = (k.height + 7) / 8;
        uint8_t *blob;
        const size_t size = encode(&k, below(2) * 20, &blob);
        if (k.refined) {
            check(!read_eighth(e, blob, size, rows), "the scan that completes luma was skipped",
                  number);
            free(blob);
            continue;
        }
        uint8_t *pixels = decode(&k, blob, size);
        check_rows(e, &k, blob, size, pixels, rows, number);
        check_rows(e, &k, blob, size, pixels, below(rows + 1), number);
        /* Cut anywhere in the scans of a baseline image, it must not be read. The copy is just as
         * large as its bytes, so that a sanitizer sees a read past its end. */
        if (!k.progressive) {
            struct jpeg_decompress_struct cinfo;
            struct jpeg_error_mgr errors;
            start(&cinfo, &errors, blob, size);
            const size_t scans = cinfo.src->bytes_in_buffer - 2;
            jpeg_destroy_decompress(&cinfo);
            const size_t less = size - 2 - scans + below((uint32_t)scans);
            uint8_t *cut = malloc(less);
            if (!cut)
                return 2;
            memcpy(cut, blob, less);
            check(!read_eighth(e, cut, less, rows), "it was read from a part of the data", number);
            free(cut);
        }
        free(pixels);
        free(blob);
    }
    fl_memory_clear(&e->samples);
    free(e);
    printf("%d\n", number);
    return 0;
}
