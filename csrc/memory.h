/* Scratch memory that a decoder keeps from image to image. */
#ifndef FL_MEMORY_H
#define FL_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Memory beyond this is not kept: one large image must not make a worker large forever. */
#define FL_KEPT_BYTES ((size_t)4 << 20)

/* {NULL, 0} is empty, and the initial value. The owner clears it. */
typedef struct {
    uint8_t *bytes;
    size_t have;
} fl_memory;

/* Makes room for `bytes` bytes, aligned for vectors and zero when new. If there was too little
 * room, the old contents are lost. Returns false without memory. */
bool fl_memory_reserve(fl_memory *m, uint64_t bytes);

/* Frees the memory if it is larger than FL_KEPT_BYTES. Call it after each image. */
void fl_memory_trim(fl_memory *m);

/* Frees the memory and leaves it empty. */
void fl_memory_clear(fl_memory *m);

#endif
