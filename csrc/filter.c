/* Antialiased bilinear, as Pillow defines it (libImaging/Resample.c, precompute_coeffs): a
 * triangle as wide as one output sample but never narrower than one input sample, centred on the
 * output sample and cut at the picture's edges, its weights normalised. */
#include "filter.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static double triangle(double x) {
    x = fabs(x);
    return x < 1.0 ? 1.0 - x : 0.0;
}

void fl_filter_clear(fl_filter *filter) {
    free(filter->first);
    free(filter->count);
    free(filter->weight);
    memset(filter, 0, sizeof *filter);
}

/* Weights that add up to one exactly: each is the difference of two rounded partial sums, so an
 * error is made good at the next tap instead of piling up. */
static void quantise(const double *weight, uint32_t count, int precision, int16_t *out) {
    const double one = (double)(1 << precision);
    double sum = 0.0;
    for (uint32_t t = 0; t < count; t++)
        sum += weight[t];
    double partial = 0.0;
    int32_t before = 0;
    for (uint32_t t = 0; t < count; t++) {
        partial += weight[t];
        int32_t now = t + 1 == count ? 1 << precision : (int32_t)floor(partial / sum * one + 0.5);
        out[t] = (int16_t)(now - before);
        before = now;
    }
}

/* Moves the weights of sample i from rows of `most` to rows of `taps`. The passes read all taps of
 * every sample, so a window that would reach past the last input sample starts earlier instead. */
static void place(fl_filter *filter, uint32_t i, uint32_t most, uint32_t taps, uint32_t in_size) {
    int16_t *to = filter->weight + (size_t)i * taps;
    const uint32_t count = filter->count[i];
    const uint32_t latest = in_size > taps ? in_size - taps : 0;
    const uint32_t lead = filter->first[i] > latest ? filter->first[i] - latest : 0;
    memmove(to + lead, filter->weight + (size_t)i * most, count * sizeof *to);
    memset(to, 0, lead * sizeof *to);
    memset(to + lead + count, 0, (taps - lead - count) * sizeof *to);
    filter->first[i] -= lead;
    filter->count[i] += lead;
}

bool fl_filter_set(fl_filter *filter, uint32_t in_size, uint32_t out_size, int max_precision) {
    if (filter->in_size == in_size && filter->out_size == out_size)
        return true;
    fl_filter_clear(filter);

    const double step = (double)in_size / (double)out_size;
    const double scale = step < 1.0 ? 1.0 : step;
    /* Pillow's window, ceil(support) * 2 + 1 samples, but never more than there are. */
    double window = ceil(scale) * 2.0 + 1.0;
    if (window > (double)in_size)
        window = (double)in_size;
    const uint32_t most = ((uint32_t)window + 1) / 2 * 2; /* taps, before they are counted */

    /* The largest weight is at most 1 / scale, except at an edge that cuts the triangle in half. */
    int precision = 14;
    while (precision < max_precision && (double)(1 << (precision + 1)) * 2.0 / scale < 32000.0)
        precision++;

    double *weight = malloc(most * sizeof *weight);
    filter->first = malloc(out_size * sizeof *filter->first);
    filter->count = malloc(out_size * sizeof *filter->count);
    filter->weight = calloc((size_t)out_size * most, sizeof *filter->weight);
    if (!weight || !filter->first || !filter->count || !filter->weight) {
        free(weight);
        fl_filter_clear(filter);
        return false;
    }

    uint32_t taps = 0;
    for (uint32_t i = 0; i < out_size; i++) {
        const double centre = ((double)i + 0.5) * step;
        double low = floor(centre - scale + 0.5);
        double high = floor(centre + scale + 0.5);
        low = low < 0.0 ? 0.0 : low;
        high = high > (double)in_size ? (double)in_size : high;
        uint32_t first = (uint32_t)low;
        uint32_t count = (uint32_t)(high - low);
        for (uint32_t t = 0; t < count; t++)
            weight[t] = triangle(((double)(first + t) - centre + 0.5) / scale);
        /* Taps of weight zero at either end would only make the sink wait for rows. */
        uint32_t skip = 0;
        while (skip + 1 < count && weight[skip] <= 0.0)
            skip++;
        while (count > skip + 1 && weight[count - 1] <= 0.0)
            count--;
        filter->first[i] = first + skip;
        filter->count[i] = count - skip;
        quantise(weight + skip, count - skip, precision, filter->weight + (size_t)i * most);
        taps = filter->count[i] > taps ? filter->count[i] : taps;
    }
    free(weight);
    taps = (taps + 1) / 2 * 2;
    for (uint32_t i = 0; i < out_size; i++)
        place(filter, i, most, taps, in_size);
    filter->in_size = in_size;
    filter->out_size = out_size;
    filter->taps = taps;
    filter->precision = precision;
    return true;
}
