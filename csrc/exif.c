#include "exif.h"

#include <stdbool.h>
#include <string.h>

#define ORIENTATION 0x0112
enum { SHORT = 3, LONG = 4 };

typedef struct {
    const uint8_t *bytes;
    size_t size;
    bool big_endian;
} tiff;

/* Returns the number of 1 to 4 bytes at `at`, in the file's byte order; 0 past the end, which no
 * tag and no offset that we look for has. */
static uint32_t number(const tiff *t, size_t at, size_t bytes) {
    uint32_t value = 0;
    if (at > t->size || t->size - at < bytes)
        return 0;
    for (size_t i = 0; i < bytes; i++)
        value = value << 8 | t->bytes[at + (t->big_endian ? i : bytes - 1 - i)];
    return value;
}

unsigned fl_exif_orientation(const uint8_t *bytes, size_t size) {
    if (size >= 6 && memcmp(bytes, "Exif\0\0", 6) == 0) {
        bytes += 6;
        size -= 6;
    }
    if (size < 8 || (memcmp(bytes, "II*\0", 4) != 0 && memcmp(bytes, "MM\0*", 4) != 0))
        return 1;
    const tiff t = {bytes, size, bytes[0] == 'M'};
    const size_t directory = number(&t, 4, 4);
    const uint32_t entries = number(&t, directory, 2);
    for (uint32_t i = 0; i < entries; i++) {
        const size_t entry = directory + 2 + 12 * (size_t)i;
        if (entry >= size)
            break;
        const uint32_t type = number(&t, entry + 2, 2);
        if (number(&t, entry, 2) == ORIENTATION && (type == SHORT || type == LONG)) {
            const uint32_t orientation = number(&t, entry + 8, type == SHORT ? 2 : 4);
            return orientation >= 1 && orientation <= 8 ? orientation : 1;
        }
    }
    return 1;
}
