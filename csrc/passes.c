#include "passes.h"

#include "filter.h"
#include "kernel.h"

#include <string.h>

/* The vertical pass works on this many samples at a time, so that their sums stay in registers
 * or at least in the first-level cache while the taps go by. */
#define BLOCK 32

static void vertical_portable(const uint8_t *const *rows, const int16_t *weight, uint32_t taps,
                              int precision, uint32_t size, int16_t *out) {
    const int shift = precision - FL_FRACTION_BITS;
    for (uint32_t x = 0; x < size; x += BLOCK) {
        int32_t sum[BLOCK];
        for (int i = 0; i < BLOCK; i++)
            sum[i] = 1 << (shift - 1);
        for (uint32_t t = 0; t < taps; t++) {
            const uint8_t *row = rows[t] + x;
            for (int i = 0; i < BLOCK; i++)
                sum[i] += weight[t] * row[i];
        }
        for (int i = 0; i < BLOCK; i++)
            out[x + (uint32_t)i] = (int16_t)(sum[i] >> shift);
    }
}

static uint8_t clamp(int32_t level) {
    return (uint8_t)(level < 0 ? 0 : level > 255 ? 255 : level);
}

static void horizontal_portable(const int16_t *const rows[2], const uint32_t *first,
                                const int16_t *weight, uint32_t taps, int precision,
                                uint32_t width, uint8_t *const pixels[2]) {
    const int shift = precision + FL_FRACTION_BITS;
    for (int r = 0; r < 2; r++) {
        for (uint32_t x = 0; x < width; x++) {
            const int16_t *in = rows[r] + (size_t)first[x] * FL_ROW_CHANNELS;
            const int16_t *w = weight + (size_t)x * taps;
            int32_t sum[FL_ROW_CHANNELS];
            for (int c = 0; c < FL_ROW_CHANNELS; c++)
                sum[c] = 1 << (shift - 1);
            for (uint32_t t = 0; t < taps; t++, in += FL_ROW_CHANNELS)
                for (int c = 0; c < FL_ROW_CHANNELS; c++)
                    sum[c] += w[t] * in[c];
            for (int c = 0; c < FL_CHANNELS; c++)
                pixels[r][(size_t)x * FL_CHANNELS + (size_t)c] = clamp(sum[c] >> shift);
        }
    }
}

static const fl_passes portable_passes = {"portable", vertical_portable, horizontal_portable};

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>

#define AVX2 __attribute__((target("avx2")))

/* Two rows at a time: bytes of both are interleaved and widened, so that one vpmaddwd multiplies
 * and adds the pair. Unpacking works within 128-bit lanes; the packs at the end undo it. */
AVX2 static void vertical_avx2(const uint8_t *const *rows, const int16_t *weight, uint32_t taps,
                               int precision, uint32_t size, int16_t *out) {
    const int shift = precision - FL_FRACTION_BITS;
    const __m128i count = _mm_cvtsi32_si128(shift);
    const __m256i half = _mm256_set1_epi32(1 << (shift - 1));
    const __m256i zero = _mm256_setzero_si256();
    for (uint32_t x = 0; x < size; x += BLOCK) {
        __m256i s0 = half, s1 = half, s2 = half, s3 = half;
        for (uint32_t t = 0; t < taps; t += 2) {
            int32_t pair;
            memcpy(&pair, weight + t, sizeof pair);
            const __m256i w = _mm256_set1_epi32(pair);
            const __m256i a = _mm256_loadu_si256((const __m256i *)(const void *)(rows[t] + x));
            const __m256i b = _mm256_loadu_si256((const __m256i *)(const void *)(rows[t + 1] + x));
            const __m256i low = _mm256_unpacklo_epi8(a, b);
            const __m256i high = _mm256_unpackhi_epi8(a, b);
            s0 = _mm256_add_epi32(s0, _mm256_madd_epi16(_mm256_unpacklo_epi8(low, zero), w));
            s1 = _mm256_add_epi32(s1, _mm256_madd_epi16(_mm256_unpackhi_epi8(low, zero), w));
            s2 = _mm256_add_epi32(s2, _mm256_madd_epi16(_mm256_unpacklo_epi8(high, zero), w));
            s3 = _mm256_add_epi32(s3, _mm256_madd_epi16(_mm256_unpackhi_epi8(high, zero), w));
        }
        s0 = _mm256_sra_epi32(s0, count);
        s1 = _mm256_sra_epi32(s1, count);
        s2 = _mm256_sra_epi32(s2, count);
        s3 = _mm256_sra_epi32(s3, count);
        const __m256i even = _mm256_packs_epi32(s0, s1); /* samples 0-7 and 16-23 */
        const __m256i odd = _mm256_packs_epi32(s2, s3);  /* samples 8-15 and 24-31 */
        _mm256_storeu_si256((__m256i *)(void *)(out + x),
                            _mm256_permute2x128_si256(even, odd, 0x20));
        _mm256_storeu_si256((__m256i *)(void *)(out + x + 16),
                            _mm256_permute2x128_si256(even, odd, 0x31));
    }
}

/* Both rows at once, one in each 128-bit lane, so that they share their weights; two pixels of
 * each, shuffled from rgbxrgbx to rrggbbxx, so that one vpmaddwd multiplies and adds the pair. */
AVX2 static void horizontal_avx2(const int16_t *const rows[2], const uint32_t *first,
                                 const int16_t *weight, uint32_t taps, int precision,
                                 uint32_t width, uint8_t *const pixels[2]) {
    const int shift = precision + FL_FRACTION_BITS;
    const __m128i count = _mm_cvtsi32_si128(shift);
    const __m256i half = _mm256_set1_epi32(1 << (shift - 1));
    const __m256i pairs = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(0, 1, 8, 9, 2, 3, 10, 11, 4, 5, 12, 13, 6, 7, 14, 15));
    const int16_t *const row0 = rows[0], *const row1 = rows[1];
    uint8_t *out0 = pixels[0], *out1 = pixels[1];
    for (uint32_t x = 0; x < width; x++, weight += taps, out0 += FL_CHANNELS, out1 += FL_CHANNELS) {
        const size_t start = (size_t)first[x] * FL_ROW_CHANNELS;
        const int16_t *in0 = row0 + start, *in1 = row1 + start;
        __m256i sum = half;
        for (uint32_t t = 0; t < taps; t += 2, in0 += 2 * FL_ROW_CHANNELS,
                      in1 += 2 * FL_ROW_CHANNELS) {
            const __m256i two = _mm256_inserti128_si256(
                _mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)in0)),
                _mm_loadu_si128((const __m128i *)(const void *)in1), 1);
            int32_t pair;
            memcpy(&pair, weight + t, sizeof pair);
            sum = _mm256_add_epi32(
                sum, _mm256_madd_epi16(_mm256_shuffle_epi8(two, pairs), _mm256_set1_epi32(pair)));
        }
        sum = _mm256_sra_epi32(sum, count);
        sum = _mm256_packs_epi32(sum, sum);
        sum = _mm256_packus_epi16(sum, sum);
        const int32_t rgb0 = _mm_cvtsi128_si32(_mm256_castsi256_si128(sum));
        const int32_t rgb1 = _mm_cvtsi128_si32(_mm256_extracti128_si256(sum, 1));
        memcpy(out0, &rgb0, FL_CHANNELS);
        memcpy(out1, &rgb1, FL_CHANNELS);
    }
}

static const fl_passes avx2_passes = {"avx2", vertical_avx2, horizontal_avx2};

const fl_passes *fl_passes_pick(bool portable) {
    if (!portable && __builtin_cpu_supports("avx2"))
        return &avx2_passes;
    return &portable_passes;
}
#else
const fl_passes *fl_passes_pick(bool portable) {
    (void)portable;
    return &portable_passes;
}
#endif
