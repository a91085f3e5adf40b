#include "unfilter.h"

#include <string.h>

enum { NONE = 0, SUB, UP, AVERAGE, PAETH };

/* ---- any pixel, any processor ---------------------------------------------------------------- */

/* Returns the neighbor nearest to a + b - c: a, if not that b, if not that c. Let low and high be a
 * and b in order, and t = 3c - (a + b). The result is low if t >= high, high if t <= low, and c
 * otherwise. This needs no absolute values (Fabian Giesen's form, as in stb_image). */
static uint8_t paeth(int a, int b, int c) {
    const int low = a < b ? a : b, high = a < b ? b : a, t = 3 * c - (a + b);
    return (uint8_t)(t >= high ? low : t <= low ? high : c);
}

/* As fl_unfilter(), for any size of a pixel. */
static void unfilter_any(unsigned filter, size_t pixel, size_t size, const uint8_t *from,
                         const uint8_t *above, uint8_t *to) {
    const size_t first = pixel < size ? pixel : size;
    size_t i = 0;
    switch (filter) {
    case NONE:
        memcpy(to, from, size);
        break;
    case SUB:
        for (; i < first; i++)
            to[i] = from[i];
        for (; i < size; i++)
            to[i] = (uint8_t)(from[i] + to[i - pixel]);
        break;
    case UP:
        for (; i < size; i++)
            to[i] = (uint8_t)(from[i] + above[i]);
        break;
    case AVERAGE:
        for (; i < first; i++)
            to[i] = (uint8_t)(from[i] + above[i] / 2);
        for (; i < size; i++)
            to[i] = (uint8_t)(from[i] + (to[i - pixel] + above[i]) / 2);
        break;
    case PAETH:
        for (; i < first; i++)
            to[i] = (uint8_t)(from[i] + above[i]);
        for (; i < size; i++)
            to[i] = (uint8_t)(from[i] + paeth(to[i - pixel], above[i], above[i - pixel]));
        break;
    }
}

#ifdef __SSE2__

/* ---- pixels of 3, 4, 6 or 8 bytes, one at a time --------------------------------------------- */

#include <emmintrin.h>

/* `pixel` is a constant wherever these are inlined. A pixel of 3 or 6 bytes is read and written as
 * one of 4 or 8. The surplus bytes are overwritten by the next pixel, or are in the slack. */
static inline __m128i load(const uint8_t *from, size_t pixel) {
    if (pixel > 4)
        return _mm_loadl_epi64((const __m128i *)(const void *)from);
    int32_t bits;
    memcpy(&bits, from, sizeof bits);
    return _mm_cvtsi32_si128(bits);
}

static inline void store(uint8_t *to, __m128i value, size_t pixel) {
    if (pixel > 4) {
        _mm_storel_epi64((__m128i *)(void *)to, value);
    } else {
        const int32_t bits = _mm_cvtsi128_si32(value);
        memcpy(to, &bits, sizeof bits);
    }
}

/* Each of these undoes the filter of its name on `size` bytes. */

static inline void sub(size_t pixel, size_t size, const uint8_t *from, uint8_t *to) {
    __m128i a = _mm_setzero_si128();
    for (size_t i = 0; i < size; i += pixel) {
        a = _mm_add_epi8(a, load(from + i, pixel));
        store(to + i, a, pixel);
    }
}

static void up(size_t size, const uint8_t *from, const uint8_t *above, uint8_t *to) {
    for (size_t i = 0; i < size; i += 16) {
        const __m128i x = _mm_loadu_si128((const __m128i *)(const void *)(from + i));
        const __m128i b = _mm_loadu_si128((const __m128i *)(const void *)(above + i));
        _mm_storeu_si128((__m128i *)(void *)(to + i), _mm_add_epi8(x, b));
    }
}

static inline void average(size_t pixel, size_t size, const uint8_t *from, const uint8_t *above,
                           uint8_t *to) {
    const __m128i one = _mm_set1_epi8(1);
    __m128i a = _mm_setzero_si128();
    for (size_t i = 0; i < size; i += pixel) {
        const __m128i b = load(above + i, pixel);
        /* The instruction rounds up, but the filter rounds down. */
        const __m128i up_by = _mm_and_si128(_mm_xor_si128(a, b), one);
        a = _mm_add_epi8(_mm_sub_epi8(_mm_avg_epu8(a, b), up_by), load(from + i, pixel));
        store(to + i, a, pixel);
    }
}

/* Each pixel depends on the one before it, so the time is that of the chain from `a` to the next
 * `a`. */
static inline void paeths(size_t pixel, size_t size, const uint8_t *from, const uint8_t *above,
                          uint8_t *to) {
    const __m128i zero = _mm_setzero_si128();
    __m128i a = zero, c = zero;
    for (size_t i = 0; i < size; i += pixel) {
        const __m128i b = _mm_unpacklo_epi8(load(above + i, pixel), zero);
        const __m128i x = _mm_unpacklo_epi8(load(from + i, pixel), zero);
        const __m128i c3_b = _mm_sub_epi16(_mm_add_epi16(_mm_add_epi16(c, c), c), b);
        /* Saturates only to keep compilers from subtracting a + b, which lengthens the chain. */
        const __m128i t = _mm_subs_epi16(c3_b, a);
        const __m128i low = _mm_min_epi16(a, b), high = _mm_max_epi16(a, b);
        const __m128i below = _mm_cmpgt_epi16(high, t), over = _mm_cmpgt_epi16(t, low);
        /* If neither holds, low and high are equal. */
        const __m128i nearest =
            _mm_or_si128(_mm_or_si128(_mm_andnot_si128(below, low), _mm_andnot_si128(over, high)),
                         _mm_and_si128(_mm_and_si128(below, c), over));
        a = _mm_add_epi8(nearest, x); /* the high bytes stay 0 */
        c = b;
        store(to + i, _mm_packus_epi16(a, a), pixel);
    }
}

/* As fl_unfilter(), for pixels of 3, 4, 6 or 8 bytes. */
static inline void unfilter_pixels(unsigned filter, size_t pixel, size_t size, const uint8_t *from,
                                   const uint8_t *above, uint8_t *to) {
    switch (filter) {
    case NONE:
        memcpy(to, from, size);
        break;
    case SUB:
        sub(pixel, size, from, to);
        break;
    case UP:
        up(size, from, above, to);
        break;
    case AVERAGE:
        average(pixel, size, from, above, to);
        break;
    case PAETH:
        paeths(pixel, size, from, above, to);
        break;
    }
}

#endif

void fl_unfilter(unsigned filter, size_t pixel_bytes, size_t size, const uint8_t *from,
                 const uint8_t *above, uint8_t *to, bool portable) {
#ifdef __SSE2__
    switch (portable ? 0 : pixel_bytes) {
    case 3:
        unfilter_pixels(filter, 3, size, from, above, to);
        return;
    case 4:
        unfilter_pixels(filter, 4, size, from, above, to);
        return;
    case 6:
        unfilter_pixels(filter, 6, size, from, above, to);
        return;
    case 8:
        unfilter_pixels(filter, 8, size, from, above, to);
        return;
    default:
        break;
    }
#else
    (void)portable;
#endif
    unfilter_any(filter, pixel_bytes, size, from, above, to);
}
