#include "utf8.h"

#include <string.h>

/* Returns the number of bytes of the character that starts at `at`, which is not ASCII, with `left`
 * bytes left; 0 if it is none. */
static size_t character(const uint8_t *at, size_t left) {
    const uint8_t lead = at[0];
    const size_t bytes = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
    if (lead < 0xC2 || lead > 0xF4 || left < bytes)
        return 0;
    for (size_t i = 1; i < bytes; i++)
        if ((at[i] & 0xC0) != 0x80)
            return 0;
    const bool overlong = (lead == 0xE0 && at[1] < 0xA0) || (lead == 0xF0 && at[1] < 0x90);
    const bool surrogate = lead == 0xED && at[1] > 0x9F;
    const bool too_large = lead == 0xF4 && at[1] > 0x8F;
    return overlong || surrogate || too_large ? 0 : bytes;
}

bool fl_is_utf8(const uint8_t *text, size_t size) {
    size_t at = 0;
    while (at < size) {
        uint64_t eight;
        if (size - at >= sizeof eight) { /* most text is ASCII, which has no high bits */
            memcpy(&eight, text + at, sizeof eight);
            if ((eight & 0x8080808080808080U) == 0) {
                at += sizeof eight;
                continue;
            }
        }
        const size_t bytes = text[at] < 0x80 ? 1 : character(text + at, size - at);
        if (bytes == 0)
            return false;
        at += bytes;
    }
    return true;
}
