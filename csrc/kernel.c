#include "kernel.h"

#include "jpeg.h"
#include "sink.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct fl_decoder {
    fl_limits limits;
    fl_sink sink;
    fl_jpeg *jpeg;
    char message[FL_MESSAGE_BYTES];
};

fl_decoder *fl_decoder_new(uint32_t height, uint32_t width, fl_limits limits, bool portable) {
    if (height == 0 || width == 0)
        return NULL;
    fl_decoder *decoder = calloc(1, sizeof *decoder);
    if (!decoder)
        return NULL;
    decoder->limits = limits;
    fl_sink_init(&decoder->sink, height, width, portable);
    decoder->jpeg = fl_jpeg_new();
    if (!decoder->jpeg) {
        fl_decoder_free(decoder);
        return NULL;
    }
    return decoder;
}

void fl_decoder_free(fl_decoder *decoder) {
    if (!decoder)
        return;
    fl_jpeg_free(decoder->jpeg);
    fl_sink_clear(&decoder->sink);
    free(decoder);
}

/* The first bytes of a blob, for a person who wonders what is in the column. */
static void describe_start(const uint8_t *blob, size_t size, char *message) {
    int n = snprintf(message, FL_MESSAGE_BYTES, "not a JPEG; it starts with");
    for (size_t i = 0; i < size && i < 8; i++)
        n += snprintf(message + n, FL_MESSAGE_BYTES - (size_t)n, " %02x", blob[i]);
}

fl_status fl_decode(fl_decoder *decoder, const uint8_t *blob, size_t size, uint8_t *pixels) {
    decoder->message[0] = '\0';
    fl_status status;
    if (size == 0) {
        status = FL_EMPTY;
        snprintf(decoder->message, FL_MESSAGE_BYTES, "the blob is empty");
    } else if (fl_jpeg_recognises(blob, size)) {
        status = fl_jpeg_decode(decoder->jpeg, blob, size, &decoder->limits, &decoder->sink,
                                pixels, decoder->message);
    } else {
        status = FL_UNKNOWN_FORMAT;
        describe_start(blob, size, decoder->message);
    }
    if (status == FL_NO_MEMORY)
        snprintf(decoder->message, FL_MESSAGE_BYTES, "not enough memory to decode it");
    return status;
}

const char *fl_decoder_message(const fl_decoder *decoder) { return decoder->message; }

const char *fl_decoder_simd(const fl_decoder *decoder) { return decoder->sink.passes->name; }

const char *fl_jpeg_version(void) { return fl_jpeg_library; }

bool fl_sanitized(void) {
#if defined(__SANITIZE_ADDRESS__)
    return true;
#elif defined(__has_feature)
    return __has_feature(address_sanitizer);
#else
    return false;
#endif
}
