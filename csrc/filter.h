/* The weights of an antialiased resize along one axis. */
#ifndef FL_FILTER_H
#define FL_FILTER_H

#include <stdbool.h>
#include <stdint.h>

/* Output sample i is the sum over t < taps of weight[i * taps + t] * input[first[i] + t], divided
 * by 2^precision. The weights of a sample add up to exactly 2^precision; those past its own count
 * are zero. first[i] + taps <= in_size, but for one tap where in_size is odd and all are used. */
typedef struct {
    uint32_t in_size;
    uint32_t out_size;
    uint32_t *first; /* [out_size] */
    uint32_t *count; /* [out_size] at least 1 */
    int16_t *weight; /* [out_size * taps] */
    uint32_t taps;   /* the largest count, made even: the passes take taps in pairs */
    int precision;   /* bits */
} fl_filter;

/* Makes `filter` the one from in_size to out_size samples, both at least 1. The weights get as
 * many bits as int16_t holds, at most max_precision. Keeps what it has where the sizes are the
 * same. False without memory; the filter is then empty. */
bool fl_filter_set(fl_filter *filter, uint32_t in_size, uint32_t out_size, int max_precision);

void fl_filter_clear(fl_filter *filter);

#endif
