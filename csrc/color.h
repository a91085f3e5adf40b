/* Pixels from one colour model to another, a row at a time. */
#ifndef FL_COLOUR_H
#define FL_COLOUR_H

#include <stdint.h>

/* Red, green, blue, alpha over `background`, in place; alpha itself is left as it is. Each level is
 * rounded to nearest. */
void fl_compose(uint8_t *rgba, uint32_t width, const uint8_t background[3]);

/* Luma of four bytes a pixel, ITU-R 601-2 as Pillow's convert("L") has it. */
void fl_luma(const uint8_t *rgba, uint32_t width, uint8_t *luma);

uint8_t fl_luma_of(const uint8_t rgb[3]);

/* CMYK with inverted inks to red, green, blue, in place, as Pillow converts it. Adobe's
 * applications store the inks inverted (255 is no ink), and so does nearly every CMYK JPEG there
 * is; Pillow takes all of them so. */
void fl_rgb_from_inverted_cmyk(uint8_t *row, uint32_t width);

#endif
