# cython: language_level=3, boundscheck=False, wraparound=False
"""Files beneath a folder, read without the GIL; see the stub.

A path comes from a database and may be hostile. So it is resolved with O_PATH, which opens nothing:
it cannot block, and has no effect on FIFOs, devices and locks. Only if it leads to a regular file
beneath the folder, and not to the database itself, is that same inode opened, through /proc.
"""

import os

from libc.stdint cimport int32_t, uint8_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memchr, memcpy
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

from ._files cimport (
    EAGAIN,
    EINTR,
    EIO,
    EMFILE,
    ENFILE,
    ENOMEM,
    ENOTDIR,
    S_ISDIR,
    S_ISFIFO,
    S_ISLNK,
    S_ISREG,
    S_ISSOCK,
    close,
    errno,
    fl_dev,
    fl_ino,
    fl_open_beneath,
    fl_open_component,
    fl_reopen,
    fl_will_need,
    fstat,
    read,
    stat,
)

import numpy as np

from ..fields import values as _values

cdef enum:
    NULL_KIND = 0  # the kinds of fields/values.py
    TEXT_KIND = 3
    BLOB_KIND = 4
    TOO_LARGE_KIND = 5
    PATH_BYTES = 4096  # PATH_MAX, which counts the NUL
    TRIES = 100  # where a rename elsewhere disturbs the kernel while it follows ".."
    AHEAD_ROWS = 16
    AHEAD_BYTES = 1 << 20  # of each file

assert (_values.NULL, _values.TOO_LARGE) == (NULL_KIND, TOO_LARGE_KIND)
assert (_values.TEXT, _values.BLOB) == (TEXT_KIND, BLOB_KIND)

# Statuses below zero; those above are errno.
cdef enum:
    IS_NULL = -1
    NO_PATH = -2
    EMPTY = -3
    HAS_NUL = -4
    TOO_LONG = -5
    ABSOLUTE = -6
    GOES_UP = -7
    LINK = -8
    FOLDER = -9
    FIFO = -10
    SOCKET = -11
    DEVICE = -12
    DATABASE = -13
    TOO_LARGE = -14
    CHANGED = -15

STATUS = {
    "null": IS_NULL, "no path": NO_PATH, "empty": EMPTY, "nul": HAS_NUL, "too long": TOO_LONG,
    "absolute": ABSOLUTE, "up": GOES_UP, "link": LINK, "folder": FOLDER, "fifo": FIFO,
    "socket": SOCKET, "device": DEVICE, "database": DATABASE, "too large": TOO_LARGE,
    "changed": CHANGED,
}

# A slow disk hands over what it has after this time.
cdef double SLICE_S = 0.1
# Less than this comes from a disk; files in memory are copied faster.
cdef double COPIED_BYTES_PER_S = 1e9


cdef class Folder:
    """A folder that files are read from; see the stub."""

    cdef object __weakref__
    cdef readonly str path
    cdef readonly bint walks
    cdef int fd

    def __cinit__(self, str path, *, bint walks=False):
        cdef int probe, status
        self.path = path
        self.fd = -1
        self.fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        # Kernels before 5.6, gVisor and the filters of some containers do not have openat2.
        probe = fl_open_beneath(self.fd, b".")
        status = errno
        self.walks = walks or probe < 0
        if probe >= 0:
            close(probe)
        elif status in (EMFILE, ENFILE, ENOMEM):
            raise OSError(status, os.strerror(status), path)
        if not os.path.exists(f"/proc/self/fd/{self.fd}"):
            self.close()
            raise OSError(0, "files are opened through /proc, which is not mounted", path)

    def __dealloc__(self):
        self.close()

    @property
    def closed(self):
        return self.fd < 0

    cpdef void close(self):
        cdef int fd = self.fd
        self.fd = -1
        if fd >= 0:
            close(fd)

    def __repr__(self):
        return f"<Folder {self.path}, {'closed' if self.fd < 0 else 'open'}>"


# ---- one file ------------------------------------------------------------------------------------


cdef int _check(const char *data, Py_ssize_t size, char *path) noexcept nogil:
    """Copy a path that may be resolved, with a NUL at its end. Returns its status."""
    cdef Py_ssize_t i, start = 0
    if size <= 0:
        return EMPTY
    if size >= PATH_BYTES:
        return TOO_LONG
    if memchr(data, 0, <size_t>size) is not NULL:
        return HAS_NUL
    if data[0] == c"/":
        return ABSOLUTE
    memcpy(path, data, <size_t>size)
    path[size] = 0
    for i in range(size + 1):
        if path[i] == c"/" or path[i] == 0:
            if i - start == 2 and path[start] == c"." and path[start + 1] == c".":
                return GOES_UP
            start = i + 1
    return 0


cdef int _resolve(int folder, const char *path, int *status) noexcept nogil:
    """Return an O_PATH descriptor for what the path leads to, or -1 with a status."""
    cdef int i, fd = -1
    for i in range(TRIES):
        fd = fl_open_beneath(folder, path)
        if fd >= 0:
            break
        status[0] = errno
        if status[0] != EAGAIN and status[0] != EINTR:
            break
    return fd


cdef int _walk(int folder, char *path, int *status) noexcept nogil:
    """Do the same without openat2, one component after the other, which follows no links."""
    cdef int fd = folder, found
    cdef char *at = path
    cdef char *end
    cdef char mark
    cdef stat its
    while True:
        while at[0] == c"/":
            at += 1
        if at[0] == 0:
            return fd
        end = at
        while end[0] != c"/" and end[0] != 0:
            end += 1
        mark = end[0]
        end[0] = 0
        found = fl_open_component(fd, at)
        status[0] = errno
        end[0] = mark
        if fd != folder:
            close(fd)
        if found < 0:
            return -1
        fd, at = found, end
        if fstat(fd, &its) < 0:
            status[0] = errno
        elif S_ISLNK(its.st_mode):
            status[0] = LINK
        elif mark == c"/" and not S_ISDIR(its.st_mode):
            status[0] = ENOTDIR
        else:
            continue
        close(fd)
        return -1


cdef int _kind_of(const stat *its, const uint64_t *own, Py_ssize_t owned) noexcept nogil:
    """Return 0 for a regular file that may be opened, or the status of another."""
    cdef Py_ssize_t i
    if S_ISDIR(its.st_mode):
        return FOLDER
    if S_ISFIFO(its.st_mode):
        return FIFO
    if S_ISSOCK(its.st_mode):
        return SOCKET
    if not S_ISREG(its.st_mode):
        return DEVICE
    for i in range(owned):
        if fl_dev(its) == own[2 * i] and fl_ino(its) == own[2 * i + 1]:
            return DATABASE
    return 0


cdef struct Block:
    Block *next  # the content follows


cdef class Contents:
    """Owns the contents of files."""

    cdef Block *blocks

    def __dealloc__(self):
        cdef Block *block
        while self.blocks is not NULL:
            block = self.blocks
            self.blocks = block.next
            free(block)

    cdef int _read(self, int fd, Py_ssize_t size, Py_ssize_t *blob) noexcept nogil:
        """Read a file of this size, and note where its bytes are. Returns its status."""
        cdef Block *block = <Block *>malloc(sizeof(Block) + <size_t>size + 1)
        cdef char *content
        cdef Py_ssize_t got = 0, more
        cdef int status = 0
        if block is NULL:
            return ENOMEM
        content = <char *>(block + 1)
        while got <= size:  # one byte more than it had shows that it has grown
            more = read(fd, content + got, <size_t>(size + 1 - got))
            if more == 0:
                break
            if more > 0:
                got += more
            elif errno != EINTR:
                status = errno
                break
        if status == 0 and got != size:
            status = CHANGED
        if status != 0:
            free(block)
            return status
        block.next = self.blocks
        self.blocks = block
        blob[0], blob[1] = <Py_ssize_t>content, size
        return 0


# ---- many files ----------------------------------------------------------------------------------


cdef struct Column:
    int folder
    bint walks
    const uint8_t *kinds
    const Py_ssize_t *paths
    int32_t *statuses
    Py_ssize_t *blobs


cdef struct Limits:
    const uint64_t *own
    Py_ssize_t owned
    Py_ssize_t most  # bytes of a file


cdef int _open(
    const Column *column, Py_ssize_t row, const Limits *limits, int *opened, Py_ssize_t *size
) noexcept nogil:
    """Open the file that a row names. Returns its status; at 0 there is a descriptor."""
    cdef char path[PATH_BYTES]
    cdef int status, fd
    cdef uint8_t kind = column.kinds[row]
    cdef stat its
    if kind != TEXT_KIND and kind != BLOB_KIND:
        return IS_NULL if kind == NULL_KIND else TOO_LONG if kind == TOO_LARGE_KIND else NO_PATH
    status = _check(
        <const char *>column.paths[2 * row], column.paths[2 * row + 1], path)
    if status != 0:
        return status
    if column.walks:
        fd = _walk(column.folder, path, &status)
    else:
        fd = _resolve(column.folder, path, &status)
    if fd < 0:
        return status
    status = errno if fstat(fd, &its) < 0 else _kind_of(&its, limits.own, limits.owned)
    if status == 0:
        size[0] = its.st_size
        status = TOO_LARGE if its.st_size > limits.most else EIO if its.st_size < 0 else 0
    if status == 0:
        opened[0] = fl_reopen(fd)
        status = errno if opened[0] < 0 else 0
    close(fd)  # which drops no locks, because O_PATH has not opened the file
    return status


cdef int _file(
    Contents contents, const Column *column, Py_ssize_t row, const Limits *limits
) noexcept nogil:
    """Read the file that a row names. Returns its status."""
    cdef Py_ssize_t *blob = &column.blobs[2 * row]
    cdef int fd, status = _open(column, row, limits, &fd, &blob[1])
    if status == 0:
        status = contents._read(fd, blob[1], blob)
        close(fd)
    column.statuses[row] = status
    return status


cdef void _announce(const Column *column, Py_ssize_t row, const Limits *limits) noexcept nogil:
    """Have the system begin to read the file that a row names."""
    cdef int fd
    cdef Py_ssize_t size
    if _open(column, row, limits, &fd, &size) == 0:
        fl_will_need(fd, min(size, <Py_ssize_t>AHEAD_BYTES))
        close(fd)


cdef double _now_s() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return <double>now.tv_sec + 1e-9 * <double>now.tv_nsec


cdef Py_ssize_t _files(
    Contents contents, const Column *columns, int width, Py_ssize_t rows, const Limits *limits,
    size_t most_bytes, double slow_s,
) noexcept nogil:
    """Read the files of rows until they are enough. Returns the number of rows."""
    cdef Py_ssize_t row, announced = 0
    cdef size_t size = 0, before
    cdef int i, status
    cdef double begun_s, now_s = _now_s(), end_s = now_s + SLICE_S
    for row in range(rows):
        before, begun_s = size, now_s
        for i in range(width):
            status = _file(contents, &columns[i], row, limits)
            if status == 0:
                size += <size_t>columns[i].blobs[2 * row + 1]
            elif status == EMFILE or status == ENFILE or status == ENOMEM:
                return row + 1
        now_s = _now_s()
        # Files that are not in memory: the disk is to work ahead, also for the next call.
        if now_s - begun_s > slow_s + <double>(size - before) / COPIED_BYTES_PER_S:
            announced = max(announced, row + 1)
            while announced < min(row + 1 + AHEAD_ROWS, rows):
                for i in range(width):
                    _announce(&columns[i], announced, limits)
                announced += 1
            now_s = _now_s()
        if size >= most_bytes or now_s > end_s:
            return row + 1
    return rows


def read_files(
    list folders, list paths, Py_ssize_t start, own, *, Py_ssize_t limit, size_t most_bytes,
    double slow_s=3e-5
):
    cdef Contents contents = Contents.__new__(Contents)
    cdef Py_ssize_t rows = len(paths[0]) - start
    cdef int i, width = len(folders)
    cdef Limits limits
    cdef Column *columns
    cdef const uint8_t[::1] kinds
    cdef const Py_ssize_t[:, ::1] given
    cdef int32_t[::1] statuses
    cdef Py_ssize_t[:, ::1] blobs
    cdef const uint64_t[:, ::1] inodes = np.array(own, np.uint64).reshape(-1, 2)
    cdef Folder folder
    if len(paths) != width or rows <= 0:
        raise ValueError("a folder for each column, and rows, are needed")
    limits.owned = inodes.shape[0]
    limits.own = &inodes[0, 0] if limits.owned else NULL
    limits.most = limit
    found = []
    kept = []
    columns = <Column *>malloc(<size_t>width * sizeof(Column))
    if columns is NULL:
        raise MemoryError
    try:
        for i in range(width):
            folder = folders[i]
            if folder.fd < 0:
                raise ValueError(f"{folder!r}")
            if len(paths[i]) != start + rows:
                raise ValueError("the columns have different numbers of rows")
            kinds = np.ascontiguousarray(paths[i].kinds[start:])
            given = np.ascontiguousarray(paths[i].blobs[start:])
            statuses = np.zeros(rows, np.int32)
            blobs = np.zeros((rows, 2), np.intp)
            columns[i] = Column(
                folder.fd, folder.walks, &kinds[0], &given[0, 0], &statuses[0], &blobs[0, 0])
            kept.append((kinds, given))
            found.append((np.asarray(statuses), np.asarray(blobs)))
        with nogil:
            rows = _files(contents, columns, width, rows, &limits, most_bytes, slow_s)
    finally:
        free(columns)
    return rows, [(each[:rows], blob[:rows]) for each, blob in found], contents
