#include "view.h"

#include <math.h>
#include <stdio.h>

#define MOST_PIXELS_OF_A_SIDE 65535

fl_status fl_check_size(uint32_t height, uint32_t width, const fl_options *options,
                        char message[FL_MESSAGE_BYTES]) {
    if ((uint64_t)height * width > options->max_pixels) {
        snprintf(message, FL_MESSAGE_BYTES, "%u x %u pixels, the limit is %llu", width, height,
                 (unsigned long long)options->max_pixels);
        return FL_TOO_MANY_PIXELS;
    }
    if (height > MOST_PIXELS_OF_A_SIDE || width > MOST_PIXELS_OF_A_SIDE) {
        snprintf(message, FL_MESSAGE_BYTES, "%u x %u pixels, the limit of a side is %d", width,
                 height, MOST_PIXELS_OF_A_SIDE);
        return FL_UNSUPPORTED;
    }
    return FL_OK;
}

/* ---- random numbers -------------------------------------------------------------------------- */

/* Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011). Writes four
 * random words that are a function of a key and a counter alone, so that the crop of a row does not
 * depend on who decodes it, or after what. */
static void philox(uint64_t key, uint64_t row, uint64_t epoch, uint32_t number, uint32_t words[4]) {
    uint32_t c[4] = {(uint32_t)row, (uint32_t)(row >> 32), (uint32_t)epoch, number};
    uint32_t k[2] = {(uint32_t)key, (uint32_t)(key >> 32)};
    for (int round = 0; round < 10; round++) {
        const uint64_t p0 = (uint64_t)0xD2511F53 * c[0], p1 = (uint64_t)0xCD9E8D57 * c[2];
        const uint32_t next[4] = {(uint32_t)(p1 >> 32) ^ c[1] ^ k[0], (uint32_t)p1,
                                  (uint32_t)(p0 >> 32) ^ c[3] ^ k[1], (uint32_t)p0};
        for (int i = 0; i < 4; i++)
            c[i] = next[i];
        k[0] += 0x9E3779B9;
        k[1] += 0xBB67AE85;
    }
    for (int i = 0; i < 4; i++)
        words[i] = c[i];
}

/* Returns the word scaled to [low, high). */
static double uniform(uint32_t word, double low, double high) {
    return low + (high - low) * ((double)word / 4294967296.0);
}

/* ---- fits: a box in the image as a viewer sees it ------------------------------------------ */

typedef struct {
    double top, left, height, width;
} box;

/* Returns a box of a size in the middle of an image of another size. */
static box centered(double height, double width, double box_height, double box_width) {
    const box b = {(height - box_height) / 2.0, (width - box_width) / 2.0, box_height, box_width};
    return b;
}

/* Returns the largest box with the proportions of the output image, times crop_fraction. This is
 * the same as resizing until the output is covered and cutting off what sticks out. */
static box crop(const fl_options *o, double height, double width) {
    const double across = width / (double)o->width, down = height / (double)o->height;
    const double step = (across < down ? across : down) * o->crop_fraction;
    return centered(height, width, (double)o->height * step, (double)o->width * step);
}

/* How often a random box is tried. */
#define TRIES 10

/* Returns the random resized crop of Szegedy et al., "Going deeper with convolutions", 2015, as
 * torchvision's RandomResizedCrop.get_params() computes it: after TRIES boxes that do not fit, the
 * largest centered box whose proportions are allowed. Boxes are whole pixels. */
static box random_crop(const fl_options *o, double height, double width, fl_draw draw) {
    for (uint32_t i = 0; i < TRIES; i++) {
        uint32_t words[4];
        philox(o->seed, draw.row, draw.epoch, i, words);
        const double area = height * width * uniform(words[0], o->scale[0], o->scale[1]);
        const double ratio = exp(uniform(words[1], log(o->ratio[0]), log(o->ratio[1])));
        const double w = floor(sqrt(area * ratio) + 0.5), h = floor(sqrt(area / ratio) + 0.5);
        if (w < 1.0 || h < 1.0 || w > width || h > height)
            continue;
        const box b = {floor(uniform(words[2], 0.0, height - h + 1.0)),
                       floor(uniform(words[3], 0.0, width - w + 1.0)), h, w};
        return b;
    }
    double w = width, h = height;
    if (w / h < o->ratio[0])
        h = floor(w / o->ratio[0] + 0.5);
    else if (w / h > o->ratio[1])
        w = floor(h * o->ratio[1] + 0.5);
    h = h < 1.0 ? 1.0 : h > height ? height : h;
    w = w < 1.0 ? 1.0 : w > width ? width : w;
    box b = centered(height, width, h, w);
    b.top = floor(b.top);
    b.left = floor(b.left);
    return b;
}

/* Returns the size rounded to nearest, within 1 and `most`. */
static uint32_t at_least_one(double size, uint32_t most) {
    const double rounded = floor(size + 0.5);
    return rounded<1.0 ? 1 : rounded>(double) most ? most : (uint32_t)rounded;
}

/* ---- orientation ----------------------------------------------------------------------------- */

/* How a stored image becomes the one that a viewer should see: rows and columns are swapped first,
 * then the order of either may be reversed. EXIF 2.32, tag 0x0112. */
typedef struct {
    bool swap, reverse_rows, reverse_columns;
} turn;

/* Returns the turn for an EXIF orientation; none for a value that is not 1 to 8. */
static turn turn_of(unsigned orientation) {
    static const turn turns[9] = {
        {false, false, false}, {false, false, false}, {false, false, true},
        {false, true, true},   {false, true, false},  {true, false, false},
        {true, false, true},   {true, true, true},    {true, true, false},
    };
    return turns[orientation <= 8 ? orientation : 0];
}

void fl_view_set(fl_view *view, const fl_options *o, uint32_t height, uint32_t width,
                 unsigned orientation, fl_draw draw) {
    view->orientation = o->orientation && orientation >= 1 && orientation <= 8 ? orientation : 1;
    turn t = turn_of(view->orientation);
    const double seen_height = t.swap ? (double)width : (double)height;
    const double seen_width = t.swap ? (double)height : (double)width;

    /* Where the box goes in the output image: all of it, unless it is padded. */
    uint32_t top = 0, left = 0, out_height = o->height, out_width = o->width;
    box b = {0.0, 0.0, seen_height, seen_width};
    switch (o->fit) {
    case FL_STRETCH:
        break;
    case FL_CROP:
        b = crop(o, seen_height, seen_width);
        break;
    case FL_RANDOM_CROP:
        b = random_crop(o, seen_height, seen_width, draw);
        break;
    case FL_PAD: {
        const double across = (double)o->width / seen_width, down = (double)o->height / seen_height;
        const double factor = across < down ? across : down;
        out_height = at_least_one(seen_height * factor, o->height);
        out_width = at_least_one(seen_width * factor, o->width);
        top = (o->height - out_height) / 2;
        left = (o->width - out_width) / 2;
        break;
    }
    }

    view->pixels = (uint64_t)height * width;
    view->seen_height = t.swap ? width : height;
    view->seen_width = t.swap ? height : width;
    view->top = t.swap ? b.left : b.top;
    view->left = t.swap ? b.top : b.left;
    view->height = t.swap ? b.width : b.height;
    view->width = t.swap ? b.height : b.width;
    view->out_height = t.swap ? out_width : out_height;
    view->out_width = t.swap ? out_height : out_width;
    view->all_rows = (double)height;
    view->all_columns = (double)width;
    view->reversed_rows = t.swap ? t.reverse_columns : t.reverse_rows;
    view->reversed_columns = t.swap ? t.reverse_rows : t.reverse_columns;

    if (o->flip) {
        uint32_t words[4];
        philox(o->seed, draw.row, draw.epoch, TRIES, words);
        if (words[0] >> 31) { /* mirror the whole output image, padding included */
            t.reverse_columns = !t.reverse_columns;
            left = o->width - left - out_width;
        }
    }
    const ptrdiff_t down = t.reverse_rows ? -(ptrdiff_t)o->width : (ptrdiff_t)o->width;
    const ptrdiff_t across = t.reverse_columns ? -1 : 1;
    const uint32_t first_row = t.reverse_rows ? top + out_height - 1 : top;
    const uint32_t first_column = t.reverse_columns ? left + out_width - 1 : left;
    view->origin = (ptrdiff_t)first_row * (ptrdiff_t)o->width + (ptrdiff_t)first_column;
    view->row_step = t.swap ? across : down;
    view->column_step = t.swap ? down : across;
}

void fl_view_scale(fl_view *view, double down, double across) {
    view->all_rows *= down;
    view->all_columns *= across;
    view->top *= down;
    view->left *= across;
    view->height *= down;
    view->width *= across;
}
