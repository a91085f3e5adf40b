# cython: language_level=3, boundscheck=False, wraparound=False
"""Make csrc/ callable from Python: translate arguments and results, and decide nothing.

The stub, _kernel.pyi, has the docstrings of what is public.
"""

import numpy as np

from cpython.buffer cimport (
    PyBUF_C_CONTIGUOUS,
    PyBUF_SIMPLE,
    PyBUF_WRITABLE,
    PyBuffer_Release,
    PyObject_GetBuffer,
)
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

from ._kernel cimport *

cdef extern from *:
    const char *FASTLOADER_VERSION  # a macro that setup.py defines


def _libraries():
    """Return the names and versions of the libraries in use."""
    cdef char text[FL_MESSAGE_BYTES]
    fl_libraries(text)
    return text.decode()


def _check_libraries():
    """Raise ImportError if the loaded libraries are not those that this was compiled for.

    Otherwise every JPEG would look corrupt, and with on_error="skip" the table would look empty.
    """
    cdef char text[FL_MESSAGE_BYTES]
    if not fl_libraries_fit(text):
        raise ImportError(
            f"fastloader was built for {libraries}, but another library is loaded instead "
            f"({text.decode()}). Build it again on this machine, with the headers of the installed "
            f"libraries: pip install --force-reinstall --no-cache-dir"
        )


version = FASTLOADER_VERSION.decode()
libraries = _libraries()
_check_libraries()
sanitized = bool(fl_sanitized())


FITS = {"stretch": FL_STRETCH, "crop": FL_CROP, "pad": FL_PAD, "random_crop": FL_RANDOM_CROP}
FILTERS = {"nearest": FL_NEAREST, "box": FL_BOX, "bilinear": FL_BILINEAR, "bicubic": FL_BICUBIC,
           "lanczos": FL_LANCZOS}
LAYOUTS = {"NHWC": FL_NHWC, "NCHW": FL_NCHW}
FORMATS = {"JPEG": FL_JPEG, "PNG": FL_PNG, "WebP": FL_WEBP}
DTYPES = {"uint8": FL_UINT8, "float32": FL_FLOAT32, "float16": FL_FLOAT16,
          "bfloat16": FL_BFLOAT16}


cdef class _Blobs:
    """Borrow the bytes of a sequence of buffers for as long as this object lives.

    ``where`` is a table of their addresses and sizes.
    """

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


def crc32(buffers):
    cdef _Blobs borrowed = _Blobs(buffers)
    cdef uint32_t crc = 0
    cdef Py_ssize_t i
    with nogil:
        for i in range(borrowed.count):
            crc = fl_crc32(crc, <const uint8_t *>borrowed.where[2 * i],
                           <size_t>borrowed.where[2 * i + 1])
    return crc


def encode_jpeg(const uint8_t[:, :, ::1] pixels not None, *, quality):
    cdef fl_encoding its
    cdef char message[FL_MESSAGE_BYTES]
    cdef uint8_t *blob
    cdef size_t size
    cdef fl_status status
    if pixels.shape[0] < 1 or pixels.shape[1] < 1 or max(pixels.shape[0], pixels.shape[1]) > 65535:
        raise ValueError(f"no image to encode: {pixels.shape[0]} x {pixels.shape[1]} pixels")
    its.height, its.width = <uint32_t>pixels.shape[0], <uint32_t>pixels.shape[1]
    its.channels, its.pixels = <uint32_t>min(pixels.shape[2], 4), &pixels[0, 0, 0]
    its.quality = quality
    with nogil:
        status = fl_jpeg_encode(&its, &blob, &size, message)
    if status == FL_NO_MEMORY:
        raise MemoryError(message.decode("utf-8", "replace"))
    if status != FL_OK:
        raise ValueError(message.decode("utf-8", "replace"))
    try:
        return PyBytes_FromStringAndSize(<const char *>blob, <Py_ssize_t>size)
    finally:
        free(blob)


def texts(const Py_ssize_t[:, ::1] blobs not None, wanted):
    cdef Py_ssize_t i, count = blobs.shape[0]
    cdef const uint8_t[::1] is_wanted = wanted.view(np.uint8)
    bad = np.ones(count, np.bool_)
    cdef uint8_t[::1] is_bad = bad.view(np.uint8)
    found = [None] * count
    if is_wanted.shape[0] != count or (count and blobs.shape[1] != 2):
        raise ValueError("a table of blobs has two columns, and a flag for each row")
    for i in range(count):
        if is_wanted[i] and blobs[i, 1] >= 0:
            try:
                found[i] = PyUnicode_DecodeUTF8(<const char *>blobs[i, 0], blobs[i, 1], NULL)
                is_bad[i] = False
            except UnicodeDecodeError:
                pass
    return found, bad


ARRAY_FORMS = {"pg_array": FL_PG_ARRAY, "pg_vector": FL_PG_VECTOR}
ARRAY_STATUS = {"read": FL_ARRAY_READ, "null": FL_ARRAY_NULL, "has null": FL_ARRAY_HAS_NULL,
                "other shape": FL_ARRAY_OTHER_SHAPE, "broken": FL_ARRAY_BROKEN}


def arrays(const Py_ssize_t[:, ::1] blobs not None, wanted, form, uint32_t element, target):
    cdef fl_array its = _array(form, element, target.dtype.itemsize, target.shape[1:])
    cdef Py_ssize_t i, count = blobs.shape[0]
    cdef const uint8_t[::1] is_wanted = _flags(blobs, wanted)
    cdef _Output output = _Output(target)
    if target.shape[0] < count:
        raise ValueError(f"no place for {count} arrays in {target.shape}")
    cdef size_t row_bytes = target[:1].nbytes
    statuses = np.empty(count, np.uint8)
    cdef uint8_t[::1] status = statuses
    with nogil:
        for i in range(count):
            status[i] = FL_ARRAY_NULL
            if is_wanted[i] and blobs[i, 1] >= 0:
                status[i] = <uint8_t>fl_array_read(
                    &its, <const uint8_t *>blobs[i, 0], <size_t>blobs[i, 1],
                    <uint8_t *>output.view.buf + <size_t>i * row_bytes)
    return statuses


def array_lengths(
    const Py_ssize_t[:, ::1] blobs not None, wanted, form, uint32_t element, uint32_t width, inner
):
    cdef fl_array its = _array(form, element, width, (0, *inner))
    cdef Py_ssize_t i, count = blobs.shape[0]
    cdef const uint8_t[::1] is_wanted = _flags(blobs, wanted)
    cdef size_t found = 0
    statuses, lengths = np.empty(count, np.uint8), np.zeros(count, np.int64)
    cdef uint8_t[::1] status = statuses
    cdef int64_t[::1] length = lengths
    with nogil:
        for i in range(count):
            status[i] = FL_ARRAY_NULL
            if is_wanted[i] and blobs[i, 1] >= 0:
                status[i] = <uint8_t>fl_array_length(
                    &its, <const uint8_t *>blobs[i, 0], <size_t>blobs[i, 1], &found)
                if status[i] == FL_ARRAY_READ:
                    length[i] = <int64_t>found
    return statuses, lengths


def ragged_arrays(
    const Py_ssize_t[:, ::1] blobs not None, wanted, form, uint32_t element,
    const int64_t[::1] lengths not None, target
):
    cdef fl_array its = _array(form, element, target.dtype.itemsize, (0, *target.shape[1:]))
    cdef Py_ssize_t i, count = blobs.shape[0]
    cdef const uint8_t[::1] is_wanted = _flags(blobs, wanted)
    cdef _Output output = _Output(target)
    cdef int64_t room = target.shape[0]
    cdef size_t at = 0, item_bytes = target[:1].nbytes
    if lengths.shape[0] != count:
        raise ValueError("a length for each blob is needed")
    for i in range(count):
        if lengths[i] < 0 or lengths[i] > room:
            raise ValueError(f"no place for {count} arrays in {target.shape}")
        room -= lengths[i]
    statuses = np.empty(count, np.uint8)
    cdef uint8_t[::1] status = statuses
    with nogil:
        for i in range(count):
            status[i] = FL_ARRAY_NULL
            if is_wanted[i] and blobs[i, 1] >= 0:
                its.shape[0] = <size_t>lengths[i]
                status[i] = <uint8_t>fl_array_read(
                    &its, <const uint8_t *>blobs[i, 0], <size_t>blobs[i, 1],
                    <uint8_t *>output.view.buf + at)
            at += <size_t>lengths[i] * item_bytes
    return statuses


cdef fl_array _array(form, uint32_t element, width, shape) except *:
    """Return what arrays have to be."""
    cdef fl_array its
    cdef Py_ssize_t i
    if len(shape) > FL_MOST_DIMENSIONS or width not in (1, 2, 4, 8):
        raise ValueError(f"no arrays of the shape {shape} with {width} bytes for an element")
    its.form, its.element, its.width = ARRAY_FORMS[form], element, width
    its.dimensions = len(shape)
    for i in range(len(shape)):
        its.shape[i] = shape[i]
    return its


cdef const uint8_t[::1] _flags(const Py_ssize_t[:, ::1] blobs, wanted):
    """Return the flags of the rows of a table of blobs, once both are of the right shape."""
    cdef const uint8_t[::1] flags = wanted.view(np.uint8)
    if flags.shape[0] != blobs.shape[0] or (blobs.shape[0] and blobs.shape[1] != 2):
        raise ValueError("a table of blobs has two columns, and a flag for each row")
    return flags


NUMBERS = {
    "bool": FL_NUMBER_BOOL, "int8": FL_NUMBER_INT8, "int16": FL_NUMBER_INT16,
    "int32": FL_NUMBER_INT32, "int64": FL_NUMBER_INT64, "uint8": FL_NUMBER_UINT8,
    "uint16": FL_NUMBER_UINT16, "uint32": FL_NUMBER_UINT32, "uint64": FL_NUMBER_UINT64,
    "float16": FL_NUMBER_FLOAT16, "float32": FL_NUMBER_FLOAT32, "float64": FL_NUMBER_FLOAT64}
_NUMBERS = {np.dtype(name).str: number for name, number in NUMBERS.items()}  # faster than the name


def store_numbers(const uint8_t[::1] kinds not None, const int64_t[::1] numbers not None, target):
    cdef Py_ssize_t count = kinds.shape[0]
    if numbers.shape[0] != count or target.shape != (count,) or target.dtype.str not in _NUMBERS:
        raise ValueError(f"no place for {count} numbers in {target.shape} of {target.dtype}")
    cdef fl_number type = _NUMBERS[target.dtype.str]
    fits = np.empty(count, np.bool_)
    cdef _Output output = _Output(target), its_fit = _Output(fits)
    cdef size_t bad = 0
    if count:
        with nogil:
            bad = fl_numbers_store(type, &kinds[0], &numbers[0], <size_t>count, output.view.buf,
                                   <uint8_t *>its_fit.view.buf)
    return fits, bad


def are_utf8(const Py_ssize_t[:, ::1] blobs not None, wanted):
    cdef Py_ssize_t i, count = blobs.shape[0]
    cdef const uint8_t[::1] is_wanted = _flags(blobs, wanted)
    good = np.zeros(count, np.bool_)
    cdef uint8_t[::1] is_good = good.view(np.uint8)
    with nogil:
        for i in range(count):
            if is_wanted[i] and blobs[i, 1] >= 0:
                is_good[i] = fl_is_utf8(<const uint8_t *>blobs[i, 0], <size_t>blobs[i, 1])
    return good


def gather(const Py_ssize_t[:, ::1] blobs not None, wanted, target):
    cdef Py_ssize_t i, count = blobs.shape[0]
    cdef const uint8_t[::1] is_wanted = _flags(blobs, wanted)
    cdef _Output output = _Output(target)
    cdef Py_ssize_t room = target.nbytes
    for i in range(count):
        if is_wanted[i]:
            if blobs[i, 1] < 0 or blobs[i, 1] > room:
                raise ValueError(f"no place for these blobs in {target.nbytes} bytes")
            room -= blobs[i, 1]
    cdef uint8_t *to = <uint8_t *>output.view.buf
    with nogil:
        for i in range(count):
            if is_wanted[i] and blobs[i, 1] > 0:
                memcpy(to, <const void *>blobs[i, 0], <size_t>blobs[i, 1])
                to += blobs[i, 1]


cdef class _Output:
    """Borrow a writable, C-contiguous array for as long as this object lives."""

    cdef Py_buffer view

    def __cinit__(self, array):
        PyObject_GetBuffer(array, &self.view, PyBUF_C_CONTIGUOUS | PyBUF_WRITABLE)

    def __dealloc__(self):
        PyBuffer_Release(&self.view)


cdef class Decoder:
    """Decode images and resize them; the stub documents the options.

    A decoder keeps its scratch memory between calls and belongs to one thread at a time.
    """

    cdef fl_decoder *decoder
    cdef readonly tuple shape
    cdef readonly str dtype

    def __cinit__(self, height, width, *, max_pixels, max_scans=100, max_chunks=100_000,
                  channels=3, luma_later=False, fit="stretch", crop_fraction=1.0, scale=(0.08, 1.0),
                  ratio=(3 / 4, 4 / 3), flip=False, seed=0, filter="bilinear", orientation=True,
                  quality="exact", background=None, layout="NHWC", dtype="uint8",
                  mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), strict=False, portable=False,
                  timed=False):
        cdef fl_options options
        if not (1 <= height <= 65535 and 1 <= width <= 65535):
            raise ValueError(f"height and width must be from 1 to 65535, not {height} and {width}")
        options.height, options.width, options.channels = height, width, channels
        options.luma_later = luma_later
        options.fit, options.filter = FITS[fit], FILTERS[filter]
        options.layout, options.dtype = LAYOUTS[layout], DTYPES[dtype]
        options.crop_fraction, options.flip, options.seed = crop_fraction, flip, seed
        options.scale[0], options.scale[1] = scale
        options.ratio[0], options.ratio[1] = ratio
        options.orientation, options.strict = orientation, strict
        options.fast = {"exact": False, "fast": True}[quality]
        options.compose = background is not None
        for i in range(3):
            options.background[i] = background[i] if background is not None else 0
            options.mean[i] = mean[i]
            options.std[i] = std[i]
        options.max_pixels, options.max_scans = max_pixels, max_scans
        options.max_chunks = max_chunks
        options.portable, options.timed = portable, timed
        self.decoder = fl_decoder_new(&options)
        if self.decoder is NULL:
            raise ValueError("an option is out of its range, or there is not enough memory")
        self.shape = (height, width, channels) if layout == "NHWC" else (channels, height, width)
        self.dtype = dtype

    def __dealloc__(self):
        fl_decoder_free(self.decoder)

    @property
    def simd(self):
        return fl_decoder_simd(self.decoder).decode()

    @property
    def times(self):
        cdef fl_times times = fl_decoder_times(self.decoder)
        return {"total": times.total * 1e-9, "resize": times.resize * 1e-9,
                "write": times.write * 1e-9}

    def take_images(self):
        cdef fl_images found
        taken = {}
        for name, number in FORMATS.items():
            found = fl_decoder_take_images(self.decoder, <fl_format><int>number)
            if found.decoded:
                taken[name] = (found.decoded, found.bytes, found.pixels, found.largest)
        return taken

    cdef _Output _borrow(self, array, Py_ssize_t count):
        """Borrow an array that must hold at least ``count`` output images."""
        if array.shape[1:] != self.shape or array.shape[0] < count or array.dtype != self.dtype:
            raise ValueError(f"{count} images of {self.shape} {self.dtype} do not fit into an array "
                             f"of {array.shape} {array.dtype}")
        return _Output(array)

    def decode(self, blobs, images, rows=None, epoch=0, uint32_t[:, ::1] seen=None):
        cdef _Blobs borrowed
        cdef _Output output
        cdef const Py_ssize_t[:, ::1] table
        cdef const uint64_t[::1] numbers
        cdef const Py_ssize_t *where
        cdef Py_ssize_t i, count
        cdef size_t image_bytes = fl_image_bytes(self.decoder)
        cdef fl_draw draw
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
        if rows is not None:
            numbers = rows
            if numbers.shape[0] < count:
                raise ValueError(f"{count} images need {count} rows, not {numbers.shape[0]}")
        cdef bint numbered = rows is not None, sized = seen is not None
        if sized and (seen.shape[0] < count or seen.shape[1] != 2):
            raise ValueError(f"{count} images need {count} sizes, not {seen.shape[0]}")
        output = self._borrow(images, count)
        draw.row, draw.epoch = 0, epoch
        failures = []
        with nogil:
            for i in range(count):
                if numbered:
                    draw.row = numbers[i]
                status = fl_decode(self.decoder, <const uint8_t *>where[2 * i],
                                   <size_t>max(where[2 * i + 1], 0), draw,
                                   <uint8_t *>output.view.buf + <size_t>i * image_bytes)
                if sized:
                    fl_decoder_seen(self.decoder, &seen[i, 0])
                if status != FL_OK:
                    with gil:
                        failures.append((i, <int>status, self._message()))
        return failures

    def look(self, const Py_ssize_t[:, ::1] blobs not None, uint32_t[:, ::1] heads not None):
        cdef Py_ssize_t i, count = blobs.shape[0]
        cdef fl_head head
        cdef fl_status status
        if blobs.shape[1] != 2 or heads.shape[0] < count or heads.shape[1] != 4:
            raise ValueError(f"{count} blobs need two columns, and {count} heads of four numbers")
        failures = []
        with nogil:
            for i in range(count):
                status = fl_look(self.decoder, <const uint8_t *>blobs[i, 0],
                                 <size_t>max(blobs[i, 1], 0), &head)
                if status == FL_OK:
                    heads[i, 0], heads[i, 1] = <uint32_t>head.format, head.height
                    heads[i, 2], heads[i, 3] = head.width, head.orientation
                else:
                    with gil:
                        failures.append((i, <int>status, self._message()))
        return failures

    def resize(self, const uint8_t[:, :, ::1] pixels not None, image, *, alpha=False,
               orientation=1, row=0, epoch=0):
        cdef fl_raw raw
        cdef fl_draw draw
        if pixels.shape[0] < 1 or pixels.shape[1] < 1 or not 3 <= pixels.shape[2] <= 4:
            raise ValueError("a decoded image has at least one row of RGB or RGBA pixels")
        cdef _Output output = self._borrow(image, 1)
        raw.height, raw.width = pixels.shape[0], pixels.shape[1]
        raw.pixels, raw.channels = &pixels[0, 0, 0], <unsigned int>pixels.shape[2]
        raw.alpha, raw.orientation = alpha, orientation
        raw.original_height = raw.original_width = 0
        draw.row, draw.epoch = row, epoch
        cdef fl_status status
        with nogil:
            status = fl_resize(self.decoder, &raw, draw, output.view.buf)
        return (<int>status, self._message()) if status != FL_OK else None

    def crop(self, const uint8_t[:, :, :, ::1] stored not None, images,
             const uint64_t[::1] rows not None, epoch, const uint32_t[:, ::1] original=None):
        cdef fl_raw raw
        cdef fl_draw draw
        cdef fl_status status = FL_OK
        cdef Py_ssize_t i, count = stored.shape[0]
        cdef size_t image_bytes = fl_image_bytes(self.decoder)
        cdef bint sized = original is not None
        if stored.shape[1] < 1 or stored.shape[2] < 1 or stored.shape[3] != 3:
            raise ValueError("a stored image has at least one row of RGB pixels")
        if rows.shape[0] < count or (sized and (original.shape[0] < count or
                                                original.shape[1] != 2)):
            raise ValueError(f"{count} images need {count} rows and sizes")
        cdef _Output output = self._borrow(images, count)
        raw.height, raw.width = stored.shape[1], stored.shape[2]
        raw.channels, raw.alpha, raw.orientation = 3, False, 1
        raw.original_height = raw.original_width = 0
        draw.epoch = epoch
        with nogil:
            for i in range(count):
                raw.pixels, draw.row = &stored[i, 0, 0, 0], rows[i]
                if sized:
                    raw.original_height, raw.original_width = original[i, 0], original[i, 1]
                status = fl_resize(self.decoder, &raw, draw,
                                   <uint8_t *>output.view.buf + <size_t>i * image_bytes)
                if status != FL_OK:
                    break
        if status != FL_OK:
            raise MemoryError(self._message())

    @property
    def seen(self):
        cdef uint32_t size[2]
        fl_decoder_seen(self.decoder, size)
        return size[0], size[1]

    cdef str _message(self):
        """Return what the kernel says about the last image."""
        return fl_decoder_message(self.decoder).decode("utf-8", "replace")

    def __repr__(self):
        return f"<fastloader Decoder to {self.shape} {self.dtype}, {self.simd}>"
