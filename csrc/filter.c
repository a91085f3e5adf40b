/* The filters are Pillow's (libImaging/Resample.c, precompute_coeffs). Each is stretched to the
 * size of an output sample, but never made narrower than an input sample; centered on the output
 * sample; cut at the edges of the image; and normalized. FL_NEAREST is the one that is not
 * stretched. */
#include "filter.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The filters, for the distance from the center in input samples. */

static double box(double x) { return x > -0.5 && x <= 0.5 ? 1.0 : 0.0; }

static double bilinear(double x) {
    x = fabs(x);
    return x < 1.0 ? 1.0 - x : 0.0;
}

/* Keys, "Cubic convolution interpolation for digital image processing", 1981, with a = -0.5. */
static double bicubic(double x) {
    const double a = -0.5;
    x = fabs(x);
    if (x < 1.0)
        return ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0;
    return x < 2.0 ? (((x - 5.0) * x + 8.0) * x - 4.0) * a : 0.0;
}

static double sinc(double x) {
    const double pi = 3.14159265358979323846;
    return x == 0.0 ? 1.0 : sin(x * pi) / (x * pi);
}

static double lanczos(double x) { return x >= -3.0 && x < 3.0 ? sinc(x) * sinc(x / 3.0) : 0.0; }

// clang-format off: one line for each kind
static const struct {
    double (*at)(double);
    double support; /* samples on either side of the center */
} kinds[] = {
    [FL_NEAREST] = {box, 0.0}, /* not used as a filter: see sample_weights() */
    [FL_BOX] = {box, 0.5},
    [FL_BILINEAR] = {bilinear, 1.0},
    [FL_BICUBIC] = {bicubic, 2.0},
    [FL_LANCZOS] = {lanczos, 3.0},
};
// clang-format on

bool fl_filter_overshoots(fl_filter_kind kind) { return kind == FL_BICUBIC || kind == FL_LANCZOS; }

void fl_filter_clear(fl_filter *filter) {
    free(filter->first);
    free(filter->count);
    free(filter->weight);
    memset(filter, 0, sizeof *filter);
}

/* ---- weights of one sample ------------------------------------------------------------------- */

/* Returns the position rounded down, within 0 and `most`. */
static uint32_t within(double position, uint32_t most) {
    return position <= 0.0 ? 0 : position >= (double)most ? most : (uint32_t)position;
}

/* FL_NEAREST takes the later of two pixels at the same distance. Exact positions are multiples of
 * 1 / (2 * out_size), which is at least 7.6e-6, and doubles are off by at most 1e-10. Moved by this
 * much, a double lies in the same pixel as the exact position. FL_BOX rounds as Pillow does. */
#define BEYOND_ROUNDING 1e-7

/* Writes the normalized weights of output sample i to `weight`, which has room for the whole
 * window, and sets *first to the input sample of the first one. Returns their number. */
static uint32_t sample_weights(const fl_axis *axis, uint32_t i, double *weight, uint32_t *first) {
    const double step = axis->length / (double)axis->out_size;
    const double stretch = step < 1.0 ? 1.0 : step;
    const double center = axis->low + ((double)i + 0.5) * step;
    if (axis->kind == FL_NEAREST) {
        *first = within(center + BEYOND_ROUNDING, axis->in_size - 1);
        weight[0] = 1.0;
        return 1;
    }
    const double support = kinds[axis->kind].support * stretch;
    const uint32_t low = within(center - support + 0.5, axis->in_size - 1);
    uint32_t count = within(center + support + 0.5, axis->in_size);
    count = count > low ? count - low : 1;
    double sum = 0.0;
    for (uint32_t t = 0; t < count; t++)
        sum += weight[t] = kinds[axis->kind].at(((double)(low + t) - center + 0.5) / stretch);
    if (sum == 0.0) /* a box between two samples, which Pillow leaves black */
        sum = weight[0] = 1.0;
    /* Taps of weight zero at either end would only make the sink wait for rows. Filters that pass
     * through zero keep them, because `first` could decrease otherwise. */
    uint32_t skip = 0;
    if (!fl_filter_overshoots(axis->kind)) {
        while (skip + 1 < count && weight[skip] == 0.0)
            skip++;
        while (count > skip + 1 && weight[count - 1] == 0.0)
            count--;
        count -= skip;
    }
    for (uint32_t t = 0; t < count; t++)
        weight[t] = weight[skip + t] / sum;
    *first = low + skip;
    return count;
}

/* Rounds weights that add up to 1 to integers that add up to exactly 2^precision. Each is the
 * difference of two rounded partial sums, so that rounding errors cancel instead of piling up. */
static void quantize(const double *weight, uint32_t count, int precision, int16_t *out) {
    const double one = (double)(1 << precision);
    double partial = 0.0;
    int32_t before = 0;
    for (uint32_t t = 0; t < count; t++) {
        partial += weight[t];
        const int32_t now = t + 1 == count ? 1 << precision : (int32_t)floor(partial * one + 0.5);
        out[t] = (int16_t)(now - before);
        before = now;
    }
}

/* Reverses the order of the weights, in place. */
static void reverse(int16_t *weight, uint32_t count) {
    for (uint32_t t = 0; t < count / 2; t++) {
        const int16_t other = weight[count - 1 - t];
        weight[count - 1 - t] = weight[t];
        weight[t] = other;
    }
}

/* ---- the whole axis -------------------------------------------------------------------------- */

/* Returns whether the two axes need the same weights. */
static bool same(const fl_axis *a, const fl_axis *b) {
    return a->kind == b->kind && a->in_size == b->in_size && a->out_size == b->out_size &&
           a->low == b->low && a->length == b->length && a->reversed == b->reversed;
}

bool fl_filter_set(fl_filter *filter, const fl_axis *axis, int max_precision) {
    if (same(&filter->axis, axis) && filter->weight)
        return true;
    fl_filter_clear(filter);

    /* Pillow's window, ceil(support) * 2 + 1 samples, but never more than the axis has. */
    const double step = axis->length / (double)axis->out_size;
    double window = ceil(kinds[axis->kind].support * (step < 1.0 ? 1.0 : step)) * 2.0 + 1.0;
    if (window > (double)axis->in_size)
        window = (double)axis->in_size;
    const size_t most = (size_t)window;
    double *exact = malloc(axis->out_size * most * sizeof *exact);
    filter->first = malloc(axis->out_size * sizeof *filter->first);
    filter->count = malloc(axis->out_size * sizeof *filter->count);
    if (!exact || !filter->first || !filter->count)
        goto no_memory;

    double largest = 0.0;
    for (uint32_t i = 0; i < axis->out_size; i++) {
        double *weight = exact + i * most;
        const uint32_t number = axis->reversed ? axis->out_size - 1 - i : i;
        filter->count[i] = sample_weights(axis, number, weight, &filter->first[i]);
        if (axis->reversed)
            filter->first[i] = axis->in_size - filter->first[i] - filter->count[i];
        for (uint32_t t = 0; t < filter->count[i]; t++)
            largest = fabs(weight[t]) > largest ? fabs(weight[t]) : largest;
        filter->taps = filter->count[i] > filter->taps ? filter->count[i] : filter->taps;
    }
    filter->taps = (filter->taps + 1) / 2 * 2;
    filter->precision = max_precision;
    while (largest * (double)(1 << filter->precision) > 32766.0)
        filter->precision--;

    filter->weight = calloc(axis->out_size * (size_t)filter->taps, sizeof *filter->weight);
    if (!filter->weight)
        goto no_memory;
    for (uint32_t i = 0; i < axis->out_size; i++) {
        int16_t *weight = filter->weight + i * (size_t)filter->taps;
        quantize(exact + i * most, filter->count[i], filter->precision, weight);
        if (axis->reversed)
            reverse(weight, filter->count[i]);
    }
    free(exact);
    filter->axis = *axis;
    filter->begin = filter->first[0];
    filter->end = filter->first[axis->out_size - 1] + filter->count[axis->out_size - 1];
    return true;

no_memory:
    free(exact);
    fl_filter_clear(filter);
    return false;
}
