/* Tells whether bytes are text. */
#ifndef FL_UTF8_H
#define FL_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Returns whether the bytes are UTF-8 as in table 3-7 of The Unicode Standard, which Python decodes
 * too: without overlong forms, surrogates, and code points above U+10FFFF. */
bool fl_is_utf8(const uint8_t *text, size_t size);

#endif
