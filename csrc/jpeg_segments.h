/* The segments of a JPEG, where libjpeg does not say what it saw of them. */
#ifndef FL_JPEG_SEGMENTS_H
#define FL_JPEG_SEGMENTS_H

#include <stddef.h>
#include <stdint.h>

/* The second bytes of markers. */
enum {
    FL_JPEG_SOF0 = 0xC0, /* what is below is none of a segment */
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

/* The bytes of the segment whose marker is at `at`, the marker included; 1 for a fill byte, 0 where
 * the blob ends before the segment does. Call it for markers with a length only. */
size_t fl_jpeg_segment_bytes(const uint8_t *blob, size_t size, size_t at);

/* Where the entropy-coded data that begins at `at` ends: at a marker that is no restart, or with
 * the blob. */
size_t fl_jpeg_scan_end(const uint8_t *blob, size_t size, size_t at);

/* How much of the blob is whole segments and scans. */
size_t fl_jpeg_whole_segments(const uint8_t *blob, size_t size);

/* EXIF's, from the segments before the first scan: 1 to 8. */
unsigned fl_jpeg_orientation(const uint8_t *blob, size_t size);

#endif
