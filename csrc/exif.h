/* Reads the orientation, all that the kernel needs from EXIF data. */
#ifndef FL_EXIF_H
#define FL_EXIF_H

#include <stddef.h>
#include <stdint.h>

/* Returns the orientation, 1 to 8, that `size` bytes of TIFF structure at `tiff` ask for; 1 if they
 * ask for none or are broken. Skips a leading "Exif\0\0". */
unsigned fl_exif_orientation(const uint8_t *tiff, size_t size);

#endif
