/* Converts pixels from one color model to another, a row at a time. */
#ifndef FL_COLOR_H
#define FL_COLOR_H

#include <stdint.h>

/* Composes `width` RGBA pixels over `background`, in place, with each level rounded to nearest.
 * Leaves alpha as it is. */
void fl_compose(uint8_t *rgba, uint32_t width, const uint8_t background[3]);

/* Writes the luma of `width` pixels of four bytes each: ITU-R 601-2, as Pillow's convert("L"). */
void fl_luma(const uint8_t *rgba, uint32_t width, uint8_t *luma);

/* Returns the luma of one color. */
uint8_t fl_luma_of(const uint8_t rgb[3]);

/* Converts `width` CMYK pixels with inverted inks to RGB, in place, as Pillow does. Adobe's
 * applications store the inks inverted (255 is no ink), and so does nearly every CMYK JPEG; Pillow
 * assumes it of all of them. Leaves the fourth byte of a pixel as it is. */
void fl_rgb_from_inverted_cmyk(uint8_t *row, uint32_t width);

#endif
