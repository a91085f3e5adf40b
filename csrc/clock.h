/* Time for fl_times; costs a call only where it is wanted. */
#ifndef FL_CLOCK_H
#define FL_CLOCK_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

/* Nanoseconds, or 0 unless `wanted`. */
static inline uint64_t fl_clock(bool wanted) {
    struct timespec now;
    if (!wanted || !timespec_get(&now, TIME_UTC))
        return 0;
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

#endif
