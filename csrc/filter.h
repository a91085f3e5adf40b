/* Computes the weights of a resize along one axis. */
#ifndef FL_FILTER_H
#define FL_FILTER_H

#include "kernel.h"

/* The part of an axis that is resized: out_size samples of [low, low + length), which lies in
 * [0, in_size). The filter looks past the ends of the part, but not past those of the axis.
 *
 * If a viewer sees the axis from its other end (`reversed`), `low` is counted from there. Where a
 * pixel lies exactly between two samples, FL_NEAREST and FL_BOX then take the side that they would
 * take if the image were turned first. */
typedef struct {
    fl_filter_kind kind;
    uint32_t in_size, out_size;
    double low, length;
    bool reversed;
} fl_axis;

/* Output sample i is the sum over t < count[i] of weight[i * taps + t] * input[first[i] + t],
 * divided by 2^precision. The weights of a sample add up to exactly 2^precision; those past its
 * count are zero. first and first + count never decrease. All zero is a valid, empty filter. */
typedef struct {
    fl_axis axis;
    uint32_t *first;     /* [out_size] */
    uint32_t *count;     /* [out_size] at least 1 */
    int16_t *weight;     /* [out_size * taps] */
    uint32_t taps;       /* the largest count, rounded up to even: the passes take pairs */
    uint32_t begin, end; /* of the input samples that have a weight */
    int precision;       /* bits */
} fl_filter;

/* Returns whether the kind has negative weights: a sum may then exceed the range of its inputs. */
bool fl_filter_overshoots(fl_filter_kind kind);

/* Computes the filter for `axis`, or keeps it if it is for that axis already. The precision is as
 * high as int16_t allows, at most max_precision. Returns false without memory; the filter is then
 * empty. */
bool fl_filter_set(fl_filter *filter, const fl_axis *axis, int max_precision);

/* Frees the arrays and leaves the filter empty. */
void fl_filter_clear(fl_filter *filter);

#endif
