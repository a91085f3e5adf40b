/* Scratch memory that a decoder keeps from picture to picture. */
#ifndef FL_MEMORY_H
#define FL_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* More than this is not kept: one large picture must not make a worker large for ever. */
#define FL_KEPT_BYTES ((size_t)4 << 20)

/* {NULL, 0} at first. */
typedef struct {
    uint8_t *bytes;
    size_t have;
} fl_memory;

/* At least `bytes` bytes, aligned for vectors and zero when new; what was there is lost if it was
 * too small. */
bool fl_memory_reserve(fl_memory *m, uint64_t bytes);

/* After each picture: gives it back if it is large. */
void fl_memory_trim(fl_memory *m);

void fl_memory_clear(fl_memory *m);

#endif
