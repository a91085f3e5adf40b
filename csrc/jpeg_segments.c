#include "jpeg_segments.h"

#include "exif.h"

#include <stdbool.h>
#include <string.h>

size_t fl_jpeg_segment_bytes(const uint8_t *blob, size_t size, size_t at) {
    if (size - at < 2)
        return 0;
    if (blob[at + 1] == 0xFF)
        return 1;
    if (size - at < 4)
        return 0;
    const size_t bytes = 2 + ((size_t)blob[at + 2] << 8 | blob[at + 3]);
    return bytes >= 4 && bytes <= size - at ? bytes : 0;
}

size_t fl_jpeg_scan_end(const uint8_t *blob, size_t size, size_t at) {
    while (size - at >= 2) {
        const uint8_t *found = memchr(blob + at, 0xFF, size - at - 1);
        if (!found)
            break;
        at = (size_t)(found - blob);
        const uint8_t code = blob[at + 1];
        if (code != 0 && code != 0xFF && (code & 0xF8) != FL_JPEG_RST0)
            return at;
        at += code == 0xFF ? 1 : 2;
    }
    return size;
}

size_t fl_jpeg_whole_segments(const uint8_t *blob, size_t size) {
    size_t at = 2;
    while (size - at >= 2 && blob[at] == 0xFF && blob[at + 1] != FL_JPEG_EOI) {
        const bool scan = blob[at + 1] == FL_JPEG_SOS;
        const size_t bytes = fl_jpeg_segment_bytes(blob, size, at);
        if (bytes == 0)
            return at;
        at += bytes;
        if (scan)
            at = fl_jpeg_scan_end(blob, size, at);
    }
    return at;
}

unsigned fl_jpeg_orientation(const uint8_t *blob, size_t size) {
    size_t at = 2;
    while (size - at >= 4 && blob[at] == 0xFF && blob[at + 1] != FL_JPEG_SOS) {
        const size_t bytes = fl_jpeg_segment_bytes(blob, size, at);
        if (bytes == 0)
            break;
        if (blob[at + 1] == FL_JPEG_APP1 && bytes >= 10 &&
            memcmp(blob + at + 4, "Exif\0\0", 6) == 0)
            return fl_exif_orientation(blob + at + 4, bytes - 4);
        at += bytes;
    }
    return 1;
}
