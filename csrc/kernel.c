#include "kernel.h"

#include "clock.h"
#include "jpeg.h"
#include "png.h"
#include "sink.h"
#include "webp.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct fl_decoder {
    fl_options options;
    fl_sink sink;
    fl_jpeg *jpeg;
    fl_png *png;
    fl_webp *webp;
    fl_images images[FL_FORMATS];
    char message[FL_MESSAGE_BYTES];
};

/* Returns whether all options are in their ranges. */
static bool usable(const fl_options *o) {
    if (o->height < 1 || o->height > 65535 || o->width < 1 || o->width > 65535 ||
        (o->channels != 1 && o->channels != 3) || o->max_pixels < 1)
        return false;
    if (!(o->crop_fraction > 0.0 && o->crop_fraction <= 1.0) ||
        !(o->scale[0] > 0.0 && o->scale[0] <= o->scale[1] && o->scale[1] <= 1.0) ||
        !(o->ratio[0] >= 1e-3 && o->ratio[0] <= o->ratio[1] && o->ratio[1] <= 1e3))
        return false;
    for (int c = 0; c < 3; c++)
        if (!(o->mean[c] >= 0.0 && o->mean[c] <= 1.0 && o->std[c] >= 1e-6 && o->std[c] <= 1.0))
            return false;
    return true;
}

fl_decoder *fl_decoder_new(const fl_options *options) {
    if (!usable(options))
        return NULL;
    fl_decoder *decoder = calloc(1, sizeof *decoder);
    if (!decoder)
        return NULL;
    decoder->options = *options;
    fl_sink_init(&decoder->sink, &decoder->options);
    decoder->jpeg = fl_jpeg_new();
    decoder->png = fl_png_new();
    decoder->webp = fl_webp_new();
    if (!decoder->jpeg || !decoder->png || !decoder->webp) {
        fl_decoder_free(decoder);
        return NULL;
    }
    return decoder;
}

void fl_decoder_free(fl_decoder *decoder) {
    if (!decoder)
        return;
    fl_jpeg_free(decoder->jpeg);
    fl_png_free(decoder->png);
    fl_webp_free(decoder->webp);
    fl_sink_clear(&decoder->sink);
    free(decoder);
}

size_t fl_image_bytes(const fl_decoder *decoder) {
    const fl_options *o = &decoder->options;
    return (size_t)o->height * o->width * o->channels * decoder->sink.writer.item_bytes;
}

/* Writes the first bytes of a blob, for a user who wonders what is in the column. */
static void describe_start(const uint8_t *blob, size_t size, char *message) {
    int n = snprintf(message, FL_MESSAGE_BYTES, "it starts with");
    for (size_t i = 0; i < size && i < 8; i++)
        n += snprintf(message + n, FL_MESSAGE_BYTES - (size_t)n, " %02x", blob[i]);
}

/* Decodes with the decoder of the blob's format, and sets *format if there is one. */
static fl_status decode_blob(fl_decoder *d, const uint8_t *blob, size_t size, fl_draw draw,
                             void *output, fl_format *format) {
    if (size == 0) {
        snprintf(d->message, FL_MESSAGE_BYTES, "the blob is empty");
        return FL_EMPTY;
    }
    if (fl_jpeg_recognizes(blob, size)) {
        *format = FL_JPEG;
        return fl_jpeg_decode(d->jpeg, blob, size, &d->sink, draw, output, d->message);
    }
    if (fl_png_recognizes(blob, size)) {
        *format = FL_PNG;
        return fl_png_decode(d->png, blob, size, &d->sink, draw, output, d->message);
    }
    if (fl_webp_recognizes(blob, size)) {
        *format = FL_WEBP;
        return fl_webp_decode(d->webp, blob, size, &d->sink, draw, output, d->message);
    }
    describe_start(blob, size, d->message);
    return FL_UNKNOWN_FORMAT;
}

/* Adds a decoded image, whose blob has `size` bytes. */
static void count(fl_images *images, size_t size, const fl_view *view) {
    images->decoded++;
    images->bytes += size;
    images->pixels += view->pixels;
    if (images->largest < view->pixels)
        images->largest = view->pixels;
}

fl_status fl_decode(fl_decoder *decoder, const uint8_t *blob, size_t size, fl_draw draw,
                    void *output) {
    const uint64_t start = fl_clock(decoder->options.timed);
    decoder->message[0] = '\0';
    fl_format format = FL_FORMATS;
    const fl_status status = decode_blob(decoder, blob, size, draw, output, &format);
    if (status == FL_OK || status == FL_PARTIAL)
        count(&decoder->images[format], size, &decoder->sink.view);
    if (status == FL_NO_MEMORY && decoder->message[0] == '\0')
        snprintf(decoder->message, FL_MESSAGE_BYTES, "not enough memory to decode it");
    fl_sink_trim(&decoder->sink);
    decoder->sink.times.total += fl_clock(decoder->options.timed) - start;
    return status;
}

fl_status fl_look(fl_decoder *decoder, const uint8_t *blob, size_t size, fl_head *head) {
    decoder->message[0] = '\0';
    decoder->sink.looks = true;
    fl_format format = FL_FORMATS;
    const fl_status status = decode_blob(decoder, blob, size, (fl_draw){0, 0}, NULL, &format);
    decoder->sink.looks = false;
    if (status == FL_NO_MEMORY && decoder->message[0] == '\0')
        snprintf(decoder->message, FL_MESSAGE_BYTES, "not enough memory to look at it");
    const fl_view *view = &decoder->sink.view;
    if (status == FL_OK)
        *head = (fl_head){format, view->seen_height, view->seen_width, view->orientation};
    return status;
}

fl_status fl_resize(fl_decoder *decoder, const fl_raw *raw, fl_draw draw, void *output) {
    fl_sink *sink = &decoder->sink;
    decoder->message[0] = '\0';
    fl_status status = fl_check_size(raw->height, raw->width, &decoder->options, decoder->message);
    if (status != FL_OK)
        return status;
    fl_view view;
    if (raw->original_height > 0 && raw->original_width > 0) {
        fl_view_set(&view, &decoder->options, raw->original_height, raw->original_width, 1, draw);
        fl_view_scale(&view, (double)raw->height / raw->original_height,
                      (double)raw->width / raw->original_width);
    } else {
        fl_view_set(&view, &decoder->options, raw->height, raw->width, raw->orientation, draw);
    }
    status = fl_sink_begin(sink, &view, raw->height, raw->width, output);
    if (status == FL_OK)
        status = fl_sink_open(sink, sink->needed.left, sink->needed.right);
    if (status != FL_OK) {
        snprintf(decoder->message, FL_MESSAGE_BYTES, "not enough memory to resize it");
        return status;
    }
    for (uint32_t y = sink->needed.top; !fl_sink_done(sink); y++) {
        const uint8_t *from = raw->pixels + ((size_t)y * raw->width + sink->left) * raw->channels;
        uint8_t *rgba = fl_sink_rgba(sink);
        if (raw->channels == 4)
            memcpy(rgba, from, (size_t)sink->columns * 4);
        else
            for (size_t x = 0; x < sink->columns; x++)
                memcpy(rgba + 4 * x, from + 3 * x, 3);
        fl_sink_push_rgba(sink, raw->alpha);
    }
    fl_sink_trim(sink);
    return FL_OK;
}

void fl_decoder_seen(const fl_decoder *decoder, uint32_t size[2]) {
    size[0] = decoder->sink.view.seen_height;
    size[1] = decoder->sink.view.seen_width;
}

const char *fl_decoder_message(const fl_decoder *decoder) { return decoder->message; }

fl_times fl_decoder_times(const fl_decoder *decoder) { return decoder->sink.times; }

fl_images fl_decoder_take_images(fl_decoder *decoder, fl_format format) {
    const fl_images taken = decoder->images[format];
    decoder->images[format] = (fl_images){0};
    return taken;
}

const char *fl_decoder_simd(const fl_decoder *decoder) { return decoder->sink.passes->name; }

void fl_libraries(char text[FL_MESSAGE_BYTES]) {
    const int webp = fl_webp_version();
    snprintf(text, FL_MESSAGE_BYTES, "%s, %s, libwebp %d.%d.%d", fl_jpeg_library, fl_png_library(),
             webp >> 16, webp >> 8 & 255, webp & 255);
}

bool fl_libraries_fit(char message[FL_MESSAGE_BYTES]) { return fl_jpeg_fits(message); }

bool fl_sanitized(void) {
#if defined(__SANITIZE_ADDRESS__)
    return true;
#elif defined(__has_feature)
    return __has_feature(address_sanitizer);
#else
    return false;
#endif
}
