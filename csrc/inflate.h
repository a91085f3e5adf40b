/* Inflates zlib streams piece by piece, from input that comes in pieces, as PNG needs it. */
#ifndef FL_INFLATE_H
#define FL_INFLATE_H

#include <stddef.h>
#include <stdint.h>

typedef struct fl_inflate fl_inflate;

typedef enum {
    FL_INFLATE_FULL = 0, /* all requested bytes are written */
    FL_INFLATE_HUNGRY,   /* more input is needed */
    FL_INFLATE_END,      /* the stream is complete */
    FL_INFLATE_BAD       /* not a zlib stream, or a broken one */
} fl_inflate_status;

/* "ISA-L 2.30.0" */
extern const char fl_inflate_library[];

/* Returns a state that the caller frees, or NULL without memory. */
fl_inflate *fl_inflate_new(void);

/* NULL is allowed. */
void fl_inflate_free(fl_inflate *state);

/* Starts another stream. */
void fl_inflate_start(fl_inflate *state);

/* Adds the next piece of the stream, which is borrowed until FL_INFLATE_HUNGRY. */
void fl_inflate_feed(fl_inflate *state, const uint8_t *piece, size_t size);

/* Writes up to `size` bytes and adds their number to *got. */
fl_inflate_status fl_inflate_read(fl_inflate *state, uint8_t *to, size_t size, size_t *got);

#endif
