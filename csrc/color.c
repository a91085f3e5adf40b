#include "color.h"

#include <stddef.h>

/* Returns round(a * b / 255), exactly, for a and b up to 255. */
static uint8_t scale255(uint32_t a, uint32_t b) {
    const uint32_t product = a * b + 128;
    return (uint8_t)((product + (product >> 8)) >> 8);
}

void fl_compose(uint8_t *rgba, uint32_t width, const uint8_t background[3]) {
    for (uint32_t x = 0; x < width; x++, rgba += 4) {
        const uint32_t alpha = rgba[3];
        for (int c = 0; c < 3; c++) {
            const uint32_t sum = rgba[c] * alpha + background[c] * (255 - alpha) + 128;
            rgba[c] = (uint8_t)((sum + (sum >> 8)) >> 8); /* sum / 255, rounded */
        }
    }
}

uint8_t fl_luma_of(const uint8_t rgb[3]) {
    return (uint8_t)((rgb[0] * 19595u + rgb[1] * 38470u + rgb[2] * 7471u + 0x8000u) >> 16);
}

void fl_luma(const uint8_t *rgba, uint32_t width, uint8_t *luma) {
    for (uint32_t x = 0; x < width; x++)
        luma[x] = fl_luma_of(rgba + 4 * (size_t)x);
}

void fl_rgb_from_inverted_cmyk(uint8_t *row, uint32_t width) {
    for (uint32_t x = 0; x < width; x++, row += 4) {
        const uint32_t light = row[3];
        for (int c = 0; c < 3; c++)
            row[c] = (uint8_t)(light - scale255(255u - row[c], light));
    }
}
