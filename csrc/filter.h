/* The weights of a resize along one axis. */
#ifndef FL_FILTER_H
#define FL_FILTER_H

#include "kernel.h"

/* The part of an axis that is resized: out_size samples of [low, low + length), which lies in
 * [0, in_size). The filter looks past the part's ends, but not past those of the axis.
 *
 * Where a person sees the axis from its other end (`reversed`), `low` is counted from there, and
 * FL_NEAREST and FL_BOX take the side, of a pixel exactly between two samples, that they would have
 * taken had the picture been turned first. */
typedef struct {
    fl_filter_kind kind;
    uint32_t in_size, out_size;
    double low, length;
    bool reversed;
} fl_axis;

/* Output sample i is the sum over t < count[i] of weight[i * taps + t] * input[first[i] + t],
 * divided by 2^precision. The weights of a sample add up to exactly 2^precision; those past its
 * count are zero. first and first + count never decrease. */
typedef struct {
    fl_axis axis;
    uint32_t *first;     /* [out_size] */
    uint32_t *count;     /* [out_size] at least 1 */
    int16_t *weight;     /* [out_size * taps] */
    uint32_t taps;       /* the largest count, made even: the passes take taps in pairs */
    uint32_t begin, end; /* of the input samples that have a weight */
    int precision;       /* bits */
} fl_filter;

/* Whether the kind has negative weights, so that sums may lie outside their inputs' range. */
bool fl_filter_overshoots(fl_filter_kind kind);

/* Makes `filter` the one for `axis`. The weights get as many bits as int16_t holds, at most
 * max_precision. Keeps what it has where the axis is the same. False without memory; the filter is
 * then empty. */
bool fl_filter_set(fl_filter *filter, const fl_axis *axis, int max_precision);

void fl_filter_clear(fl_filter *filter);

#endif
