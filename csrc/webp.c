#include "webp.h"

#include "webp_file.h"

#include <webp/decode.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* libwebp wants memory for all rows that it may hand out, but each WebPIUpdate() fills only as many
 * as its bytes are good for. So the blob is fed in slices, and between two slices the buffer is
 * moved down by the rows that came, as webp/decode.h allows. The next rows are then written over
 * them, where the cache still has them.
 *
 * From 4096x4096 to 224x224 on Zen 4, this takes 179 ms. 64 MiB of fresh memory, whose pages have
 * to be cleared, take 221 ms; the same memory again and again takes 182 ms and keeps the 64 MiB.
 * Slices of 32 or 128 rows are as good. */
#define SLICE_ROWS 64
#define MAX_SLICES 256
#define MIN_SLICE_BYTES 4096

struct fl_webp {
    fl_memory pixels;
};

fl_webp *fl_webp_new(void) { return calloc(1, sizeof(fl_webp)); }

void fl_webp_free(fl_webp *webp) {
    if (!webp)
        return;
    fl_memory_clear(&webp->pixels);
    free(webp);
}

int fl_webp_version(void) { return WebPGetDecoderVersion(); }

bool fl_webp_recognizes(const uint8_t *blob, size_t size) {
    return size >= FL_WEBP_HEADER_BYTES && memcmp(blob, "RIFF", 4) == 0 &&
           memcmp(blob + 8, "WEBP", 4) == 0;
}

/* ---- what to decode -------------------------------------------------------------------------- */

/* The part of the frame that libwebp crops to. */
typedef struct {
    uint32_t top, left, height, width;
} part;

/* Widens a range by a pixel on each side, within `size`. libwebp rounds top and left down to even,
 * and at the edges of a crop it repeats the chroma of the outermost pixels. With this, the wanted
 * pixels are the same as in the whole image. */
static void widen(uint32_t *begin, uint32_t *end, uint32_t size) {
    *begin = *begin ? (*begin - 1) & ~(uint32_t)1 : 0;
    *end = *end < size ? *end + 1 : size;
}

/* Sets *p to the part of the frame that covers region r of the canvas. Returns false if there is
 * none. */
static bool frame_part(const fl_webp_still *s, const fl_region *r, part *p) {
    uint32_t top = r->top > s->top ? r->top - s->top : 0;
    uint32_t left = r->left > s->left ? r->left - s->left : 0;
    uint32_t bottom = r->bottom > s->top ? r->bottom - s->top : 0;
    uint32_t right = r->right > s->left ? r->right - s->left : 0;
    bottom = bottom < s->height ? bottom : s->height;
    right = right < s->width ? right : s->width;
    if (top >= bottom || left >= right)
        return false;
    widen(&top, &bottom, s->height);
    widen(&left, &right, s->width);
    *p = (part){top, left, bottom - top, right - left};
    return true;
}

/* By how much an image has to shrink before fl_options.fast leaves steps out: first the loop
 * filter, then the interpolation of chroma. The PSNR against the exact result, worst and mean of 32
 * photographs at qualities 50, 80 and 95:
 * - shrunk by 1.5, without the loop filter: 41.0 (43.8), 45.4 (48.3), 62.8 (71.6) dB;
 * - shrunk by 3, without either: 42.4 (45.1), 43.7 (48.8), 43.9 (55.3) dB.
 * At quality 30, where the filter has most to do, they are 37.7 (41.4) and 39.2 (43.0).
 *
 * libwebp's own scaler, to twice the wanted size, is no faster (as fast for 4096x4096, 0.7 of the
 * speed for 500x375) and less accurate: 36.2 dB at worst, and 30.7 straight to the wanted size. */
#define UNFILTERED_REDUCTION 1.5
#define FLAT_CHROMA_REDUCTION 3.0

/* Returns by how much the image shrinks, along the axis where that is less. */
static double reduction(const fl_sink *sink) {
    if (sink->options->filter == FL_NEAREST) /* it averages nothing that could hide an error */
        return 1.0;
    const fl_view *v = &sink->view;
    const double down = v->height / (double)v->out_height, across = v->width / (double)v->out_width;
    return down < across ? down : across;
}

/* ---- decoding -------------------------------------------------------------------------------- */

typedef struct {
    fl_sink *sink;
    const fl_webp_still *still;
    uint32_t top, left, height, width; /* on the canvas, of what libwebp hands out */
} pusher;

/* Pushes one row of the canvas. `pixels` are those that libwebp hands out of it, or NULL if the
 * frame does not cover the row. */
static void push(const pusher *p, const uint8_t *pixels) {
    fl_sink *sink = p->sink;
    uint8_t *row = fl_sink_rgba(sink);
    const uint32_t end = sink->left + sink->columns;
    uint32_t from = p->left > sink->left ? p->left : sink->left;
    uint32_t to = p->left + p->width < end ? p->left + p->width : end;
    if (!pixels || from >= to)
        from = to = end;
    /* Around the first frame of an animation, the canvas is transparent black, whatever background
     * color it asks for, as in WebPAnimDecoder and Pillow. */
    if (from - sink->left)
        memset(row, 0, (size_t)(from - sink->left) * 4);
    if (to > from)
        memcpy(row + (size_t)(from - sink->left) * 4, pixels + (size_t)(from - p->left) * 4,
               (size_t)(to - from) * 4);
    if (end - to)
        memset(row + (size_t)(to - sink->left) * 4, 0, (size_t)(end - to) * 4);
    fl_sink_push_rgba(sink, p->still->alpha);
}

/* Pushes rows without pixels up to row y of the canvas. */
static void push_empty_until(const pusher *p, uint32_t y) {
    fl_sink *sink = p->sink;
    while (!fl_sink_done(sink) && sink->pushed < y && sink->pushed < sink->needed.bottom)
        push(p, NULL);
}

/* Memory for the rows that libwebp hands out. If the buffer moves, there is as much memory again
 * before the rows, so that even a row that libwebp writes a second time is inside. The half that is
 * never touched costs addresses only. */
typedef struct {
    uint8_t *rows;
    uint8_t *owned; /* the caller frees it; NULL: the memory is the decoder's */
    bool moves;
} window;

/* Opens a window for `rows` of `stride` bytes. Returns false without memory. */
static bool window_open(window *w, fl_webp *webp, size_t rows, size_t stride) {
    const size_t bytes = rows * stride; /* neither side has more than 16384 pixels */
    *w = (window){0};
    if (bytes <=
        FL_KEPT_BYTES) { /* so little is kept for all images, and moving it would gain nothing */
        const bool enough = fl_memory_reserve(&webp->pixels, bytes);
        w->rows = webp->pixels.bytes;
        return enough;
    }
    w->owned = malloc(2 * bytes);
    w->moves = w->owned != NULL;
    if (!w->owned)
        w->owned = malloc(bytes);
    w->rows = w->moves ? w->owned + bytes : w->owned;
    return w->owned != NULL;
}

/* Feeds the decoder slice by slice and pushes the rows that come of each, until the sink is done or
 * the data ends. Sets *came to the number of rows. */
static VP8StatusCode feed_slices(WebPIDecoder *decoder, WebPDecoderConfig *config, const window *w,
                                 const pusher *p, uint32_t *came) {
    const fl_webp_still *s = p->still;
    fl_sink *sink = p->sink;
    const size_t stride = (size_t)config->output.u.RGBA.stride;
    const size_t slices = p->height / SLICE_ROWS + 1;
    const size_t least =
        s->size / MAX_SLICES > MIN_SLICE_BYTES ? s->size / MAX_SLICES : MIN_SLICE_BYTES;
    size_t slice = s->size / slices, given = 0;
    VP8StatusCode status = VP8_STATUS_SUSPENDED;
    *came = 0;
    while (status == VP8_STATUS_SUSPENDED && given < s->size && !fl_sink_done(sink)) {
        slice = slice > least ? slice : least;
        given += slice < s->size - given ? slice : s->size - given;
        status = WebPIUpdate(decoder, s->data, given);
        int rows = 0;
        if (!WebPIDecGetRGB(decoder, &rows, NULL, NULL, NULL) || (uint32_t)rows < *came)
            rows = (int)*came;
        const uint32_t until = (uint32_t)rows, new_rows = until - *came;
        const uint8_t *row = config->output.u.RGBA.rgba + *came * stride;
        for (; *came < until; ++*came, row += stride)
            if (p->top + *came >= sink->pushed && sink->pushed < sink->needed.bottom &&
                !fl_sink_done(sink))
                push(p, row);
        if (w->moves)
            config->output.u.RGBA.rgba = w->rows - *came * stride;
        /* Headers and all partitions but the last have to be there before the first row comes, and
         * the header of a lossless image is read again until it is whole. Doubling the slice keeps
         * the time linear. */
        if (new_rows < SLICE_ROWS / 2)
            slice *= 2;
        else if (new_rows > SLICE_ROWS * 2)
            slice /= 2;
    }
    return status;
}

/* Turns the last status of libwebp, after `came` rows, into ours. Completes the output image if it
 * is FL_OK or FL_PARTIAL; otherwise writes `message`. `size` is that of the blob. */
static fl_status finish(VP8StatusCode code, const pusher *p, uint32_t came, size_t size,
                        char message[FL_MESSAGE_BYTES]) {
    fl_sink *sink = p->sink;
    const fl_webp_still *s = p->still;
    if (fl_sink_done(sink))
        return FL_OK;
    switch (code) {
    case VP8_STATUS_OK:
        push_empty_until(p, UINT32_MAX);
        return FL_OK;
    case VP8_STATUS_OUT_OF_MEMORY:
        return fl_webp_say(message, FL_NO_MEMORY, "not enough memory");
    case VP8_STATUS_UNSUPPORTED_FEATURE:
        return fl_webp_say(message, FL_UNSUPPORTED, "a kind of image that libwebp does not decode");
    case VP8_STATUS_SUSPENDED:
    case VP8_STATUS_NOT_ENOUGH_DATA:
        break;
    default:
        return fl_webp_say(message, FL_CORRUPT, "libwebp cannot decode the image");
    }
    if (!s->cut)
        return fl_webp_say(message, FL_CORRUPT,
                           "the chunk of the image ends before the image does");
    if (!came)
        return fl_webp_ends_early(message, size);
    snprintf(message, FL_MESSAGE_BYTES,
             "the blob of %zu bytes ends before the image does; %u of %u rows came", size, came,
             p->height);
    if (sink->options->strict)
        return FL_TRUNCATED;
    fl_sink_end_early(sink);
    return FL_PARTIAL;
}

/* Decodes the part `crop` of the frame into the sink. `size` is that of the blob. */
static fl_status decode_part(fl_webp *webp, const pusher *p, const part *crop, size_t size,
                             char message[FL_MESSAGE_BYTES]) {
    const fl_webp_still *s = p->still;
    WebPDecoderConfig config;
    if (!WebPInitDecoderConfig(&config))
        return fl_webp_say(
            message, FL_UNSUPPORTED,
            "the loaded libwebp is older than the one that fastloader was compiled for");
    WebPDecoderOptions *o = &config.options;
    if (crop->height != s->height || crop->width != s->width) {
        o->use_cropping = 1;
        o->crop_top = (int)crop->top;
        o->crop_left = (int)crop->left;
        o->crop_height = (int)crop->height;
        o->crop_width = (int)crop->width;
    }
    if (p->sink->options->fast) {
        o->bypass_filtering = reduction(p->sink) >= UNFILTERED_REDUCTION;
        o->no_fancy_upsampling = reduction(p->sink) >= FLAT_CHROMA_REDUCTION;
    }
    const size_t stride = (size_t)p->width * 4;
    window w;
    if (!window_open(&w, webp, p->height, stride))
        return fl_webp_say(message, FL_NO_MEMORY, "not enough memory");
    config.output.colorspace = MODE_RGBA;
    config.output.is_external_memory = 1;
    config.output.u.RGBA.rgba = w.rows;
    config.output.u.RGBA.stride = (int)stride;
    config.output.u.RGBA.size = p->height * stride;

    fl_status status;
    WebPIDecoder *decoder = WebPIDecode(NULL, 0, &config);
    if (decoder) {
        uint32_t came;
        const VP8StatusCode code = feed_slices(decoder, &config, &w, p, &came);
        status = finish(code, p, came, size, message);
        WebPIDelete(decoder);
    } else {
        status = fl_webp_say(message, FL_NO_MEMORY, "not enough memory");
    }
    free(w.owned);
    return status;
}

fl_status fl_webp_decode(fl_webp *webp, const uint8_t *blob, size_t size, fl_sink *sink,
                         fl_draw draw, void *output, char message[FL_MESSAGE_BYTES]) {
    const fl_options *o = sink->options;
    fl_webp_still s;
    fl_status status = fl_webp_find(&s, o, blob, size, message);
    if (status != FL_OK)
        return status;
    fl_view view;
    fl_view_set(&view, o, s.canvas_height, s.canvas_width, s.orientation, draw);
    if (fl_sink_looks(sink, &view))
        return FL_OK;
    if (fl_sink_begin(sink, &view, s.canvas_height, s.canvas_width, output) != FL_OK)
        return fl_webp_say(message, FL_NO_MEMORY, "not enough memory");

    part crop = {0, 0, 0, 0};
    const bool any = frame_part(&s, &sink->needed, &crop);
    /* Start at the top if the blob is cut, so that what came does not depend on the crop. Also if
     * there is alpha: libwebp 1.2 undoes the filter of an alpha plane wrongly if it leaves out
     * rows. */
    if (s.cut || (s.alpha && o->compose)) {
        crop.height += crop.top;
        crop.top = 0;
    }
    pusher p = {sink, &s, s.top + crop.top, s.left + crop.left, crop.height, crop.width};
    if (fl_sink_open(sink, sink->needed.left, sink->needed.right) != FL_OK)
        return fl_webp_say(message, FL_NO_MEMORY, "not enough memory");
    push_empty_until(&p, any ? p.top : UINT32_MAX);
    return any ? decode_part(webp, &p, &crop, size, message) : FL_OK;
}
