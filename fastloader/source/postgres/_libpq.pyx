# cython: language_level=3, boundscheck=False, wraparound=False
"""Queries through libpq itself, on a connection that psycopg2 has made.

psycopg2's cursors return a bytea as hex text and every row as Python objects, and they wait forever
for a silent server. ``connection.pgconn_ptr`` leads past them. libpq's functions are looked up in
the library that psycopg2 has loaded, so that both use the same libpq. Results lend their memory.
"""

from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcmp, memcpy
from posix.dlfcn cimport RTLD_LAZY, dlopen, dlsym

from ._libpq cimport (
    FL_CONNECTION_OK,
    FL_DIAG_DETAIL,
    FL_DIAG_HINT,
    FL_DIAG_PRIMARY,
    FL_DIAG_SQLSTATE,
    FL_PGRES_COMMAND_OK,
    FL_PGRES_COPY_OUT,
    FL_PGRES_EMPTY_QUERY,
    FL_PGRES_FATAL_ERROR,
    FL_PGRES_TUPLES_OK,
    POLLIN,
    POLLOUT,
    PGconn,
    PGresult,
    fl_libpq,
    poll,
    pollfd,
)

import numpy as np
import psycopg2._psycopg

from ...errors import SourceError
from ...fields import values

MOST_RESULTS = 32
"""The limit for one query. A server that sends more results than statements is not trusted."""

cdef enum:
    MOST_PARAMS = 1000

cdef fl_libpq pq


cdef void *_symbol(void *library, bytes name) except NULL:
    """Return the address of a function. Raises ImportError if the library does not have it."""
    cdef void *found = dlsym(library, name)
    if found is NULL:
        raise ImportError(
            f"psycopg2 ({psycopg2._psycopg.__file__}) does not come with a libpq that has "
            f"{name.decode()}; install psycopg2-binary")
    return found


cdef int _look_up() except -1:
    """Fill ``pq`` with the functions of the libpq that psycopg2 has loaded."""
    cdef void *library = dlopen(psycopg2._psycopg.__file__.encode(), RTLD_LAZY)
    if library is NULL:
        raise ImportError(f"cannot open {psycopg2._psycopg.__file__}")
    pq.send_query = <int (*)(PGconn *, const char *) noexcept nogil>_symbol(library, b"PQsendQuery")
    pq.send_query_params = <int (*)(
        PGconn *, const char *, int, const unsigned int *, const char *const *, const int *,
        const int *, int) noexcept nogil>_symbol(library, b"PQsendQueryParams")
    pq.set_nonblocking = <int (*)(PGconn *, int) noexcept nogil>_symbol(
        library, b"PQsetnonblocking")
    pq.flush = <int (*)(PGconn *) noexcept nogil>_symbol(library, b"PQflush")
    pq.consume_input = <int (*)(PGconn *) noexcept nogil>_symbol(library, b"PQconsumeInput")
    pq.is_busy = <int (*)(PGconn *) noexcept nogil>_symbol(library, b"PQisBusy")
    pq.socket = <int (*)(const PGconn *) noexcept nogil>_symbol(library, b"PQsocket")
    pq.status = <int (*)(const PGconn *) noexcept nogil>_symbol(library, b"PQstatus")
    pq.error_message = <char *(*)(const PGconn *) noexcept nogil>_symbol(
        library, b"PQerrorMessage")
    pq.get_result = <PGresult *(*)(PGconn *) noexcept nogil>_symbol(library, b"PQgetResult")
    pq.result_status = <int (*)(const PGresult *) noexcept nogil>_symbol(
        library, b"PQresultStatus")
    pq.result_error_field = <char *(*)(const PGresult *, int) noexcept nogil>_symbol(
        library, b"PQresultErrorField")
    pq.result_error_message = <char *(*)(const PGresult *) noexcept nogil>_symbol(
        library, b"PQresultErrorMessage")
    pq.clear = <void (*)(PGresult *) noexcept nogil>_symbol(library, b"PQclear")
    pq.ntuples = <int (*)(const PGresult *) noexcept nogil>_symbol(library, b"PQntuples")
    pq.nfields = <int (*)(const PGresult *) noexcept nogil>_symbol(library, b"PQnfields")
    pq.fname = <char *(*)(const PGresult *, int) noexcept nogil>_symbol(library, b"PQfname")
    pq.ftype = <unsigned int (*)(const PGresult *, int) noexcept nogil>_symbol(library, b"PQftype")
    pq.fmod = <int (*)(const PGresult *, int) noexcept nogil>_symbol(library, b"PQfmod")
    pq.fformat = <int (*)(const PGresult *, int) noexcept nogil>_symbol(library, b"PQfformat")
    pq.getvalue = <char *(*)(const PGresult *, int, int) noexcept nogil>_symbol(
        library, b"PQgetvalue")
    pq.getlength = <int (*)(const PGresult *, int, int) noexcept nogil>_symbol(
        library, b"PQgetlength")
    pq.getisnull = <int (*)(const PGresult *, int, int) noexcept nogil>_symbol(
        library, b"PQgetisnull")
    pq.get_copy_data = <int (*)(PGconn *, char **, int) noexcept nogil>_symbol(
        library, b"PQgetCopyData")
    pq.freemem = <void (*)(void *) noexcept nogil>_symbol(library, b"PQfreemem")
    return 0


_look_up()


class QueryError(Exception):
    """A query failed; see the stub."""

    def __init__(self, message, sqlstate, lost):
        super().__init__(message, sqlstate, lost)
        self.message = message
        self.sqlstate = sqlstate
        self.lost = lost

    def __str__(self):
        return self.message


cdef class Result:
    """The owner of the rows that a query returned, which lends their memory; see the stub."""

    cdef PGresult *result  # NULL for rows of COPY
    cdef int rows, fields

    cdef void own(self, PGresult *result) noexcept:
        self.result, self.rows, self.fields = result, pq.ntuples(result), pq.nfields(result)

    def __dealloc__(self):
        if self.result is not NULL:
            pq.clear(self.result)

    cdef const uint8_t *at(self, int row, int column) noexcept nogil:
        """Return the address of a value."""
        return <const uint8_t *>pq.getvalue(self.result, row, column)

    cdef int size(self, int row, int column) noexcept nogil:
        """Return the size of a value in bytes, -1 for NULL."""
        cdef int size = pq.getlength(self.result, row, column)
        return -1 if size == 0 and pq.getisnull(self.result, row, column) else size

    def __len__(self):
        return self.rows

    @property
    def columns(self):
        return [(pq.fname(self.result, i).decode("utf-8", "replace"), pq.ftype(self.result, i))
                for i in range(pq.nfields(self.result))]

    @property
    def modifiers(self):
        return [pq.fmod(self.result, i) for i in range(pq.nfields(self.result))]

    def value(self, int row, int column):
        self._check(column, None)
        if not 0 <= row < self.rows:
            raise IndexError(row)
        cdef int size = self.size(row, column)
        return None if size < 0 else (<const char *>self.at(row, column))[:size]

    def blobs(self, int column):
        self._check(column, True)
        cdef int row
        found = np.empty((self.rows, 2), np.intp)
        cdef Py_ssize_t[:, ::1] out = found
        with nogil:
            for row in range(self.rows):
                out[row, 0] = <Py_ssize_t>self.at(row, column)
                out[row, 1] = self.size(row, column)
        return found

    def raw(self, int column, int width):
        self._check(column, True)
        cdef int row, length
        found, lengths = np.zeros((self.rows, width), np.uint8), np.empty(self.rows, np.intp)
        cdef uint8_t[:, ::1] out = found
        cdef Py_ssize_t[::1] sizes = lengths
        with nogil:
            for row in range(self.rows):
                length = sizes[row] = self.size(row, column)
                if 0 < length <= width:
                    memcpy(&out[row, 0], self.at(row, column), length)
        return found, lengths

    def numbers(self, columns):
        cdef int row, start, end = 0, i, length, count = len(columns), rows = self.rows
        cdef uint8_t null = values.NULL
        cdef int64_t value
        cdef bint far
        kinds, numbers = np.empty((count, rows), np.uint8), np.empty((count, rows), np.int64)
        cdef uint8_t[:, ::1] its_kind = kinds
        cdef int64_t[:, ::1] out = numbers
        cdef _Numbers its
        cdef _Numbers[:] all_its = np.empty(count, _NUMBERS)
        for i, (column, wire, unit, epoch) in enumerate(columns):
            self._check(column, True)
            its.column, its.width, its.form = column, np.dtype(wire).itemsize, _FORMS[wire]
            its.kind = values.REAL if wire in (">f4", ">f8") else values.INTEGER
            its.unit, its.epoch, its.first, its.last = unit, epoch, 0, 0
            if epoch:  # the extremes of the wire's type are -infinity and infinity
                limit = np.iinfo(np.int64)
                its.first = max(-(-limit.min // unit) - epoch, np.iinfo(wire).min + 1)
                its.last = min(limit.max // unit - epoch, np.iinfo(wire).max - 1)
            all_its[i] = its
        too_far = []
        with nogil:
            # Column by column, but few rows at a time, so that their memory is still in the cache.
            while end < rows:
                start, end = end, min(end + ROWS_AT_A_TIME, rows)
                for i in range(count):
                    its = all_its[i]
                    for row in range(start, end):
                        length = self.size(row, its.column)
                        if length != its.width:
                            if length < 0:
                                its_kind[i, row], out[i, row] = null, 0
                                continue
                            with gil:
                                raise SourceError(
                                    f"the server sent a value of {length} bytes for a type of "
                                    f"{its.width} bytes; it is not PostgreSQL, or the table was "
                                    f"altered meanwhile")
                        value = _number(self.at(row, its.column), <Form>its.form)
                        its_kind[i, row] = its.kind
                        if its.epoch:
                            far = not its.first <= value <= its.last
                            value = 0 if far else (value + its.epoch) * its.unit
                            if far:
                                its_kind[i, row] = null
                                with gil:
                                    too_far.append((i, row))
                        out[i, row] = value
        return kinds, numbers, too_far

    cdef int _check(self, int column, binary) except -1:
        """Raise IndexError for a column that does not exist, and QueryError for one that is text if
        ``binary`` is not None."""
        if not 0 <= column < self.fields:
            raise IndexError(column)
        if self.result is NULL or binary is None or not self.rows:
            return 0
        if pq.fformat(self.result, column) != 1:
            raise QueryError("the server sent text where binary was asked for", None, True)
        return 0

    def __repr__(self):
        return f"<Result, {self.rows} rows of {self.fields} columns>"


cdef enum:
    # As many rows of COPY are decoded together. Their memory stays in the cache of a core.
    ROWS_OF_COPY = 2048
    BYTES_OF_COPY = 1 << 20

cdef enum Gathered:
    MALFORMED = -4, NO_MEMORY, FAILED, ENDED, MORE_TO_COME, FULL

cdef struct Cell:
    int32_t start  # in the data; rows stop at BYTES_OF_COPY, and a message has at most 1 GiB
    int32_t size

cdef struct Stream:  # a COPY under way
    bint begun
    bint ended

cdef const char *SIGNATURE = b"PGCOPY\n\xff\r\n\0"


cdef class CopiedRows(Result):
    """Rows of ``COPY ... TO STDOUT (FORMAT binary)``, which owns a copy of them."""

    cdef uint8_t *data
    cdef size_t used, room
    cdef Cell *cells

    def __cinit__(self, int fields):
        self.fields = fields
        self.cells = <Cell *>malloc(<size_t>ROWS_OF_COPY * max(fields, 1) * sizeof(Cell))
        if self.cells is NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.cells)
        free(self.data)

    cdef const uint8_t *at(self, int row, int column) noexcept nogil:
        return self.data + self.cells[<size_t>row * self.fields + column].start

    cdef int size(self, int row, int column) noexcept nogil:
        return self.cells[<size_t>row * self.fields + column].size

    cdef int gather(self, PGconn *conn, Stream *stream) noexcept nogil:
        """Take the rows that have come, and return a :type:`Gathered`."""
        cdef char *message
        cdef int size, status
        while self.rows < ROWS_OF_COPY and self.used < BYTES_OF_COPY:
            size = pq.get_copy_data(conn, &message, 1)
            if size <= 0:  # 0, -1 and -2 are those of PQgetCopyData
                return size
            status = self.add(<const uint8_t *>message, size, stream)
            pq.freemem(message)
            if status < 0:
                return status
        return FULL

    cdef int add(self, const uint8_t *at, size_t size, Stream *stream) noexcept nogil:
        """Take a message: a row, after the header in the first one, or the trailer."""
        cdef const uint8_t *end = at + size
        cdef const uint8_t *start
        cdef Cell *cell
        cdef size_t room = self.room
        cdef uint8_t *data
        cdef int32_t length
        cdef int i, count
        if not stream.begun:
            if size < 19 or memcmp(at, SIGNATURE, 11) or _big_endian(at + 11):
                return MALFORMED
            if _big_endian(at + 15) > size - 19:
                return MALFORMED
            at += 19 + _big_endian(at + 15)
            stream.begun = True
            if at == end:
                return 0
        if stream.ended or end - at < 2:
            return MALFORMED
        count = <int16_t>(<uint16_t>at[0] << 8 | at[1])
        at += 2
        if count == -1:
            stream.ended = True
            return 0 if at == end else MALFORMED
        if count != self.fields:
            return MALFORMED
        start = at
        cell = self.cells + <size_t>self.rows * self.fields
        for i in range(count):
            if end - at < 4:
                return MALFORMED
            length = <int32_t>_big_endian(at)
            at += 4
            if length < -1 or length > end - at:
                return MALFORMED
            cell[i].start, cell[i].size = <int32_t>(self.used + <size_t>(at - start)), length
            at += max(length, 0)
        if at != end:
            return MALFORMED
        size = <size_t>(end - start)
        if size > room - self.used:
            room = max(2 * room, self.used + size)
            data = <uint8_t *>realloc(self.data, room)
            if data is NULL:
                return NO_MEMORY
            self.data, self.room = data, room
        memcpy(self.data + self.used, start, size)
        self.used += size
        self.rows += 1
        return 0


cdef enum:
    ROWS_AT_A_TIME = 128

cdef packed struct _Numbers:  # how to read a column of numbers
    int64_t unit
    int64_t epoch
    int64_t first
    int64_t last
    int32_t column
    int32_t width
    int32_t form
    uint8_t kind

_NUMBERS = np.dtype([(name, "i8") for name in ("unit", "epoch", "first", "last")]
                    + [(name, "i4") for name in ("column", "width", "form")] + [("kind", "u1")])

cdef enum Form:
    BOOL, INT2, INT4, UINT4, INT8, FLOAT4, FLOAT8

_FORMS = {"?": BOOL, ">i2": INT2, ">i4": INT4, ">u4": UINT4, ">i8": INT8, ">f4": FLOAT4,
          ">f8": FLOAT8}


cdef inline int64_t _number(const uint8_t *at, Form form) noexcept nogil:
    """Return the number at ``at``, for a float the bits of a float64."""
    cdef uint32_t four
    cdef float single
    cdef double real
    cdef int64_t bits
    if form == INT8 or form == FLOAT8:
        return <int64_t>(<uint64_t>_big_endian(at) << 32 | _big_endian(at + 4))
    if form == INT4:
        return <int32_t>_big_endian(at)
    if form == FLOAT4:
        four = _big_endian(at)
        memcpy(&single, &four, 4)
        real = single
        memcpy(&bits, &real, 8)
        return bits
    if form == INT2:
        return <int16_t>(<uint16_t>at[0] << 8 | at[1])
    return at[0] != 0 if form == BOOL else _big_endian(at)


cdef inline uint32_t _big_endian(const uint8_t *at) noexcept nogil:
    return (<uint32_t>at[0] << 24) | (<uint32_t>at[1] << 16) | (<uint32_t>at[2] << 8) | at[3]


cdef class Session:
    """Queries on a psycopg2 connection, from one thread at a time; see the stub."""

    cdef PGconn *conn
    cdef object connection
    cdef int timeout_ms
    cdef readonly object timeout_s

    def __cinit__(self, connection, timeout_s):
        self.connection = connection  # owns the PGconn
        self.conn = <PGconn *><size_t>connection.pgconn_ptr
        self.timeout_s = timeout_s
        self.timeout_ms = <int>min(timeout_s * 1000, 2**31 - 1)
        pq.set_nonblocking(self.conn, 1)  # so that sending cannot block either

    def query(self, bytes sql, params=None, each=None):
        cdef PGresult *result
        cdef Result owner
        cdef int status
        if self.connection.closed:
            raise QueryError("the connection is closed", None, True)
        status = pq.send_query(self.conn, sql) if params is None else self._begin(sql, params)
        if not status:
            raise self._failure(None)
        self._send()
        results, error, received = [], None, 0
        while True:
            self._receive()
            result = pq.get_result(self.conn)
            if result is NULL:
                break
            owner = Result.__new__(Result)
            owner.own(result)
            received += 1
            status = pq.result_status(result)
            if status == FL_PGRES_TUPLES_OK:
                if each is None:
                    results.append(owner)
                else:
                    each(owner)
            elif status == FL_PGRES_COPY_OUT and each is not None:
                self._copy(owner.fields, each)
            elif status == FL_PGRES_FATAL_ERROR:
                error = error or owner
            elif status not in (FL_PGRES_COMMAND_OK, FL_PGRES_EMPTY_QUERY):
                raise QueryError(f"the server answered with status {status}", None, True)
            if received > MOST_RESULTS:
                raise QueryError("the server sent more results than were asked for", None, True)
        if error is not None:
            raise self._failure(error)
        return results

    cdef int _begin(self, bytes sql, list params) except -1:
        """Begin to send a statement with parameters. Returns 0 if that failed."""
        cdef unsigned int types[MOST_PARAMS]
        cdef const char *values[MOST_PARAMS]
        cdef int i
        if len(params) > MOST_PARAMS:
            raise QueryError(f"a statement has at most {MOST_PARAMS} parameters", None, False)
        for i, (oid, value) in enumerate(params):
            types[i] = oid
            values[i] = NULL
            if value is not None:
                values[i] = <bytes>value
        # libpq copies them. Without formats they are text, and so is the result.
        return pq.send_query_params(self.conn, sql, len(params), types, values, NULL, NULL, 0)

    cdef int _send(self) except -1:
        """Send the query. Reads meanwhile, or a server that sends could block both sides."""
        cdef int left
        while True:
            with nogil:
                left = pq.flush(self.conn)
            if left == 0:
                return 0
            if left < 0:
                raise self._failure(None)
            self._wait(POLLIN | POLLOUT)
            if not pq.consume_input(self.conn):
                raise self._failure(None)

    cdef int _copy(self, int fields, each) except -1:
        """Call ``each`` with the rows of a COPY, some of them at a time."""
        cdef Stream stream = Stream(False, False)
        cdef CopiedRows rows = CopiedRows(fields)
        cdef int status = FULL, alive
        while status >= MORE_TO_COME:
            with nogil:
                status = rows.gather(self.conn, &stream)
            if rows.rows and status in (FULL, ENDED):
                each(rows)
                rows = CopiedRows(fields)
            elif status == MORE_TO_COME:
                self._wait(POLLIN)
                with nogil:
                    alive = pq.consume_input(self.conn)
                if not alive:
                    raise self._failure(None)
        if status == MALFORMED:
            raise SourceError("the server sent something else than rows of a COPY; it is not "
                              "PostgreSQL, or a proxy changes what it sends")
        if status == NO_MEMORY:
            raise MemoryError
        if status == FAILED:
            raise self._failure(None)
        return 0

    cdef int _receive(self) except -1:
        """Wait until a result can be read without waiting."""
        cdef int alive = 1
        while True:
            with nogil:
                alive = not pq.is_busy(self.conn)
            if alive:
                return 0
            self._wait(POLLIN)
            with nogil:
                alive = pq.consume_input(self.conn)
            if not alive:
                raise self._failure(None)

    cdef int _wait(self, short events) except -1:
        """Wait for the socket. Raises QueryError after ``timeout_s`` of silence."""
        cdef pollfd waiting
        cdef int ready
        waiting.fd = pq.socket(self.conn)
        waiting.events = events
        with nogil:
            ready = poll(&waiting, 1, self.timeout_ms)
        if ready == 0:
            raise QueryError(f"not a byte has come for {self.timeout_s:g} s", None, True)
        if ready < 0:
            PyErr_CheckSignals()  # poll was interrupted by a signal; Ctrl-C raises here
        return 0

    cdef object _failure(self, Result result):
        """Return the error for a failed result, or for the connection if it is None."""
        lost = pq.status(self.conn) != FL_CONNECTION_OK
        if result is None:
            message, sqlstate = _text(pq.error_message(self.conn)), None
            return QueryError(message or "the connection is lost", None, True)
        sqlstate = _text(pq.result_error_field(result.result, FL_DIAG_SQLSTATE)) or None
        parts = [_text(pq.result_error_field(result.result, field))
                 for field in (FL_DIAG_PRIMARY, FL_DIAG_DETAIL, FL_DIAG_HINT)]
        message = ". ".join(part.rstrip(".") for part in parts if part)
        message = message or _text(pq.result_error_message(result.result))
        return QueryError(message, sqlstate, lost)

    def __repr__(self):
        return f"<Session on {self.connection!r}>"


cdef str _text(const char *words):
    """Return a C string of libpq's as text, "" for NULL."""
    return "" if words is NULL else (<bytes>words).decode("utf-8", "replace").strip()
