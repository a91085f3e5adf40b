#include "memory.h"

#include <stdlib.h>
#include <string.h>

#define ALIGNMENT 64

bool fl_memory_reserve(fl_memory *m, uint64_t bytes) {
    if (m->have >= bytes)
        return true;
    fl_memory_clear(m);
    if (bytes > PTRDIFF_MAX - ALIGNMENT)
        return false;
    const size_t rounded = ((size_t)bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    m->bytes = aligned_alloc(ALIGNMENT, rounded);
    if (!m->bytes)
        return false;
    memset(m->bytes, 0, rounded);
    m->have = rounded;
    return true;
}

void fl_memory_trim(fl_memory *m) {
    if (m->have > FL_KEPT_BYTES)
        fl_memory_clear(m);
}

void fl_memory_clear(fl_memory *m) {
    free(m->bytes);
    *m = (fl_memory){NULL, 0};
}
