#include "huffman.h"

#include <string.h>

/* Figures C.1 and C.2: the codes of a length are consecutive and start at twice the code that would
 * follow the last one of the length before. No code is all ones. Entries of an earlier table need
 * no clearing, except in `first`: a length without codes gets the limit of the one before it. */
bool fl_huffman_set(fl_huffman *h, const uint8_t counts[FL_CODE_BITS], const uint8_t *symbols,
                    size_t size) {
    memset(h->first, 0, sizeof h->first);
    uint32_t code = 0, place = 0;
    for (uint32_t length = 1; length <= FL_CODE_BITS; length++, code <<= 1) {
        const uint32_t count = counts[length - 1];
        if (place + count > sizeof h->symbols || place + count > size ||
            (count > 0 && code + count >= 1u << length))
            return false;
        h->offset[length] = (int32_t)place - (int32_t)code;
        for (uint32_t i = 0; i < count; i++, code++, place++) {
            h->symbols[place] = symbols[place];
            if (length > FL_VIEW)
                continue;
            const uint32_t free_bits = FL_VIEW - length;
            for (uint32_t j = 0; j < 1u << free_bits; j++)
                h->first[(code << free_bits) + j] = (fl_code){(uint8_t)length, symbols[place]};
        }
        h->limit[length] = code << (FL_CODE_BITS - length);
    }
    return true;
}

void fl_huffman_set_several(fl_huffman *h) {
    for (uint32_t view = 0; view < 1 << FL_VIEW; view++) {
        uint32_t bits = 0, reach = 0;
        bool end = false;
        while (bits < FL_VIEW && !end) {
            const fl_code code = h->first[(view << bits) & ((1 << FL_VIEW) - 1)];
            end = fl_ends_block(code.symbol);
            const uint32_t run = end ? 0 : code.symbol >> 4;
            if (code.bits == 0 || bits + code.bits > FL_VIEW || reach + run + 1 > 64) {
                end = false;
                break;
            }
            bits += code.bits + (code.symbol & 15u);
            reach += run + 1;
        }
        h->several[view] = (fl_codes)(bits | reach << 5 | (uint32_t)end << 12);
    }
}

void fl_bits_start(fl_bits *b) {
    b->ended = false;
    b->cursor = (fl_cursor){0, 0, b->window};
    b->limit = b->window;
    fl_bits_fill(b);
}

/* Unless b->ended, cursor.at is not past b->limit, because an MCU takes fewer than FL_MCU_BYTES. */
void fl_bits_fill(fl_bits *b) {
    if (b->ended || b->limit - b->cursor.at >= FL_MCU_BYTES)
        return;
    size_t have = (size_t)(b->limit - b->cursor.at);
    memmove(b->window, b->cursor.at, have);
    while (have < FL_WINDOW_BYTES && !b->ended) {
        const size_t left = (size_t)(b->end - b->next), room = FL_WINDOW_BYTES - have;
        const size_t most = room < left ? room : left;
        const uint8_t *mark = most ? memchr(b->next, 0xFF, most) : NULL;
        const size_t plain = mark ? (size_t)(mark - b->next) : most;
        memcpy(b->window + have, b->next, plain);
        have += plain;
        b->next += plain;
        if (b->next == b->end || (mark && (left - plain < 2 || mark[1] != 0))) {
            b->ended = true;
        } else if (mark) {
            b->window[have++] = 0xFF;
            b->next += 2;
        }
    }
    memset(b->window + have, 0, FL_MCU_BYTES);
    b->cursor.at = b->window;
    b->limit = b->window + have;
}
