/* Resizes random images with the processor's vector instructions and without, and checks that the
 * bytes are the same. Prints the instructions. test_simd.py also runs it under an emulator, for
 * processors that the test suite does not run on. */
#include "below.h"
#include "sink.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Resizes RGBA pixels into `output`, through the sink. */
static void resize(const fl_options *options, const uint8_t *rgba, uint32_t height, uint32_t width,
                   uint8_t *output) {
    fl_sink sink;
    fl_view view;
    fl_sink_init(&sink, options);
    fl_view_set(&view, options, height, width, 1, (fl_draw){3, 1});
    if (fl_sink_begin(&sink, &view, height, width, output) != FL_OK ||
        fl_sink_open(&sink, sink.needed.left, sink.needed.right) != FL_OK)
        exit(2);
    for (uint32_t y = sink.needed.top; !fl_sink_done(&sink); y++) {
        memcpy(fl_sink_rgba(&sink), rgba + ((size_t)y * width + sink.left) * 4,
               (size_t)sink.columns * 4);
        fl_sink_push_rgba(&sink, true);
    }
    fl_sink_clear(&sink);
}

int main(void) {
    for (int i = 0; i < 300; i++) {
        fl_options options = {
            .height = 1 + below(100),
            .width = 1 + below(100),
            .channels = below(2) ? 3 : 1,
            .fit = (fl_fit)below(4),
            .crop_fraction = 0.9,
            .scale = {0.08, 1.0},
            .ratio = {0.75, 1.33},
            .filter = (fl_filter_kind)below(5),
            .std = {1.0, 1.0, 1.0},
        };
        const uint32_t height = 1 + below(150), width = 1 + below(150);
        const size_t bytes = (size_t)options.height * options.width * options.channels;
        uint8_t *rgba = malloc((size_t)height * width * 4);
        uint8_t *vector = malloc(bytes), *portable = malloc(bytes);
        if (!rgba || !vector || !portable)
            return 2;
        for (size_t at = 0; at < (size_t)height * width * 4; at++)
            rgba[at] = (uint8_t)below(256);
        resize(&options, rgba, height, width, vector);
        options.portable = true;
        resize(&options, rgba, height, width, portable);
        if (memcmp(vector, portable, bytes) != 0) {
            printf("image %d differs\n", i);
            return 1;
        }
        free(rgba);
        free(vector);
        free(portable);
    }
    printf("%s\n", fl_passes_pick(false)->name);
    return 0;
}
