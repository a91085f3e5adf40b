# cython: language_level=3, boundscheck=False, wraparound=False
"""The thin skin over csrc/: it translates arguments and results, and decides nothing."""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport uint8_t, uint32_t
from libc.stdlib cimport calloc, free

from ._kernel cimport (
    FL_CHANNELS,
    FL_OK,
    fl_decode,
    fl_decoder,
    fl_decoder_free,
    fl_decoder_message,
    fl_decoder_new,
    fl_decoder_simd,
    fl_jpeg_version,
    fl_limits,
    fl_sanitized,
    fl_status,
)

jpeg_version = fl_jpeg_version().decode()
sanitized = bool(fl_sanitized())


cdef class _Blobs:
    """Borrows the bytes of a sequence of buffers for as long as it lives; ``where`` is a table of
    their addresses and sizes."""

    cdef Py_buffer *views
    cdef Py_ssize_t *where
    cdef Py_ssize_t count

    def __cinit__(self, blobs):
        self.views = <Py_buffer *>calloc(len(blobs) + 1, sizeof(Py_buffer))
        self.where = <Py_ssize_t *>calloc(len(blobs) + 1, 2 * sizeof(Py_ssize_t))
        if self.views is NULL or self.where is NULL:
            raise MemoryError
        for blob in blobs:
            PyObject_GetBuffer(blob, &self.views[self.count], PyBUF_SIMPLE)
            self.where[2 * self.count] = <Py_ssize_t>self.views[self.count].buf
            self.where[2 * self.count + 1] = self.views[self.count].len
            self.count += 1

    def __dealloc__(self):
        cdef Py_ssize_t i
        for i in range(self.count):
            PyBuffer_Release(&self.views[i])
        free(self.where)
        free(self.views)


cdef class Decoder:
    """Decodes encoded pictures and resizes them to one size; see the stub for the signature.

    Keeps its scratch memory between calls. One thread at a time.
    """

    cdef fl_decoder *decoder
    cdef readonly int height
    cdef readonly int width

    def __cinit__(self, height, width, *, max_pixels, max_scans, portable=False):
        cdef fl_limits limits
        if not (1 <= height <= 65535 and 1 <= width <= 65535):
            raise ValueError(f"height and width must be from 1 to 65535, not {height} and {width}")
        limits.max_pixels = max_pixels
        limits.max_scans = max_scans
        self.height = height
        self.width = width
        self.decoder = fl_decoder_new(height, width, limits, portable)
        if self.decoder is NULL:
            raise MemoryError

    def __dealloc__(self):
        fl_decoder_free(self.decoder)

    @property
    def simd(self):
        return fl_decoder_simd(self.decoder).decode()

    def decode(self, blobs, uint8_t[:, :, :, ::1] pixels not None):
        cdef _Blobs borrowed
        cdef const Py_ssize_t[:, ::1] table
        cdef const Py_ssize_t *where
        cdef Py_ssize_t i, count
        cdef fl_status status
        if isinstance(blobs, (list, tuple)):
            borrowed = _Blobs(blobs)
            where, count = borrowed.where, borrowed.count
        else:
            table = blobs
            if table.shape[1] != 2:
                raise ValueError("a table of blobs has two columns, addresses and sizes")
            count = table.shape[0]
            where = &table[0, 0] if count else NULL
        if (pixels.shape[0] < count or pixels.shape[1] != self.height
                or pixels.shape[2] != self.width or pixels.shape[3] != FL_CHANNELS):
            raise ValueError(
                f"{count} pictures of {self.height} x {self.width} need another array than "
                f"{tuple(pixels.shape[axis] for axis in range(4))}")
        failures = []
        with nogil:
            for i in range(count):
                status = fl_decode(self.decoder, <const uint8_t *>where[2 * i],
                                   <size_t>max(where[2 * i + 1], 0), &pixels[i, 0, 0, 0])
                if status != FL_OK:
                    with gil:
                        message = fl_decoder_message(self.decoder).decode("utf-8", "replace")
                        failures.append((i, <int>status, message))
        return failures

    def __repr__(self):
        return f"<fastloader Decoder to {self.height} x {self.width}, {self.simd}>"
