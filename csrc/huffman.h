/* A JPEG's entropy-coded data, for a reader who needs few of the coefficients (ITU T.81, annex
 * F.2).
 *
 * A table takes the next FL_VIEW bits and says how many whole codes begin and end in them and how
 * many coefficients those step over, so that what is not needed goes by two codes at a time. */
#ifndef FL_HUFFMAN_H
#define FL_HUFFMAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- codes ----------------------------------------------------------------------------------- */

#define FL_CODE_BITS 16
#define FL_VIEW 12 /* 11 and 13 take 3 % longer */

typedef struct {
    uint8_t bits; /* of the first code; 0: it is longer than FL_VIEW, or none */
    uint8_t symbol;
} fl_code;

/* As many codes as fit, each with the bits of its value behind it; those of the last may reach
 * further than FL_VIEW. One number: it is loaded for every other code of the picture. */
typedef uint16_t fl_codes;

/* All their bits, at most 27; 0: the first is longer than FL_VIEW, or none. */
static inline uint32_t fl_codes_bits(fl_codes codes) { return codes & 31; }

/* Coefficients that they step over; the end of the block counts as one. */
static inline uint32_t fl_codes_reach(fl_codes codes) { return codes >> 5 & 127; }

/* 64 if the last of them is the end of the block, otherwise 0. */
static inline uint32_t fl_codes_end(fl_codes codes) { return codes >> 6 & 64; }

typedef struct {
    fl_code first[1 << FL_VIEW];
    fl_codes several[1 << FL_VIEW];
    uint32_t limit[FL_CODE_BITS + 1]; /* what a code of this length is below, aligned to 16 bits */
    int32_t offset[FL_CODE_BITS + 1]; /* from a code of this length to its place in `symbols` */
    uint8_t symbols[256];
} fl_huffman;

/* From a DHT segment: how many codes of 1, 2, ... 16 bits there are, and what they stand for, one
 * after the other in the next `size` bytes. False where that is no table. `several` is for AC
 * coefficients alone. */
bool fl_huffman_set(fl_huffman *h, const uint8_t counts[FL_CODE_BITS], const uint8_t *symbols,
                    size_t size);
void fl_huffman_set_several(fl_huffman *h);

static inline bool fl_ends_block(uint32_t symbol) { return (symbol & 15) == 0 && symbol != 0xF0; }

/* ---- bits ------------------------------------------------------------------------------------ */

#define FL_MCU_BLOCKS 10 /* at most, B.2.3 */
/* Of a code and its value, 31 bits at most, for each of 64 coefficients; and what is read ahead. */
#define FL_MCU_BYTES (FL_MCU_BLOCKS * 64 * 31 / 8 + 32)
#define FL_WINDOW_BYTES (32 << 10)

/* What every code moves; apart, so that loops can keep it in registers. */
typedef struct {
    uint64_t bits;     /* the next ones, from the highest bit on */
    uint32_t count;    /* how many of those there are */
    const uint8_t *at; /* in the window: the next byte to take */
} fl_cursor;

/* The data without the zeros that are stuffed behind each FF, a window of it at a time. */
typedef struct {
    fl_cursor cursor;
    const uint8_t *limit;      /* in the window: the end of what has come */
    const uint8_t *next, *end; /* of the blob, what has not come to the window */
    bool ended;                /* at a marker, which is at `next`, or at the blob's end */
    uint8_t window[FL_WINDOW_BYTES + FL_MCU_BYTES];
} fl_bits;

/* The scan, or its next restart interval, begins at b->next. */
void fl_bits_start(fl_bits *b);

/* Before each MCU: makes sure that what it takes is in the window. Behind the end come zeros. */
void fl_bits_fill(fl_bits *b);

/* Whether more was taken than there was. */
static inline bool fl_bits_overdrawn(const fl_bits *b) {
    return b->cursor.at - (ptrdiff_t)(b->cursor.count >> 3) > b->limit;
}

/* There are 56 bits at least after this. (Fabian Giesen, "Reading bits in far too many ways", 2018,
 * variant 4.) */
static inline void fl_refill(fl_cursor *c) {
    uint64_t next = 0;
    for (int i = 0; i < 8; i++) /* one load, and a swap of its bytes */
        next = next << 8 | c->at[i];
    c->bits |= next >> c->count;
    c->at += (63 - c->count) >> 3;
    c->count |= 56;
}

static inline void fl_drop(fl_cursor *c, uint32_t bits) {
    c->bits <<= bits;
    c->count -= bits;
}

/* ---- coefficients ---------------------------------------------------------------------------- */

#define FL_NO_SYMBOL 256

/* Takes at most 16 bits. */
static inline uint32_t fl_symbol(fl_cursor *c, const fl_huffman *h) {
    const fl_code code = h->first[c->bits >> (64 - FL_VIEW)];
    if (code.bits) {
        fl_drop(c, code.bits);
        return code.symbol;
    }
    const uint32_t bits = (uint32_t)(c->bits >> (64 - FL_CODE_BITS));
    for (uint32_t length = FL_VIEW + 1; length <= FL_CODE_BITS; length++)
        if (bits < h->limit[length]) {
            fl_drop(c, length);
            const int32_t code_of_length = (int32_t)(bits >> (FL_CODE_BITS - length));
            return h->symbols[(code_of_length + h->offset[length]) & 255];
        }
    return FL_NO_SYMBOL;
}

/* RECEIVE and EXTEND, of 1 to 15 bits. */
static inline int32_t fl_value(fl_cursor *c, uint32_t bits) {
    const int32_t value = (int32_t)(c->bits >> (64 - bits));
    fl_drop(c, bits);
    return value < 1 << (bits - 1) ? value - (1 << bits) + 1 : value;
}

/* Adds the difference of a DC coefficient to `value`. False where there is none. */
static inline bool fl_read_dc(fl_cursor *c, const fl_huffman *h, uint16_t *value) {
    fl_refill(c);
    const uint32_t bits = fl_symbol(c, h);
    if (bits > 15)
        return false;
    if (bits)
        *value = (uint16_t)(*value + (uint32_t)fl_value(c, bits));
    return true;
}

/* Steps over the AC coefficients from `k` on. */
static inline bool fl_skip_ac(fl_cursor *c, const fl_huffman *h, uint32_t k) {
    while (k < 64) {
        fl_refill(c);
        for (int i = 0; i < 2; i++) { /* 27 of 56 bits each time */
            const fl_codes codes = h->several[c->bits >> (64 - FL_VIEW)];
            const uint32_t next = k + fl_codes_reach(codes);
            if (fl_codes_bits(codes) == 0 || next > 64) { /* long, or past the block */
                fl_refill(c);
                const uint32_t symbol = fl_symbol(c, h);
                if (symbol == FL_NO_SYMBOL)
                    return false;
                if (fl_ends_block(symbol))
                    return true;
                fl_drop(c, symbol & 15);
                k += (symbol >> 4) + 1;
                break;
            }
            fl_drop(c, fl_codes_bits(codes));
            k = next | fl_codes_end(codes);
            if (k >= 64)
                return true;
        }
    }
    return true;
}

/* Reads the AC coefficients below `wanted`, in zigzag order, into `found`, where there are zeros;
 * steps over the others. */
static inline bool fl_read_ac(fl_cursor *c, const fl_huffman *h, uint32_t wanted, int32_t *found) {
    for (uint32_t k = 1; k < wanted; k++) {
        fl_refill(c);
        const uint32_t symbol = fl_symbol(c, h), bits = symbol & 15;
        if (symbol == FL_NO_SYMBOL)
            return false;
        if (fl_ends_block(symbol))
            return true;
        k += symbol >> 4;
        if (k >= wanted) {
            fl_drop(c, bits);
            return fl_skip_ac(c, h, k + 1);
        }
        if (bits)
            found[k] = fl_value(c, bits);
    }
    return fl_skip_ac(c, h, wanted);
}

#endif
