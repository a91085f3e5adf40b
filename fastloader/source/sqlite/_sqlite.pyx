# cython: language_level=3, boundscheck=False, wraparound=False
"""Queries through SQLite's C API, for rows without Python objects; see the stub.

POSIX locks belong to the process, and only the copy of SQLite that took a lock knows of it: with a
second copy, closing a file would drop the locks of the first ("How To Corrupt An SQLite Database
File", 2.2.1). So SQLite's functions are those that Python's own sqlite3 calls.
"""

import importlib
import os

from cpython.buffer cimport PyBuffer_FillInfo
from libc.stdint cimport int64_t, uint8_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy, memset
from posix.dlfcn cimport RTLD_LAZY, dlopen, dlsym
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec
from posix.unistd cimport getpid, pid_t

from ._sqlite cimport (
    FL_SQLITE_FUNCTIONS,
    SQLITE_BLOB,
    SQLITE_DENY,
    SQLITE_DONE,
    SQLITE_FLOAT,
    SQLITE_FUNCTION,
    SQLITE_INTEGER,
    SQLITE_INTERRUPT,
    SQLITE_MISUSE,
    SQLITE_NOMEM,
    SQLITE_OK,
    SQLITE_OPEN_NOMUTEX,
    SQLITE_OPEN_READONLY,
    SQLITE_OPEN_URI,
    SQLITE_ROW,
    SQLITE_STATIC,
    SQLITE_TEXT,
    SQLITE_TOOBIG,
    SQLITE_TRANSIENT,
    Dl_info,
    dladdr,
    fl_sqlite,
    fl_sqlite_names,
    sqlite3,
    sqlite3_stmt,
    sqlite3_value,
)

import numpy as np

from ...fields import values as _values
from ...fields.values import Values

MISUSE = SQLITE_MISUSE

cdef enum:
    NULL_KIND = 0  # the kinds of fields/values.py; the other types are numbered as SQLite's are
    TOO_LARGE_KIND = 5
    LEAST_ROWS = 64
    BLOCK_BYTES = 65536
    ALONE_BYTES = 16384  # a blob of this size gets a block of its own
    ALIGNED = 16
    MOST_SIZE = 0x7fffffff

assert (_values.NULL, _values.TOO_LARGE) == (NULL_KIND, TOO_LARGE_KIND)
assert (_values.INTEGER, _values.REAL, _values.TEXT, _values.BLOB) == (
    SQLITE_INTEGER, SQLITE_FLOAT, SQLITE_TEXT, SQLITE_BLOB)

# A transaction that reads many short ranges lets waiting writers in after this time.
cdef double HOLD_S = 0.05

cdef fl_sqlite api


# ---- the library ---------------------------------------------------------------------------------


cdef bint _take(void *library, str version):
    """Fill ``api`` from a library, and return whether that can be used.

    Parameters
    ----------
    version
        The version that the library must have, or None.
    """
    cdef int i
    cdef void *found
    if library is NULL:
        return False
    for i in range(FL_SQLITE_FUNCTIONS):
        found = dlsym(library, fl_sqlite_names[i])
        if found is NULL:
            return False
        (<void **>&api)[i] = found
    # TensorFlow exports a SQLite of its own. A library that was loaded after it calls TensorFlow's
    # functions in place of some of its own, and such a mixture crashes. Then the version that it
    # returns is not its own one.
    if <const void *>api.libversion() != <const void *>dlsym(library, b"sqlite3_version"):
        return False
    return version is None or version == (<bytes>api.libversion()).decode()


cdef str _look_up():
    """Fill ``api``, and return whose SQLite it is."""
    cdef Dl_info this
    cdef void *library
    try:
        python = importlib.import_module("_sqlite3")
    except ImportError:  # a Python without it
        pass
    else:
        version = python.sqlite_version
        path = getattr(python, "__file__", None)
        if path is not None:
            # The handle leads to the library's own dependencies, and not to other libraries.
            if _take(dlopen(os.fsencode(path), RTLD_LAZY), version):
                return "Python"
        # It is part of Python's program, or was loaded after TensorFlow and calls that one's.
        if _take(dlopen(NULL, RTLD_LAZY), version):
            return "Python"
    # Pythons that are linked statically may hide SQLite's functions.
    if dladdr(<const void *>&api, &this) and _take(dlopen(this.dli_fname, RTLD_LAZY), None):
        return "fastloader"
    if _take(dlopen(NULL, RTLD_LAZY), None):
        return "another library"
    raise ImportError("found no usable SQLite library, neither Python's nor fastloader's own")


origin = _look_up()
version = (<bytes>api.libversion()).decode()


class SQLiteError(Exception):
    """SQLite refused or failed; see the stub."""

    def __init__(self, message, code):
        super().__init__(message, code)
        self.message = message
        self.code = code

    def __str__(self):
        return self.message


# ---- the connection ------------------------------------------------------------------------------


cdef int _authorized(
    void *_, int action, const char *__, const char *name, const char *___, const char *____
) noexcept nogil:
    """Refuse the functions with which a query returns other rows each time.

    SQLite calls it when it compiles a statement, also for what views and triggers call.
    """
    if action == SQLITE_FUNCTION and name is not NULL and (
            api.stricmp(name, b"random") == 0 or api.stricmp(name, b"randomblob") == 0):
        return SQLITE_DENY
    return SQLITE_OK


cdef class Database:
    """A read-only connection, which owns its statements; see the stub."""

    cdef sqlite3 *db
    cdef pid_t pid
    cdef bint in_use
    cdef volatile int interrupted
    cdef sqlite3_stmt *begin
    cdef sqlite3_stmt *commit
    cdef readonly str uri
    cdef public dict constants

    def __cinit__(self, str uri, double busy_timeout_s):
        cdef bytes encoded = uri.encode("utf-8", "surrogateescape")
        cdef const char *name = encoded
        cdef int code
        self.uri = uri
        self.constants = {}
        self.pid = getpid()
        with nogil:
            code = api.open_v2(
                name, &self.db, SQLITE_OPEN_READONLY | SQLITE_OPEN_URI | SQLITE_OPEN_NOMUTEX, NULL)
        if code != SQLITE_OK:
            error = self._error(code)
            self._close()
            raise error
        api.busy_timeout(self.db, <int>min(busy_timeout_s * 1000, MOST_SIZE))
        api.set_authorizer(self.db, _authorized, NULL)

    def __dealloc__(self):
        self._close()

    @property
    def closed(self):
        return self.db is NULL

    def execute(self, str sql, parameters=()):
        cdef sqlite3_stmt *stmt
        cdef int i, code
        self._enter()
        stmt = NULL
        rows = []
        try:
            stmt = self._prepare(sql)
            i = self._bind_constants(stmt)
            if i != len(parameters):
                raise SQLiteError(
                    f"the statement has {i} parameters, and {len(parameters)} were given",
                    SQLITE_MISUSE)
            for i, parameter in enumerate(parameters):
                self._check(_bind_object(stmt, i + 1, parameter))
            while True:
                with nogil:
                    code = api.step(stmt)
                if code != SQLITE_ROW:
                    break
                rows.append(tuple([_object(api.column_value(stmt, i))
                                   for i in range(api.column_count(stmt))]))
            if code != SQLITE_DONE:
                raise self._error(code)
        finally:
            api.finalize(stmt)
            self.in_use = False
        return rows

    def interrupt(self):
        # close() sets ``db`` to NULL first, and has the GIL until then, as this has.
        self.interrupted = 1
        if self.db is not NULL:
            api.interrupt(self.db)

    def close(self):
        if self.db is not NULL:
            self._enter()
            self.in_use = False
            self._close()

    def __repr__(self):
        return f"<Database {self.uri}, {'closed' if self.db is NULL else 'open'}>"

    cdef int _enter(self) except -1:
        """Begin a call. Raises SQLiteError if the connection cannot be used."""
        if self.db is NULL:
            raise SQLiteError("the database is closed", SQLITE_MISUSE)
        if self.in_use:
            raise SQLiteError("another thread uses the connection", SQLITE_MISUSE)
        if getpid() != self.pid:
            raise SQLiteError("a fork cannot use its parent's connection", SQLITE_MISUSE)
        self.in_use = True
        self.interrupted = 0
        return 0

    cdef sqlite3_stmt *_prepare(self, str sql) except NULL:
        """Return a compiled statement, which belongs to the connection. The caller may finalize it.
        """
        cdef bytes encoded = sql.encode("utf-8", "surrogateescape")
        cdef const char *text = encoded
        cdef const char *tail = NULL
        cdef sqlite3_stmt *stmt = NULL
        cdef sqlite3_stmt *more = NULL
        cdef int code, size
        if len(encoded) > MOST_SIZE - 1 or b"\0" in encoded:
            raise SQLiteError("the statement is too long or has a NUL in it", SQLITE_MISUSE)
        size = <int>len(encoded)
        with nogil:
            code = api.prepare_v2(self.db, text, size + 1, &stmt, &tail)
        self._check(code)
        code = api.prepare_v2(self.db, tail, -1, &more, NULL)
        if stmt is NULL or more is not NULL or code != SQLITE_OK:
            api.finalize(stmt)
            api.finalize(more)
            raise SQLiteError("exactly one statement can be run at a time", SQLITE_MISUSE)
        return stmt

    cdef int _bind_constants(self, sqlite3_stmt *stmt) except -1:
        """Bind the parameters that have names, and return the number of those without, which are
        the first ones."""
        cdef int i, nameless = 0
        cdef const char *name
        for i in range(1, api.bind_parameter_count(stmt) + 1):
            name = api.bind_parameter_name(stmt, i)
            if name is NULL:
                nameless += 1
                continue
            known = (<bytes>name).decode("utf-8", "replace")
            if known not in self.constants:
                raise SQLiteError(f"there is no parameter {known}", SQLITE_MISUSE)
            self._check(_bind_object(stmt, i, self.constants[known]))
        return nameless

    cdef int _check(self, int code) except -1:
        if code != SQLITE_OK:
            raise self._error(code)
        return 0

    cdef object _error(self, int code):
        """Return the error for a result code of the last call."""
        cdef const char *words = api.errstr(code)
        # After an error of our own, such as a lack of memory, SQLite knows of none.
        if self.db is not NULL and (api.extended_errcode(self.db) & 0xff) == (code & 0xff):
            words = api.errmsg(self.db)
            code = api.extended_errcode(self.db)
        return SQLiteError((<bytes>words).decode("utf-8", "replace"), code)

    cdef void _close(self) noexcept:
        """Finalize all statements and close. In a forked child only forget the connection."""
        cdef sqlite3 *db = self.db
        cdef sqlite3_stmt *stmt
        self.db = NULL
        if db is NULL or getpid() != self.pid:
            return
        with nogil:
            while True:
                stmt = api.next_stmt(db, NULL)
                if stmt is NULL:
                    break
                api.finalize(stmt)
            api.close(db)


cdef int _bind_object(sqlite3_stmt *stmt, int i, parameter) except -1:
    """Bind a Python object, of which SQLite makes a copy, and return SQLite's code."""
    if parameter is None:
        return api.bind_null(stmt, i)
    if isinstance(parameter, float):
        return api.bind_double(stmt, i, parameter)
    if isinstance(parameter, (str, bytes)):
        data = parameter.encode("utf-8", "surrogateescape") if isinstance(parameter, str) else parameter
        if len(data) > MOST_SIZE:
            return SQLITE_TOOBIG
        if isinstance(parameter, str):
            return api.bind_text(stmt, i, <const char *><bytes>data, <int>len(data), SQLITE_TRANSIENT)
        return api.bind_blob(stmt, i, <const char *><bytes>data, <int>len(data), SQLITE_TRANSIENT)
    return api.bind_int64(stmt, i, parameter)


cdef object _object(sqlite3_value *value):
    """Return a value as a Python object. Bytes of text that are not UTF-8 become surrogates."""
    cdef int kind = api.value_type(value)
    cdef const char *data
    if kind == SQLITE_INTEGER:
        return api.value_int64(value)
    if kind == SQLITE_FLOAT:
        return api.value_double(value)
    if kind != SQLITE_TEXT and kind != SQLITE_BLOB:
        return None
    data = <const char *>(
        <const void *>api.value_text(value) if kind == SQLITE_TEXT else api.value_blob(value))
    if data is NULL:
        if api.value_bytes(value) > 0 or kind == SQLITE_TEXT:
            raise MemoryError
        return b""
    copy = data[:api.value_bytes(value)]
    return copy.decode("utf-8", "surrogateescape") if kind == SQLITE_TEXT else copy


# ---- rows ----------------------------------------------------------------------------------------


cdef struct Column:
    int64_t limit  # the size above which a value is not read, or -1
    int size_at  # the result column with the size of such a value
    uint8_t *kinds
    int64_t *numbers
    Py_ssize_t *blobs  # NULL until there is one


cdef struct Block:
    Block *next


cdef class Rows:
    """Rows that were read, which own the memory of their values; see the stub."""

    cdef readonly Py_ssize_t done
    cdef readonly bint is_cut
    cdef Py_ssize_t count, capacity
    cdef int64_t *numbers
    cdef int width
    cdef Column *columns
    cdef Block *blocks
    cdef char *free
    cdef size_t left
    cdef size_t size

    def __dealloc__(self):
        cdef int i
        cdef Block *block
        for i in range(self.width):
            free(self.columns[i].kinds)
            free(self.columns[i].numbers)
            free(self.columns[i].blobs)
        free(self.columns)
        free(self.numbers)
        while self.blocks is not NULL:
            block = self.blocks
            self.blocks = block.next
            free(block)

    def __len__(self):
        return self.count

    @property
    def ranges(self):
        return self._lend(self.numbers, np.int64)

    @property
    def columns(self):
        none = np.zeros((self.count, 2), np.intp)
        return [self._column(i, none) for i in range(self.width)]

    cdef object _column(self, int i, none):
        cdef Column *column = &self.columns[i]
        blobs = none
        if column.blobs is not NULL:
            blobs = self._lend(column.blobs, np.intp, 2).reshape(-1, 2)
        return Values(
            self._lend(column.kinds, np.uint8), self._lend(column.numbers, np.int64), blobs,
            None if blobs is none else self)

    cdef object _lend(self, void *address, dtype, Py_ssize_t each=1):
        """Return memory of this object as an array that keeps the object alive."""
        cdef Lent lent = Lent.__new__(Lent)
        if self.count == 0:
            return np.empty(0, dtype)
        lent.owner = self
        lent.address = address
        lent.size = self.count * each * np.dtype(dtype).itemsize
        return np.frombuffer(lent, dtype)

    cdef int _grow(self) noexcept nogil:
        """Make room for twice as many rows. Returns -1 if there is not enough memory."""
        cdef Py_ssize_t capacity = max(2 * self.capacity, <Py_ssize_t>LEAST_ROWS)
        cdef void *moved
        cdef int i
        if capacity > (<Py_ssize_t>1 << 56):  # times 16 it must fit
            return -1
        moved = realloc(self.numbers, capacity * sizeof(int64_t))
        if moved is NULL:
            return -1
        self.numbers = <int64_t *>moved
        for i in range(self.width):
            moved = realloc(self.columns[i].kinds, capacity)
            if moved is NULL:
                return -1
            self.columns[i].kinds = <uint8_t *>moved
            moved = realloc(self.columns[i].numbers, capacity * sizeof(int64_t))
            if moved is NULL:
                return -1
            self.columns[i].numbers = <int64_t *>moved
            if self.columns[i].blobs is not NULL:
                moved = realloc(self.columns[i].blobs, capacity * 2 * sizeof(Py_ssize_t))
                if moved is NULL:
                    return -1
                self.columns[i].blobs = <Py_ssize_t *>moved
        self.capacity = capacity
        return 0

    cdef char *_room(self, size_t size) noexcept nogil:
        """Return room for a value, which never moves, or NULL if there is not enough memory."""
        cdef size_t whole = max(size + (-size & (ALIGNED - 1)), <size_t>ALIGNED)
        cdef size_t block_bytes = whole if size >= ALONE_BYTES else <size_t>BLOCK_BYTES
        cdef Block *block
        cdef char *room
        if whole > self.left or size >= ALONE_BYTES:
            block = <Block *>malloc(ALIGNED + block_bytes)
            if block is NULL:
                return NULL
            block.next = self.blocks
            self.blocks = block
            room = <char *>block + ALIGNED
            if size >= ALONE_BYTES:
                return room
            self.free, self.left = room, block_bytes
        room = self.free
        self.free += whole
        self.left -= whole
        return room

    cdef int _place(self, Column *column, Py_ssize_t address, Py_ssize_t size) noexcept nogil:
        """Note where the row's value of a column is. Returns -1 if there is not enough memory."""
        if column.blobs is NULL:
            column.blobs = <Py_ssize_t *>malloc(self.capacity * 2 * sizeof(Py_ssize_t))
            if column.blobs is NULL:
                return -1
            memset(column.blobs, 0, self.count * 2 * sizeof(Py_ssize_t))
        column.blobs[2 * self.count] = address
        column.blobs[2 * self.count + 1] = size
        return 0

    cdef int _copy(self, Column *column, sqlite3_value *value, int kind) noexcept nogil:
        """Copy a text or blob. Returns its kind, or -1 if there is not enough memory."""
        cdef const void *data = (
            <const void *>api.value_text(value) if kind == SQLITE_TEXT else api.value_blob(value))
        cdef int size = api.value_bytes(value)
        cdef char *room
        if data is NULL and (size > 0 or kind == SQLITE_TEXT):
            return -1
        if 0 <= column.limit < size:  # text, whose length() counts characters
            return -1 if self._place(column, 0, size) < 0 else TOO_LARGE_KIND
        room = self._room(<size_t>size)
        if room is NULL or self._place(column, <Py_ssize_t>room, size) < 0:
            return -1
        if size > 0:
            memcpy(room, data, <size_t>size)
            self.size += <size_t>size
        return kind

    cdef int _add(self, sqlite3_stmt *stmt, int64_t number) noexcept nogil:
        """Copy the row that the statement is at. Returns SQLite's code."""
        cdef int i, kind
        cdef int64_t bits
        cdef double real
        cdef Column *column
        cdef sqlite3_value *value
        if self.count == self.capacity and self._grow() < 0:
            return SQLITE_NOMEM
        for i in range(self.width):
            column = &self.columns[i]
            value = api.column_value(stmt, i)
            kind = api.value_type(value)
            bits = 0
            if kind == SQLITE_INTEGER:
                bits = api.value_int64(value)
            elif kind == SQLITE_FLOAT:
                real = api.value_double(value)
                memcpy(&bits, &real, sizeof(bits))
            if column.blobs is not NULL:
                self._place(column, 0, 0)
            if kind == SQLITE_TEXT or kind == SQLITE_BLOB:
                kind = self._copy(column, value, kind)
            elif kind != SQLITE_INTEGER and kind != SQLITE_FLOAT:
                kind = NULL_KIND
                if column.limit >= 0:
                    value = api.column_value(stmt, column.size_at)
                    if api.value_type(value) == SQLITE_INTEGER:
                        kind = TOO_LARGE_KIND
                        if self._place(column, 0, <Py_ssize_t>api.value_int64(value)) < 0:
                            kind = -1
            if kind < 0:
                return SQLITE_NOMEM
            column.kinds[self.count] = <uint8_t>kind
            column.numbers[self.count] = bits
        self.numbers[self.count] = number
        self.count += 1
        self.size += <size_t>self.width * sizeof(int64_t)
        return SQLITE_OK


cdef class Lent:
    """A part of the memory of rows, as a buffer."""

    cdef Rows owner
    cdef void *address
    cdef Py_ssize_t size

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        PyBuffer_FillInfo(buffer, self, self.address, self.size, 0, flags)


# ---- reading them --------------------------------------------------------------------------------


cdef struct Bound:
    int kind
    int size
    int64_t number
    const char *data


cdef class Ranges:
    """Parameters for the statement, for each range, as C values."""

    cdef Bound *bounds
    cdef Py_ssize_t count
    cdef int each
    cdef list owners

    def __cinit__(self, list ranges, int each):
        cdef Py_ssize_t i = 0
        self.owners = []
        self.count = len(ranges)
        self.each = each
        self.bounds = <Bound *>malloc((len(ranges) * <size_t>each + 1) * sizeof(Bound))
        if self.bounds is NULL:
            raise MemoryError
        for parameters in ranges:
            if len(parameters) != each:
                raise SQLiteError(
                    f"the statement has {each} parameters for a range, and {len(parameters)} "
                    f"were given", SQLITE_MISUSE)
            for parameter in parameters:
                self._set(&self.bounds[i], parameter)
                i += 1

    def __dealloc__(self):
        free(self.bounds)

    cdef int _set(self, Bound *bound, parameter) except -1:
        cdef bytes data
        if isinstance(parameter, (str, bytes)):
            bound.kind = SQLITE_TEXT if isinstance(parameter, str) else SQLITE_BLOB
            data = (parameter.encode("utf-8", "surrogateescape")
                    if isinstance(parameter, str) else parameter)
            if len(data) > MOST_SIZE:
                raise SQLiteError("a parameter is too large", SQLITE_TOOBIG)
            self.owners.append(data)
            bound.data, bound.size = data, <int>len(data)
        else:
            bound.kind = SQLITE_INTEGER
            bound.number = parameter
        return 0

    cdef int _bind(self, sqlite3_stmt *stmt, Py_ssize_t number, int first) noexcept nogil:
        """Bind the parameters of a range, from this parameter of the statement on."""
        cdef int i, code = SQLITE_OK
        cdef Bound *bound
        for i in range(self.each):
            bound = &self.bounds[number * self.each + i]
            if bound.kind == SQLITE_INTEGER:
                code = api.bind_int64(stmt, first + i, bound.number)
            elif bound.kind == SQLITE_TEXT:
                code = api.bind_text(stmt, first + i, bound.data, bound.size, SQLITE_STATIC)
            else:
                code = api.bind_blob(stmt, first + i, bound.data, bound.size, SQLITE_STATIC)
            if code != SQLITE_OK:
                return code
        return code


cdef double _now_s() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return <double>now.tv_sec + 1e-9 * <double>now.tv_nsec


cdef class Reader:
    """A compiled statement for the rows of key ranges; see the stub."""

    cdef Database database
    cdef sqlite3_stmt *stmt
    cdef sqlite3_stmt *rest
    cdef tuple limits
    cdef int limited
    cdef int each

    def __cinit__(self, Database database, str sql, limits, str rest=None):
        self.database = database
        self.limits = tuple(limits)
        self.limited = len(self.limits) - self.limits.count(None)
        database._enter()
        try:
            self.stmt = self._compiled(sql)
            self.each = database._bind_constants(self.stmt) - self.limited
            self.rest = NULL if rest is None else self._compiled(rest)
            if self.rest is not NULL and (
                    database._bind_constants(self.rest) != self.each + self.limited):
                raise SQLiteError("the statements have other parameters", SQLITE_MISUSE)
            if database.begin is NULL:
                database.begin = database._prepare("BEGIN")
                database.commit = database._prepare("COMMIT")
        except BaseException:
            self._finalize()
            raise
        finally:
            database.in_use = False

    cdef sqlite3_stmt *_compiled(self, str sql) except NULL:
        cdef sqlite3_stmt *stmt = self.database._prepare(sql)
        limits = [limit for limit in self.limits if limit is not None]
        if api.column_count(stmt) != len(self.limits) + self.limited or (
                api.bind_parameter_count(stmt) < self.limited):
            api.finalize(stmt)
            raise SQLiteError("the statement has other columns or parameters", SQLITE_MISUSE)
        for i, limit in enumerate(limits):
            api.bind_int64(stmt, i + 1, limit)
        return stmt

    def read(self, list ranges, *, size_t most_bytes, bint rest=False, int64_t number=0):
        cdef Ranges bound = Ranges(ranges, self.each)
        cdef Rows rows = self._rows()
        cdef int code
        if rest and self.rest is NULL:
            raise SQLiteError("there is no statement for the rest of a range", SQLITE_MISUSE)
        self.database._enter()
        try:
            if self.stmt is NULL:
                raise SQLiteError("the reader is closed", SQLITE_MISUSE)
            with nogil:
                code = self._run(bound, rows, most_bytes, rest, number)
            error = None if code == SQLITE_OK else self.database._error(code)
            if bound.count > 1:
                with nogil:
                    self._step_once(self.database.commit)
        finally:
            self.database.in_use = False
        if error is not None:
            raise error
        return rows

    def close(self):
        if not self.database.closed:
            self.database._enter()
            self.database.in_use = False
            self._finalize()

    cdef void _finalize(self) noexcept:
        api.finalize(self.stmt)
        api.finalize(self.rest)
        self.stmt = self.rest = NULL

    cdef Rows _rows(self):
        """Return an object for rows, without any yet."""
        cdef Rows rows = Rows.__new__(Rows)
        cdef int i, at = len(self.limits)
        rows.columns = <Column *>malloc((len(self.limits) + 1) * sizeof(Column))
        if rows.columns is NULL:
            raise MemoryError
        memset(rows.columns, 0, (len(self.limits) + 1) * sizeof(Column))
        rows.width = len(self.limits)
        for i, limit in enumerate(self.limits):
            rows.columns[i].limit = -1 if limit is None else limit
            rows.columns[i].size_at = at
            at += limit is not None
        return rows

    cdef int _step_once(self, sqlite3_stmt *stmt) noexcept nogil:
        """Run a statement without rows. Returns SQLite's code."""
        cdef int code = api.step(stmt)
        api.reset(stmt)
        return SQLITE_OK if code == SQLITE_DONE else code

    cdef int _run(
        self, Ranges ranges, Rows rows, size_t most_bytes, bint rest, int64_t number
    ) noexcept nogil:
        """Read ranges until the rows are enough. Returns SQLite's code.

        More than one range is a transaction, which the caller ends: the locks and the look at
        whether the file has changed cost more than a short range does.
        """
        cdef sqlite3_stmt *stmt
        cdef double begun_s = 0
        cdef int code = SQLITE_OK
        cdef Py_ssize_t i
        for i in range(ranges.count):
            if self.database.interrupted:
                return SQLITE_INTERRUPT
            if ranges.count > 1 and (i == 0 or _now_s() - begun_s > HOLD_S):
                code = SQLITE_OK if i == 0 else self._step_once(self.database.commit)
                if code == SQLITE_OK:
                    code = self._step_once(self.database.begin)
                if code != SQLITE_OK:
                    return code
                begun_s = _now_s()
            stmt = self.rest if rest and i == 0 else self.stmt
            code = ranges._bind(stmt, i, self.limited + 1)
            while code == SQLITE_OK:
                code = api.step(stmt)
                if code != SQLITE_ROW:
                    break
                code = rows._add(stmt, number + i)
                if code == SQLITE_OK and rows.size >= most_bytes:
                    break
            # An open statement would lock writers out.
            if code != SQLITE_DONE and code != SQLITE_OK:
                api.reset(stmt)
                return code
            api.reset(stmt)
            if code == SQLITE_OK:
                rows.is_cut = True
                return code
            rows.done = i + 1
        return SQLITE_OK


def padded(const Py_ssize_t[:, ::1] blobs, Py_ssize_t width):
    cdef Py_ssize_t i
    found = np.zeros((blobs.shape[0], width), np.uint8)
    cdef uint8_t[:, ::1] out = found
    with nogil:
        for i in range(blobs.shape[0]):
            if 0 < blobs[i, 1] <= width:
                memcpy(&out[i, 0], <const void *>blobs[i, 0], <size_t>blobs[i, 1])
    return found
