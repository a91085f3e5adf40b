/* The body of every fuzzer: decodes one image, with any options, from bytes that somebody made up.
 *
 * The first bytes choose the options, so that a fuzzer finds its way to all of them; the rest is
 * the blob. libFuzzer calls this (make fuzz), and so does driver.c in the ordinary suite. */
#include "kernel.h"

#include <stdlib.h>
#include <string.h>

#define CHOICES 8

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Returns the options that CHOICES bytes stand for. */
static fl_options options_from(const uint8_t choice[CHOICES]) {
    fl_options o = {
        .height = 1 + choice[0] % 48,
        .width = 1 + choice[1] % 48,
        .channels = choice[2] & 1 ? 1 : 3,
        .fit = (fl_fit)(choice[3] % 4),
        .crop_fraction = 0.875,
        .scale = {0.08, 1.0},
        .ratio = {0.75, 4.0 / 3.0},
        .flip = choice[2] & 2,
        .filter = (fl_filter_kind)(choice[4] % 5),
        .orientation = !(choice[2] & 4),
        .fast = choice[2] & 8,
        .compose = choice[2] & 16,
        .background = {1, 128, 255},
        .layout = choice[2] & 32 ? FL_NCHW : FL_NHWC,
        .dtype = (fl_dtype)(choice[5] % 4),
        .std = {1.0, 1.0, 1.0},
        .strict = choice[2] & 64,
        .max_pixels = 1 << 20, /* so that one input does not take long */
        .max_scans = 20,
        .max_chunks = 1000,
        .portable = choice[2] & 128,
    };
    return o;
}

#define MOST_PIXELS_COMPARED (1u << 16)

/* Aborts if `output`, which was resized, cropped and padded while it was decoded, differs from what
 * comes of the whole source image, decoded at its own size first. */
static void compare_with_whole(fl_decoder *decoder, const fl_options *options, const uint8_t *blob,
                               size_t size, fl_draw draw, const uint8_t *output) {
    uint32_t seen[2];
    fl_decoder_seen(decoder, seen);
    if (options->fast || options->orientation || seen[0] * seen[1] > MOST_PIXELS_COMPARED)
        return;
    fl_options plain = *options;
    plain.height = seen[0];
    plain.width = seen[1];
    plain.fit = FL_STRETCH;
    plain.filter = FL_BOX;
    plain.layout = FL_NHWC;
    plain.dtype = FL_UINT8;
    plain.flip = plain.strict = false;
    const size_t pixels = (size_t)seen[0] * seen[1], bytes = fl_image_bytes(decoder);
    fl_decoder *whole = fl_decoder_new(&plain);
    uint8_t *levels = malloc(pixels * 3), *again = malloc(bytes);
    if (!whole || !levels || !again)
        abort();
    const fl_status status = fl_decode(whole, blob, size, draw, levels);
    if (status == FL_OK || status == FL_PARTIAL) {
        for (size_t i = pixels; options->channels == 1 && i-- > 0;)
            memset(levels + 3 * i, levels[i], 3);
        const fl_raw raw = {.height = seen[0], .width = seen[1], .pixels = levels, .channels = 3};
        if (fl_resize(decoder, &raw, draw, again) != FL_OK || memcmp(output, again, bytes) != 0)
            abort();
    }
    free(again);
    free(levels);
    fl_decoder_free(whole);
}

/* Aborts if the head of a blob that was decoded says another size than its decoder. */
static void compare_with_head(fl_decoder *decoder, const uint8_t *blob, size_t size) {
    uint32_t seen[2];
    fl_decoder_seen(decoder, seen);
    fl_head head;
    if (fl_look(decoder, blob, size, &head) != FL_OK || head.height != seen[0] ||
        head.width != seen[1] || head.orientation < 1 || head.orientation > 8)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < CHOICES)
        return 0;
    const fl_options options = options_from(data);
    fl_decoder *decoder = fl_decoder_new(&options);
    if (!decoder)
        abort();
    const size_t bytes = fl_image_bytes(decoder);
    uint8_t *output = malloc(bytes);
    /* Exactly as large as the blob, so that a sanitizer sees a read past its end. */
    uint8_t *blob = malloc(size - CHOICES + 1);
    if (!output || !blob)
        abort();
    memcpy(blob, data + CHOICES, size - CHOICES);
    blob = realloc(blob, size > CHOICES ? size - CHOICES : 1);
    const fl_draw draw = {data[6], data[7]};
    /* Decode it twice: what the first run left in the decoder must not matter to the second, and
     * every byte of the output image has to be written. */
    fl_status first = fl_decode(decoder, blob, size - CHOICES, draw, output);
    if ((first == FL_OK) == (fl_decoder_message(decoder)[0] != '\0'))
        abort();
    uint8_t *again = malloc(bytes);
    if (!again || fl_decode(decoder, blob, size - CHOICES, draw, again) != first)
        abort();
    if (first == FL_OK || first == FL_PARTIAL) {
        if (memcmp(output, again, bytes) != 0)
            abort();
        compare_with_head(decoder, blob, size - CHOICES);
        if (fl_decode(decoder, blob, size - CHOICES, draw, again) != first)
            abort();
        compare_with_whole(decoder, &options, blob, size - CHOICES, draw, output);
    }
    free(again);
    free(blob);
    free(output);
    fl_decoder_free(decoder);
    return 0;
}
