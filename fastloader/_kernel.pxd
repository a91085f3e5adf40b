"""Foreign declarations only: csrc/kernel.h, whose comments are the contract."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

cdef extern from "kernel.h" nogil:
    ctypedef enum fl_status:
        FL_OK

    ctypedef struct fl_limits:
        uint64_t max_pixels
        uint32_t max_scans

    ctypedef struct fl_decoder:
        pass

    const int FL_CHANNELS

    fl_decoder *fl_decoder_new(uint32_t height, uint32_t width, fl_limits limits,
                               bint portable) noexcept
    void fl_decoder_free(fl_decoder *decoder) noexcept
    fl_status fl_decode(fl_decoder *decoder, const uint8_t *blob, size_t size,
                        uint8_t *pixels) noexcept
    const char *fl_decoder_message(const fl_decoder *decoder) noexcept
    const char *fl_decoder_simd(const fl_decoder *decoder) noexcept
    const char *fl_jpeg_version() noexcept
    bint fl_sanitized() noexcept
