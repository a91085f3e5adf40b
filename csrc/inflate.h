/* Inflating zlib streams a piece at a time, out of pieces: what PNG needs. */
#ifndef FL_INFLATE_H
#define FL_INFLATE_H

#include <stddef.h>
#include <stdint.h>

typedef struct fl_inflate fl_inflate;

typedef enum {
    FL_INFLATE_FULL = 0, /* all that was asked for came */
    FL_INFLATE_HUNGRY,   /* it takes more input to go on */
    FL_INFLATE_END,      /* the stream is complete */
    FL_INFLATE_BAD       /* no zlib stream, or a broken one */
} fl_inflate_status;

extern const char fl_inflate_library[];

/* NULL without memory. */
fl_inflate *fl_inflate_new(void);
void fl_inflate_free(fl_inflate *state); /* NULL is allowed */

/* Another stream begins. */
void fl_inflate_start(fl_inflate *state);

/* The next piece of it, borrowed until FL_INFLATE_HUNGRY. */
void fl_inflate_feed(fl_inflate *state, const uint8_t *piece, size_t size);

/* Writes up to `size` bytes and adds their number to *got. */
fl_inflate_status fl_inflate_read(fl_inflate *state, uint8_t *to, size_t size, size_t *got);

#endif
