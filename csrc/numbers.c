#include "numbers.h"

#include <math.h>
#include <string.h>

#define TWO_63 9223372036854775808.0 /* 2^63, the first double above all of int64 */

/* Each of these stores one value, and returns whether it fits. */

#define INTEGERS(name, type, lowest, highest)                                                      \
    static inline bool name##_of_integer(int64_t value, type *to) {                                \
        *to = (type)value;                                                                         \
        return value >= (lowest) && value <= (highest);                                            \
    }                                                                                              \
    static inline bool name##_of_real(double value, type *to) {                                    \
        const bool inside = value >= (double)(lowest) && value <= (double)(highest);               \
        *to = inside ? (type)value : 0;                                                            \
        return inside && (double)*to == value;                                                     \
    }

INTEGERS(int8, int8_t, INT8_MIN, INT8_MAX)
INTEGERS(int16, int16_t, INT16_MIN, INT16_MAX)
INTEGERS(int32, int32_t, INT32_MIN, INT32_MAX)
INTEGERS(uint8, uint8_t, 0, UINT8_MAX)
INTEGERS(uint16, uint16_t, 0, UINT16_MAX)
INTEGERS(uint32, uint32_t, 0, UINT32_MAX)

static inline bool bool_of_integer(int64_t value, bool *to) {
    *to = value == 1;
    return value == 0 || value == 1;
}

static inline bool bool_of_real(double value, bool *to) {
    *to = value == 1;
    return value == 0 || value == 1;
}

static inline bool int64_of_integer(int64_t value, int64_t *to) {
    *to = value;
    return true;
}

static inline bool int64_of_real(double value, int64_t *to) {
    const bool inside = value >= -TWO_63 && value < TWO_63;
    *to = inside ? (int64_t)value : 0;
    return inside && (double)*to == value;
}

static inline bool uint64_of_integer(int64_t value, uint64_t *to) {
    *to = (uint64_t)value;
    return value >= 0;
}

static inline bool uint64_of_real(double value, uint64_t *to) {
    const bool inside = value >= 0 && value < 2 * TWO_63;
    *to = inside ? (uint64_t)value : 0;
    return inside && (double)*to == value;
}

static inline bool double_of_integer(int64_t value, double *to) {
    *to = (double)value;
    return *to < TWO_63 && (int64_t)*to == value;
}

static inline bool double_of_real(double value, double *to) {
    *to = value;
    return true;
}

static inline bool float_of_integer(int64_t value, float *to) {
    *to = (float)value;
    return (double)*to < TWO_63 && (int64_t)*to == value;
}

static inline bool float_of_real(double value, float *to) {
    /* C leaves open what a double beyond the largest float becomes. */
    const bool inside = !isfinite(value) || fabs(value) < 0x1.ffffffp127; /* 2^128 - 2^103 */
    *to = inside ? (float)value : 0;
    return inside;
}

/* The bits of a float16. */
typedef uint16_t half;

static inline bool half_of_real(double value, half *to) {
    const half sign = signbit(value) ? 0x8000 : 0;
    const double size = fabs(value);
    if (!isfinite(value)) {
        *to = (half)(sign | (isnan(value) ? 0x7e00 : 0x7c00));
        return true;
    }
    if (size >= 65520) { /* what is closer to 2^16 than to the largest float16 */
        *to = 0;
        return false;
    }
    int exponent = -14; /* that of the smallest normal float16, and of those below it */
    if (size >= 0x1p-14) {
        frexp(size, &exponent);
        exponent--;
    }
    /* In units of the last place; rint() rounds half to even. 2048 carries into the exponent. */
    const unsigned units = (unsigned)rint(ldexp(size, 10 - exponent));
    *to = (half)(sign | (((unsigned)(exponent + 14) << 10) + units));
    return true;
}

static inline bool half_of_integer(int64_t value, half *to) {
    const int64_t size = value < 0 ? -(value + 1) : value; /* cannot overflow; only compared */
    if (size >= 65520)
        return false;
    half_of_real((double)value, to);
    const int exponent = (*to >> 10 & 31) - 25;
    const double back = ldexp((*to & 0x3ff) + (exponent > -25 ? 1024 : 0), exponent);
    return back == fabs((double)value);
}

/* A loop for each type. */
#define STORE(name, type)                                                                          \
    static size_t store_##name(const uint8_t *restrict kinds, const int64_t *restrict numbers,     \
                               size_t n, type *restrict to, uint8_t *restrict fits) {              \
        size_t bad = 0;                                                                            \
        for (size_t i = 0; i < n; i++) {                                                           \
            double real;                                                                           \
            memcpy(&real, &numbers[i], sizeof real);                                               \
            fits[i] = kinds[i] == FL_INTEGER ? name##_of_integer(numbers[i], &to[i])               \
                      : kinds[i] == FL_REAL  ? name##_of_real(real, &to[i])                        \
                                             : false;                                              \
            bad += !fits[i];                                                                       \
        }                                                                                          \
        return bad;                                                                                \
    }

STORE(bool, bool)
STORE(int8, int8_t)
STORE(int16, int16_t)
STORE(int32, int32_t)
STORE(int64, int64_t)
STORE(uint8, uint8_t)
STORE(uint16, uint16_t)
STORE(uint32, uint32_t)
STORE(uint64, uint64_t)
STORE(half, half)
STORE(float, float)
STORE(double, double)

size_t fl_numbers_store(fl_number type, const uint8_t *kinds, const int64_t *numbers, size_t n,
                        void *target, uint8_t *fits) {
    switch (type) {
    case FL_NUMBER_BOOL:
        return store_bool(kinds, numbers, n, target, fits);
    case FL_NUMBER_INT8:
        return store_int8(kinds, numbers, n, target, fits);
    case FL_NUMBER_INT16:
        return store_int16(kinds, numbers, n, target, fits);
    case FL_NUMBER_INT32:
        return store_int32(kinds, numbers, n, target, fits);
    case FL_NUMBER_INT64:
        return store_int64(kinds, numbers, n, target, fits);
    case FL_NUMBER_UINT8:
        return store_uint8(kinds, numbers, n, target, fits);
    case FL_NUMBER_UINT16:
        return store_uint16(kinds, numbers, n, target, fits);
    case FL_NUMBER_UINT32:
        return store_uint32(kinds, numbers, n, target, fits);
    case FL_NUMBER_UINT64:
        return store_uint64(kinds, numbers, n, target, fits);
    case FL_NUMBER_FLOAT16:
        return store_half(kinds, numbers, n, target, fits);
    case FL_NUMBER_FLOAT32:
        return store_float(kinds, numbers, n, target, fits);
    default:
        return store_double(kinds, numbers, n, target, fits);
    }
}
