/* Time for fl_times. The clock never goes back, and it is the one that Python's
 * time.perf_counter() reads on Linux, so that stages timed here and there add up. */
#ifndef FL_CLOCK_H
#define FL_CLOCK_H

#include <stdbool.h>
#include <stdint.h>

/* Returns nanoseconds since an arbitrary moment; 0 if the system has no such clock. */
uint64_t fl_clock_now(void);

/* Returns fl_clock_now(), or 0 without a system call unless `wanted`. */
static inline uint64_t fl_clock(bool wanted) { return wanted ? fl_clock_now() : 0; }

#endif
