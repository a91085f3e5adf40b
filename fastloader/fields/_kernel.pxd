"""Declare the headers of csrc/ that are used, whose comments are the contract, and nothing else."""

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

cdef extern from "kernel.h" nogil:
    ctypedef enum fl_status:
        FL_OK
        FL_NO_MEMORY

    ctypedef enum fl_fit:
        FL_STRETCH
        FL_CROP
        FL_PAD
        FL_RANDOM_CROP

    ctypedef enum fl_filter_kind:
        FL_NEAREST
        FL_BOX
        FL_BILINEAR
        FL_BICUBIC
        FL_LANCZOS

    ctypedef enum fl_layout:
        FL_NHWC
        FL_NCHW

    ctypedef enum fl_dtype:
        FL_UINT8
        FL_FLOAT32
        FL_FLOAT16
        FL_BFLOAT16

    ctypedef struct fl_options:
        uint32_t height
        uint32_t width
        uint32_t channels
        bint luma_later
        fl_fit fit
        double crop_fraction
        double scale[2]
        double ratio[2]
        bint flip
        uint64_t seed
        fl_filter_kind filter
        bint orientation
        bint fast
        bint compose
        uint8_t background[3]
        fl_layout layout
        fl_dtype dtype
        double mean[3]
        double std[3]
        bint strict
        uint64_t max_pixels
        uint32_t max_scans
        uint32_t max_chunks
        bint portable
        bint timed

    ctypedef struct fl_draw:
        uint64_t row
        uint64_t epoch

    ctypedef struct fl_raw:
        uint32_t height
        uint32_t width
        const uint8_t *pixels
        uint32_t channels
        bint alpha
        unsigned int orientation
        uint32_t original_height
        uint32_t original_width

    ctypedef struct fl_times:
        uint64_t total
        uint64_t resize
        uint64_t write

    ctypedef enum fl_format:
        FL_JPEG
        FL_PNG
        FL_WEBP

    ctypedef struct fl_head:
        fl_format format
        uint32_t height
        uint32_t width
        unsigned int orientation

    ctypedef struct fl_images:
        uint64_t decoded
        uint64_t bytes
        uint64_t pixels
        uint64_t largest

    ctypedef struct fl_decoder:
        pass

    fl_decoder *fl_decoder_new(const fl_options *options) noexcept
    void fl_decoder_free(fl_decoder *decoder) noexcept
    size_t fl_image_bytes(const fl_decoder *decoder) noexcept
    fl_status fl_decode(fl_decoder *decoder, const uint8_t *blob, size_t size, fl_draw draw,
                        void *output) noexcept
    fl_status fl_look(fl_decoder *decoder, const uint8_t *blob, size_t size,
                      fl_head *head) noexcept
    fl_status fl_resize(fl_decoder *decoder, const fl_raw *raw, fl_draw draw,
                        void *output) noexcept
    void fl_decoder_seen(const fl_decoder *decoder, uint32_t *size) noexcept
    const char *fl_decoder_message(const fl_decoder *decoder) noexcept
    fl_times fl_decoder_times(const fl_decoder *decoder) noexcept
    fl_images fl_decoder_take_images(fl_decoder *decoder, fl_format format) noexcept
    const char *fl_decoder_simd(const fl_decoder *decoder) noexcept
    enum:
        FL_MESSAGE_BYTES

    uint32_t fl_crc32(uint32_t crc, const uint8_t *bytes, size_t size) noexcept
    void fl_libraries(char *text) noexcept
    bint fl_libraries_fit(char *message) noexcept
    bint fl_sanitized() noexcept

cdef extern from "jpeg_encode.h" nogil:
    ctypedef struct fl_encoding:
        uint32_t height
        uint32_t width
        uint32_t channels
        const uint8_t *pixels
        int quality

    fl_status fl_jpeg_encode(const fl_encoding *encoding, uint8_t **blob, size_t *size,
                             char *message) noexcept

cdef extern from "arrays.h" nogil:
    enum:
        FL_MOST_DIMENSIONS

    ctypedef enum fl_array_form:
        FL_PG_ARRAY
        FL_PG_VECTOR

    ctypedef enum fl_array_status:
        FL_ARRAY_READ
        FL_ARRAY_NULL
        FL_ARRAY_HAS_NULL
        FL_ARRAY_OTHER_SHAPE
        FL_ARRAY_BROKEN

    ctypedef struct fl_array:
        fl_array_form form
        uint32_t width
        uint32_t element
        uint32_t dimensions
        size_t shape[FL_MOST_DIMENSIONS]

    fl_array_status fl_array_read(const fl_array *wanted, const uint8_t *blob, size_t size,
                                  void *target) noexcept
    fl_array_status fl_array_length(const fl_array *wanted, const uint8_t *blob, size_t size,
                                    size_t *length) noexcept

cdef extern from "numbers.h" nogil:
    ctypedef enum fl_number:
        FL_NUMBER_BOOL
        FL_NUMBER_INT8
        FL_NUMBER_INT16
        FL_NUMBER_INT32
        FL_NUMBER_INT64
        FL_NUMBER_UINT8
        FL_NUMBER_UINT16
        FL_NUMBER_UINT32
        FL_NUMBER_UINT64
        FL_NUMBER_FLOAT16
        FL_NUMBER_FLOAT32
        FL_NUMBER_FLOAT64

    size_t fl_numbers_store(fl_number type, const uint8_t *kinds, const int64_t *numbers, size_t n,
                            void *target, uint8_t *fits) noexcept

cdef extern from "utf8.h" nogil:
    bint fl_is_utf8(const uint8_t *text, size_t size) noexcept
