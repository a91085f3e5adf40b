/* Reads the entropy-coded data of a JPEG for a caller who needs few of the coefficients (ITU T.81,
 * annex F.2).
 *
 * A table takes the next FL_VIEW bits and tells how many whole codes start and end in them and how
 * many coefficients those step over. So unneeded coefficients are skipped two codes at a time. */
#ifndef FL_HUFFMAN_H
#define FL_HUFFMAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- codes ----------------------------------------------------------------------------------- */

#define FL_CODE_BITS 16
#define FL_VIEW 12 /* 11 and 13 take 3 % longer */

typedef struct {
    uint8_t bits; /* length of the code; 0: longer than FL_VIEW, or no code */
    uint8_t symbol;
} fl_code;

/* As many codes as fit into FL_VIEW bits, each followed by the bits of its value; the last value
 * may extend past FL_VIEW. It is packed into one number, because it is loaded for every second code
 * of the image. */
typedef uint16_t fl_codes;

/* Returns the bits of the codes and values, at most 27; 0: the first code is longer than FL_VIEW,
 * or there is no such code. */
static inline uint32_t fl_codes_bits(fl_codes codes) { return codes & 31; }

/* Returns how many coefficients the codes step over; the end of the block counts as one. */
static inline uint32_t fl_codes_reach(fl_codes codes) { return codes >> 5 & 127; }

/* Returns 64 if the last code is the end of the block, otherwise 0. */
static inline uint32_t fl_codes_end(fl_codes codes) { return codes >> 6 & 64; }

typedef struct {
    fl_code first[1 << FL_VIEW];      /* by the next FL_VIEW bits */
    fl_codes several[1 << FL_VIEW];   /* by the next FL_VIEW bits */
    uint32_t limit[FL_CODE_BITS + 1]; /* codes of this length are below it, aligned to 16 bits */
    int32_t offset[FL_CODE_BITS + 1]; /* from a code of this length to its index in `symbols` */
    uint8_t symbols[256];
} fl_huffman;

/* Builds the table from a DHT segment: the number of codes of 1, 2, ... 16 bits, and their symbols
 * in the next `size` bytes. Leaves `several` alone. Returns false if that is no valid table. */
bool fl_huffman_set(fl_huffman *h, const uint8_t counts[FL_CODE_BITS], const uint8_t *symbols,
                    size_t size);

/* Fills `several`, which only AC coefficients need, of a table that is built. */
void fl_huffman_set_several(fl_huffman *h);

/* Returns whether the symbol of an AC coefficient ends the block: no value follows, and it is not
 * ZRL. */
static inline bool fl_ends_block(uint32_t symbol) { return (symbol & 15) == 0 && symbol != 0xF0; }

/* ---- bits ------------------------------------------------------------------------------------ */

#define FL_MCU_BLOCKS 10 /* at most, by B.2.3 */
/* At most 31 bits of a code and its value for each of 64 coefficients, and what is read ahead. */
#define FL_MCU_BYTES (FL_MCU_BLOCKS * 64 * 31 / 8 + 32)
#define FL_WINDOW_BYTES (32 << 10)

/* The state that every code changes, in a struct of its own so that loops keep it in registers. */
typedef struct {
    uint64_t bits;     /* the next bits, starting at the highest */
    uint32_t count;    /* how many of them are valid */
    const uint8_t *at; /* the next byte to take, in the window */
} fl_cursor;

/* A window of the data, without the zero that is stuffed behind each FF. */
typedef struct {
    fl_cursor cursor;
    const uint8_t *limit;      /* the end of the valid bytes in the window */
    const uint8_t *next, *end; /* the part of the blob that is not in the window yet; borrowed */
    bool ended;                /* the data ended: at a marker, which is at `next`, or at `end` */
    uint8_t window[FL_WINDOW_BYTES + FL_MCU_BYTES];
} fl_bits;

/* Starts a scan, or its next restart interval, at b->next. */
void fl_bits_start(fl_bits *b);

/* Makes sure that the window holds all bytes of the next MCU; zeros follow the end of the data.
 * Call it before each MCU. */
void fl_bits_fill(fl_bits *b);

/* Returns whether more bits were taken than the data has. */
static inline bool fl_bits_overdrawn(const fl_bits *b) {
    return b->cursor.at - (ptrdiff_t)(b->cursor.count >> 3) > b->limit;
}

/* Refills the cursor to at least 56 bits. (Fabian Giesen, "Reading bits in far too many ways",
 * 2018, variant 4.) */
static inline void fl_refill(fl_cursor *c) {
    uint64_t next = 0;
    for (int i = 0; i < 8; i++) /* one load, and a swap of its bytes */
        next = next << 8 | c->at[i];
    c->bits |= next >> c->count;
    c->at += (63 - c->count) >> 3;
    c->count |= 56;
}

/* Moves past bits that were looked at. */
static inline void fl_drop(fl_cursor *c, uint32_t bits) {
    c->bits <<= bits;
    c->count -= bits;
}

/* ---- coefficients ---------------------------------------------------------------------------- */

#define FL_NO_SYMBOL 256

/* Takes a code, at most 16 bits. Returns its symbol, or FL_NO_SYMBOL if there is no such code. */
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

/* Takes a value of 1 to 15 bits: RECEIVE and EXTEND of T.81. */
static inline int32_t fl_value(fl_cursor *c, uint32_t bits) {
    const int32_t value = (int32_t)(c->bits >> (64 - bits));
    fl_drop(c, bits);
    return value < 1 << (bits - 1) ? value - (1 << bits) + 1 : value;
}

/* Adds the difference of a DC coefficient to *value. Returns false if the data is broken. */
static inline bool fl_read_dc(fl_cursor *c, const fl_huffman *h, uint16_t *value) {
    fl_refill(c);
    const uint32_t bits = fl_symbol(c, h);
    if (bits > 15)
        return false;
    if (bits)
        *value = (uint16_t)(*value + (uint32_t)fl_value(c, bits));
    return true;
}

/* Steps over the AC coefficients of a block from `k` on. Returns false if the data is broken. */
static inline bool fl_skip_ac(fl_cursor *c, const fl_huffman *h, uint32_t k) {
    while (k < 64) {
        fl_refill(c);
        for (int i = 0; i < 2; i++) { /* at most 27 of 56 bits each time */
            const fl_codes codes = h->several[c->bits >> (64 - FL_VIEW)];
            const uint32_t next = k + fl_codes_reach(codes);
            if (fl_codes_bits(codes) == 0 || next > 64) { /* a long code, or one past the block */
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

/* Reads the AC coefficients below `wanted`, in zigzag order, into `found`, which holds zeros, and
 * steps over the others. Returns false if the data is broken. */
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
