/* Walks the segments of a JPEG, for what libjpeg does not report about them. */
#ifndef FL_JPEG_SEGMENTS_H
#define FL_JPEG_SEGMENTS_H

#include <stddef.h>
#include <stdint.h>

/* The second bytes of markers. */
enum {
    FL_JPEG_SOF0 = 0xC0, /* second bytes below this do not start a segment */
    FL_JPEG_DHT = 0xC4,
    FL_JPEG_DAC = 0xCC,
    FL_JPEG_RST0 = 0xD0,
    FL_JPEG_EOI = 0xD9,
    FL_JPEG_SOS = 0xDA,
    FL_JPEG_DRI = 0xDD,
    FL_JPEG_APP0 = 0xE0,
    FL_JPEG_APP1 = 0xE1,
    FL_JPEG_JPG0 = 0xF0,
    FL_JPEG_COM = 0xFE
};

/* Returns the size of the segment whose marker is at `at`, marker included; 1 for a fill byte; 0 if
 * the blob ends before the segment does. Call it only for markers that are followed by a length. */
size_t fl_jpeg_segment_bytes(const uint8_t *blob, size_t size, size_t at);

/* Returns where the entropy-coded data that starts at `at` ends: at a marker that is not a restart,
 * or at `size`. */
size_t fl_jpeg_scan_end(const uint8_t *blob, size_t size, size_t at);

/* Returns how many bytes of the blob are whole segments and scans. */
size_t fl_jpeg_whole_segments(const uint8_t *blob, size_t size);

/* Returns the EXIF orientation, 1 to 8, from the segments before the first scan. */
unsigned fl_jpeg_orientation(const uint8_t *blob, size_t size);

#endif
