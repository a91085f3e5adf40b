/* The one thing that the kernel wants to know of EXIF data. */
#ifndef FL_EXIF_H
#define FL_EXIF_H

#include <stddef.h>
#include <stdint.h>

/* The orientation, 1 to 8, that `size` bytes of TIFF structure at `tiff` ask for; 1 where they do
 * not, or are broken. A leading "Exif\0\0" is passed over. */
unsigned fl_exif_orientation(const uint8_t *tiff, size_t size);

#endif
