#include "memory.h"

#include <stdlib.h>

bool fl_memory_reserve(fl_memory *m, uint64_t bytes) {
    if (m->have >= bytes)
        return true;
    free(m->bytes);
    m->bytes = bytes <= PTRDIFF_MAX ? malloc((size_t)bytes) : NULL;
    m->have = m->bytes ? (size_t)bytes : 0;
    return m->bytes != NULL;
}

void fl_memory_trim(fl_memory *m) {
    if (m->have > FL_KEPT_BYTES)
        fl_memory_clear(m);
}

void fl_memory_clear(fl_memory *m) {
    free(m->bytes);
    *m = (fl_memory){NULL, 0};
}
