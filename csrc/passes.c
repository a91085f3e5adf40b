#include "passes.h"

#include <string.h>

/* The vertical pass works on this many samples at a time, so that their sums stay in registers, or
 * at least in the first-level cache, for all taps. */
#define BLOCK 32

/* Each version of a pass does what its member of fl_passes says. */

/* ---- portable -------------------------------------------------------------------------------- */

static int16_t saturated(int32_t value) {
    return (int16_t)(value < INT16_MIN ? INT16_MIN : value > INT16_MAX ? INT16_MAX : value);
}

static void vertical_portable(const uint8_t *const *rows, const int16_t *weight, uint32_t taps,
                              int shift, uint32_t size, int16_t *out) {
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
            out[x + (uint32_t)i] = saturated(sum[i] >> shift);
    }
}

static uint8_t clamp(int32_t level) { return (uint8_t)(level < 0 ? 0 : level > 255 ? 255 : level); }

/* Resizes both rows. A pixel has `step` samples, of which the first `channels` are wanted; both are
 * constants wherever this is inlined. */
static inline void horizontal(const int16_t *const rows[2], const fl_horizontal *h, size_t step,
                              size_t channels, uint8_t *const pixels[2]) {
    for (int r = 0; r < 2; r++) {
        for (uint32_t x = 0; x < h->width; x++) {
            const int16_t *in = rows[r] + (size_t)(h->first[x] - h->origin) * step;
            const int16_t *w = h->weight + (size_t)x * h->taps;
            int32_t sum[4] = {0};
            for (uint32_t t = 0; t < h->taps; t++, in += step)
                for (size_t c = 0; c < channels; c++)
                    sum[c] += w[t] * in[c];
            for (size_t c = 0; c < channels; c++)
                pixels[r][x * channels + c] = clamp((sum[c] + (1 << (h->shift - 1))) >> h->shift);
        }
    }
}

static void horizontal3_portable(const int16_t *const rows[2], const fl_horizontal *h,
                                 uint8_t *const pixels[2]) {
    horizontal(rows, h, 4, 3, pixels);
}

static void horizontal1_portable(const int16_t *const rows[2], const fl_horizontal *h,
                                 uint8_t *const pixels[2]) {
    horizontal(rows, h, 1, 1, pixels);
}

static const fl_passes portable_passes = {"portable", vertical_portable, horizontal3_portable,
                                          horizontal1_portable};

#if defined(__x86_64__) && defined(__GNUC__)

/* ---- AVX2 ------------------------------------------------------------------------------------ */

#include <immintrin.h>

#define AVX2 __attribute__((target("avx2")))

/* Takes two rows at a time. Their bytes are interleaved and widened, so that one vpmaddwd
 * multiplies and adds the pair. Unpacking works within 128-bit lanes, which the packs at the end
 * undo. */
AVX2 static void vertical_avx2(const uint8_t *const *rows, const int16_t *weight, uint32_t taps,
                               int shift, uint32_t size, int16_t *out) {
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

/* Adds `pairs` pairs of taps of one output pixel to `sum`. Both rows are in one register, one in
 * each 128-bit lane, so that they share the weights. Two pixels of each are shuffled from rgbxrgbx
 * to rrggbbxx, so that one vpmaddwd multiplies and adds the pair. */
AVX2 static inline __m256i two_rows(const int16_t *in0, const int16_t *in1, const int16_t *weight,
                                    uint32_t pairs, __m256i sum) {
    const __m256i order = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(0, 1, 8, 9, 2, 3, 10, 11, 4, 5, 12, 13, 6, 7, 14, 15));
    for (uint32_t t = 0; t < pairs; t++) {
        const __m256i two = _mm256_inserti128_si256(
            _mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)(in0 + 8 * t))),
            _mm_loadu_si128((const __m128i *)(const void *)(in1 + 8 * t)), 1);
        int32_t pair;
        memcpy(&pair, weight + 2 * t, sizeof pair);
        sum = _mm256_add_epi32(
            sum, _mm256_madd_epi16(_mm256_shuffle_epi8(two, order), _mm256_set1_epi32(pair)));
    }
    return sum;
}

/* Returns the levels of output pixel x of both rows, one in each 128-bit lane. */
AVX2 static inline __m256i both_levels(const int16_t *const rows[2], const fl_horizontal *h,
                                       uint32_t x, uint32_t pairs) {
    const size_t start = (size_t)(h->first[x] - h->origin) * 4;
    const int16_t *weight = h->weight + (size_t)x * 2 * pairs;
    const __m256i half = _mm256_set1_epi32(1 << (h->shift - 1));
    const __m256i sum = two_rows(rows[0] + start, rows[1] + start, weight, pairs, half);
    return _mm256_sra_epi32(sum, _mm_cvtsi32_si128(h->shift));
}

/* horizontal3 for filters of 2 * pairs taps. Packing four pixels at a time takes 0.6 of the time
 * that packing each alone takes. */
AVX2 static inline void horizontal3_pairs(const int16_t *const rows[2], const fl_horizontal *h,
                                          uint32_t pairs, uint8_t *const pixels[2]) {
    const __m256i rgb = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1));
    uint8_t *out0 = pixels[0], *out1 = pixels[1];
    uint32_t x = 0;
    /* The last four of the 16 bytes that are stored are overwritten by the next pixels. */
    for (; x + 6 <= h->width; x += 4, out0 += 12, out1 += 12) {
        const __m256i ab =
            _mm256_packs_epi32(both_levels(rows, h, x, pairs), both_levels(rows, h, x + 1, pairs));
        const __m256i cd = _mm256_packs_epi32(both_levels(rows, h, x + 2, pairs),
                                              both_levels(rows, h, x + 3, pairs));
        const __m256i four = _mm256_shuffle_epi8(_mm256_packus_epi16(ab, cd), rgb);
        _mm_storeu_si128((__m128i *)(void *)out0, _mm256_castsi256_si128(four));
        _mm_storeu_si128((__m128i *)(void *)out1, _mm256_extracti128_si256(four, 1));
    }
    for (; x < h->width; x++, out0 += 3, out1 += 3) {
        __m256i one = both_levels(rows, h, x, pairs);
        one = _mm256_packus_epi16(_mm256_packs_epi32(one, one), one);
        const int32_t rgb0 = _mm_cvtsi128_si32(_mm256_castsi256_si128(one));
        const int32_t rgb1 = _mm_cvtsi128_si32(_mm256_extracti128_si256(one, 1));
        memcpy(out0, &rgb0, 3);
        memcpy(out1, &rgb1, 3);
    }
}

/* Constants let the compiler unroll the loop over the taps: the resize from 500x375 to 224x224
 * takes 0.167 ms instead of 0.194. */
AVX2 static void horizontal3_avx2(const int16_t *const rows[2], const fl_horizontal *h,
                                  uint8_t *const pixels[2]) {
    switch (h->taps / 2) {
    case 1:
        horizontal3_pairs(rows, h, 1, pixels);
        break;
    case 2:
        horizontal3_pairs(rows, h, 2, pixels);
        break;
    case 3:
        horizontal3_pairs(rows, h, 3, pixels);
        break;
    case 4:
        horizontal3_pairs(rows, h, 4, pixels);
        break;
    default:
        horizontal3_pairs(rows, h, h->taps / 2, pixels);
        break;
    }
}

/* Returns the pairs of samples or weights at four addresses. */
AVX2 static inline __m128i four_pairs(const int16_t *a, const int16_t *b, const int16_t *c,
                                      const int16_t *d) {
    int32_t pair[4];
    memcpy(&pair[0], a, sizeof *pair);
    memcpy(&pair[1], b, sizeof *pair);
    memcpy(&pair[2], c, sizeof *pair);
    memcpy(&pair[3], d, sizeof *pair);
    return _mm_setr_epi32(pair[0], pair[1], pair[2], pair[3]);
}

/* Four output pixels of both rows, one row in each 128-bit lane, so that they share the weights. */
AVX2 static inline __m256i four_pixels(const int16_t *const rows[2], const fl_horizontal *h,
                                       uint32_t x, uint32_t pairs, __m256i sum) {
    const size_t taps = 2 * (size_t)pairs;
    const int16_t *weight = h->weight + x * taps;
    const uint32_t *first = h->first + x;
    const size_t a = first[0] - h->origin, b = first[1] - h->origin, c = first[2] - h->origin,
                 d = first[3] - h->origin;
    for (size_t t = 0; t < taps; t += 2) {
        const int16_t *in0 = rows[0] + t, *in1 = rows[1] + t, *w = weight + t;
        const __m128i pair = four_pairs(w, w + taps, w + 2 * taps, w + 3 * taps);
        const __m256i two = _mm256_inserti128_si256(
            _mm256_castsi128_si256(four_pairs(in0 + a, in0 + b, in0 + c, in0 + d)),
            four_pairs(in1 + a, in1 + b, in1 + c, in1 + d), 1);
        sum = _mm256_add_epi32(sum, _mm256_madd_epi16(two, _mm256_broadcastsi128_si256(pair)));
    }
    return sum;
}

/* horizontal1 for filters of 2 * pairs taps. */
AVX2 static inline void horizontal1_pairs(const int16_t *const rows[2], const fl_horizontal *h,
                                          uint32_t pairs, uint8_t *const pixels[2]) {
    const __m128i count = _mm_cvtsi32_si128(h->shift);
    const __m256i half = _mm256_set1_epi32(1 << (h->shift - 1));
    uint32_t x = 0;
    for (; x + 4 <= h->width; x += 4) {
        __m256i sum = four_pixels(rows, h, x, pairs, half);
        sum = _mm256_sra_epi32(sum, count);
        sum = _mm256_packs_epi32(sum, sum);
        sum = _mm256_packus_epi16(sum, sum);
        const int32_t levels0 = _mm_cvtsi128_si32(_mm256_castsi256_si128(sum));
        const int32_t levels1 = _mm_cvtsi128_si32(_mm256_extracti128_si256(sum, 1));
        memcpy(pixels[0] + x, &levels0, 4);
        memcpy(pixels[1] + x, &levels1, 4);
    }
    if (x == h->width)
        return;
    fl_horizontal rest = *h; /* at most three pixels */
    rest.first += x;
    rest.weight += (size_t)x * h->taps;
    rest.width -= x;
    horizontal1_portable(rows, &rest, (uint8_t *const[2]){pixels[0] + x, pixels[1] + x});
}

AVX2 static void horizontal1_avx2(const int16_t *const rows[2], const fl_horizontal *h,
                                  uint8_t *const pixels[2]) {
    switch (h->taps / 2) {
    case 1:
        horizontal1_pairs(rows, h, 1, pixels);
        break;
    case 2:
        horizontal1_pairs(rows, h, 2, pixels);
        break;
    default:
        horizontal1_pairs(rows, h, h->taps / 2, pixels);
        break;
    }
}

static const fl_passes avx2_passes = {"avx2", vertical_avx2, horizontal3_avx2, horizontal1_avx2};

const fl_passes *fl_passes_pick(bool portable) {
    if (!portable && __builtin_cpu_supports("avx2"))
        return &avx2_passes;
    return &portable_passes;
}
#elif defined(__aarch64__)

/* ---- NEON ------------------------------------------------------------------------------------ */

#include <arm_neon.h>

static void vertical_neon(const uint8_t *const *rows, const int16_t *weight, uint32_t taps,
                          int shift, uint32_t size, int16_t *out) {
    const int32x4_t half = vdupq_n_s32(1 << (shift - 1)), count = vdupq_n_s32(-shift);
    for (uint32_t x = 0; x < size; x += 16) {
        int32x4_t sum[4] = {half, half, half, half};
        for (uint32_t t = 0; t < taps; t++) {
            const uint8x16_t levels = vld1q_u8(rows[t] + x);
            const int16x8_t low = vreinterpretq_s16_u16(vmovl_u8(vget_low_u8(levels)));
            const int16x8_t high = vreinterpretq_s16_u16(vmovl_u8(vget_high_u8(levels)));
            sum[0] = vmlal_n_s16(sum[0], vget_low_s16(low), weight[t]);
            sum[1] = vmlal_n_s16(sum[1], vget_high_s16(low), weight[t]);
            sum[2] = vmlal_n_s16(sum[2], vget_low_s16(high), weight[t]);
            sum[3] = vmlal_n_s16(sum[3], vget_high_s16(high), weight[t]);
        }
        for (int i = 0; i < 4; i++)
            vst1_s16(out + x + 4 * i, vqmovn_s32(vshlq_s32(sum[i], count)));
    }
}

static void horizontal3_neon(const int16_t *const rows[2], const fl_horizontal *h,
                             uint8_t *const pixels[2]) {
    const int32x4_t half = vdupq_n_s32(1 << (h->shift - 1)), count = vdupq_n_s32(-h->shift);
    for (int r = 0; r < 2; r++) {
        for (uint32_t x = 0; x < h->width; x++) {
            const int16_t *in = rows[r] + (size_t)(h->first[x] - h->origin) * 4;
            const int16_t *weight = h->weight + (size_t)x * h->taps;
            int32x4_t sum = half;
            for (uint32_t t = 0; t < h->taps; t++)
                sum = vmlal_n_s16(sum, vld1_s16(in + 4 * t), weight[t]);
            const int16x4_t levels = vqmovn_s32(vshlq_s32(sum, count));
            uint8_t rgbx[8];
            vst1_u8(rgbx, vqmovun_s16(vcombine_s16(levels, levels)));
            memcpy(pixels[r] + (size_t)x * 3, rgbx, 3);
        }
    }
}

static const fl_passes neon_passes = {"neon", vertical_neon, horizontal3_neon,
                                      horizontal1_portable};

/* Every 64-bit ARM processor has NEON. */
const fl_passes *fl_passes_pick(bool portable) {
    return portable ? &portable_passes : &neon_passes;
}
#else
const fl_passes *fl_passes_pick(bool portable) {
    (void)portable;
    return &portable_passes;
}
#endif
