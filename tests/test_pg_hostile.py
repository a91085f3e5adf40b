"""A server that does not keep to the rules: an error, and no more memory or time than agreed."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import psycopg2
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fastloader import PlanError, SourceError
from fastloader.fields.columns import Column
from fastloader.fields.value import Value
from fastloader.fields.values import INTEGER, NULL, REAL
from fastloader.options.config import make_config
from fastloader.source.opening import open_source
from fastloader.source.postgres._libpq import QueryError, Result, Session
from fastloader.source.postgres.label_types import LABELS, VECTORS
from fastloader.source.postgres.types import values_of

Answer = bytes | Callable[[str], bytes]


# ---- a server that says whatever it is told to ---------------------------------------------------


def message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack(">I", len(body) + 4) + body


def description(oids: Sequence[int], *, binary: bool = True) -> bytes:
    fields = b"".join(
        b"c\0" + struct.pack(">IHIhih", 0, 0, oid, -1, -1, int(binary)) for oid in oids
    )
    return message(b"T", struct.pack(">H", len(oids)) + fields)


def row(values: Sequence[bytes | None]) -> bytes:
    parts = [
        struct.pack(">i", -1) if value is None else struct.pack(">i", len(value)) + value
        for value in values
    ]
    return message(b"D", struct.pack(">H", len(values)) + b"".join(parts))


COMPLETE = message(b"C", b"FETCH 1\0")
READY = message(b"Z", b"I")


HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER = b"\xff\xff"


def copied(fields: int, messages: Sequence[bytes]) -> bytes:
    """Return the answer to a COPY of so many columns, in these messages."""
    begin = message(b"H", struct.pack(f">bh{fields}h", 1, fields, *[1] * fields))
    data = b"".join(message(b"d", its) for its in messages)
    return begin + data + message(b"c", b"") + message(b"C", b"COPY 1\0") + READY


def copied_rows(fields: int, rows: Sequence[Sequence[bytes | None]]) -> bytes:
    """Return the answer to a COPY as PostgreSQL sends it: the header is before the first row."""
    messages = [row(its)[5:] for its in rows] + [TRAILER]
    return copied(fields, [HEADER + messages[0], *messages[1:]])


def answer(oids: Sequence[int], rows: Sequence[Sequence[bytes | None]], **how: bool) -> bytes:
    return description(oids, **how) + b"".join(map(row, rows)) + COMPLETE + READY


@contextlib.contextmanager
def hostile(answers: Answer) -> Iterator[str]:
    """Yield the DSN of a server that answers every query with these bytes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    with client, client.makefile("rb") as incoming, contextlib.suppress(OSError):
                        (size,) = struct.unpack(">I", incoming.read(4))
                        incoming.read(size - 4)
                        greeting = message(b"R", struct.pack(">I", 0))
                        for name, value in (
                            (b"server_version", b"18.0"), (b"client_encoding", b"UTF8"),
                            (b"DateStyle", b"ISO"), (b"standard_conforming_strings", b"on"),
                        ):  # fmt: skip
                            greeting += message(b"S", name + b"\0" + value + b"\0")
                        client.sendall(greeting + READY)
                        while (head := incoming.read(5)) and head[:1] != b"X":
                            sql = incoming.read(struct.unpack(">I", head[1:])[0] - 4)
                            text = sql.rstrip(b"\0").decode()
                            client.sendall(answers(text) if callable(answers) else answers)

        thread = threading.Thread(target=serve)
        thread.start()
        port = listener.getsockname()[1]
        try:
            yield f"host=127.0.0.1 port={port} user=u dbname=d sslmode=disable gssencmode=disable"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
    thread.join(60)
    assert not thread.is_alive()


@contextlib.contextmanager
def session(answers: Answer, timeout_s: float = 5.0) -> Iterator[Session]:
    with hostile(answers) as dsn, contextlib.closing(psycopg2.connect(dsn)) as connection:
        yield Session(connection, timeout_s)


# ---- results -------------------------------------------------------------------------------------


def test_an_honest_answer_is_understood() -> None:
    """Or the rest of these tests would prove nothing."""
    with session(answer([20, 17], [(struct.pack(">q", 5), b"abc"), (None, None)])) as s:
        (result,) = s.query(b"x")
    assert result.columns == [("c", 20), ("c", 17)]
    assert len(result) == 2
    assert result.value(0, 1) == b"abc"
    assert result.value(1, 1) is None
    data, sizes = result.raw(0, 8)
    assert (data.tolist(), sizes.tolist()) == ([[0] * 7 + [5], [0] * 8], [8, -1])
    assert result.blobs(1)[:, 1].tolist() == [3, -1]
    for wrong in (lambda: result.value(2, 0), lambda: result.value(0, 2), lambda: result.blobs(-1)):
        with pytest.raises(IndexError):
            wrong()


def test_text_where_binary_was_asked_for_is_refused() -> None:
    with session(answer([20], [(b"12345678",)], binary=False)) as s:
        (result,) = s.query(b"x")
    uses: list[Callable[[], Any]] = [lambda: result.raw(0, 8), lambda: result.blobs(0)]
    for use in (*uses, lambda: result.numbers([(0, ">i8", 1, 0)])):
        with pytest.raises(QueryError, match="text where binary was asked for"):
            use()


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        (message(b"G", b"\1\0\0") + READY, "answered with status"),  # COPY IN
        (message(b"H", b"\1\0\0"), "answered with status"),  # COPY OUT, of a query
        ((description([20]) + COMPLETE) * 100 + READY, "more results than were asked for"),
        (b"\0\0\0\0\0\0\0\0", None),
        (message(b"E", b"SFATAL\0C57P01\0Mgood bye\0\0"), "not a byte"),  # and does not go
        (message(b"E", b"Mno code\0\0") + READY, "no code"),
    ],
)
def test_answers_that_make_no_sense_end_the_query(answers: bytes, said: str | None) -> None:
    with session(answers, timeout_s=1.0) as s, pytest.raises(QueryError, match=said):
        s.query(b"x")


def copy(answers: bytes) -> list[Result]:
    """Return what the answer to a COPY is understood as."""
    parts: list[Result] = []
    with session(answers) as s:
        assert s.query(b"x", None, parts.append) == []
    return parts


def test_an_honest_copy_is_understood() -> None:
    rows = [(struct.pack(">q", 5), b"abc"), (None, None), (struct.pack(">q", 6), b"")]
    (result,) = copy(copied_rows(2, rows))
    assert (len(result), result.columns) == (3, [])
    assert [result.value(row, 1) for row in range(3)] == [b"abc", None, b""]
    data, sizes = result.raw(0, 8)
    assert data.tolist() == [[0] * 7 + [5], [0] * 8, [0] * 7 + [6]]
    assert sizes.tolist() == [8, -1, 8]
    assert result.blobs(1)[:, 1].tolist() == [3, -1, 0]
    kinds, numbers, _ = result.numbers([(0, ">i8", 1, 0)])
    assert (kinds.tolist(), numbers.tolist()) == ([[INTEGER, NULL, INTEGER]], [[5, 0, 6]])
    for wrong in (lambda: result.value(3, 0), lambda: result.value(0, 2), lambda: result.blobs(-1)):
        with pytest.raises(IndexError):
            wrong()


def test_a_copy_without_rows_has_none() -> None:
    assert copy(copied_rows(2, [])) == []


def test_the_rows_of_a_copy_come_in_parts_that_outlive_the_connection() -> None:
    rows = [(struct.pack(">q", n),) for n in range(5000)]
    parts = copy(copied_rows(1, rows))
    assert [len(part) for part in parts] == [2048, 2048, 904]
    found = np.concatenate([part.numbers([(0, ">i8", 1, 0)])[1][0] for part in parts])
    assert found.tolist() == list(range(5000))


def test_large_rows_of_a_copy_come_one_by_one() -> None:
    parts = copy(copied_rows(1, [(bytes([n]) * 3_000_000,) for n in range(3)]))
    assert [part.value(0, 0) for part in parts] == [bytes([n]) * 3_000_000 for n in range(3)]


def test_an_extension_of_the_header_is_skipped() -> None:
    extended = HEADER[:15] + struct.pack(">I", 3) + b"abc"
    (result,) = copy(copied(1, [extended, row([b"x"])[5:], TRAILER]))
    assert result.value(0, 0) == b"x"


ONE = struct.pack(">hi", 1, 1) + b"x"


@pytest.mark.parametrize(
    "messages",
    [
        [HEADER[:18]],
        [b"PGCOPY\n\xff\r\n\1" + bytes(8) + ONE],
        [HEADER[:11] + struct.pack(">II", 1 << 16, 0) + ONE],  # the rows have OIDs
        [HEADER[:15] + struct.pack(">I", 8) + ONE],
        [HEADER[:15] + struct.pack(">I", 2**32 - 1) + ONE],
        [HEADER + b"\0"],
        [HEADER + struct.pack(">h", 0)],
        [HEADER + struct.pack(">h", 2) + ONE[2:] * 2],
        [HEADER + struct.pack(">h", -2)],
        [HEADER + struct.pack(">h", 1) + b"\0\0\0"],
        [HEADER + struct.pack(">hi", 1, 2) + b"x"],
        [HEADER + struct.pack(">hi", 1, 2**31 - 1) + b"x"],
        [HEADER + struct.pack(">hi", 1, -2) + b"x"],
        [HEADER + ONE + b"y"],
        [HEADER + ONE, TRAILER, ONE],
        [HEADER + ONE, TRAILER, TRAILER],
        [HEADER + ONE, TRAILER + b"\0"],
    ],
)
def test_a_copy_that_makes_no_sense_ends_the_query(messages: list[bytes]) -> None:
    with pytest.raises(SourceError, match="something else than rows of a COPY"):
        copy(copied(1, messages))


@given(
    rows=st.lists(st.lists(st.none() | st.binary(max_size=9), min_size=3, max_size=3), max_size=4),
    at=st.integers(0, 300),
    byte=st.integers(0, 255),
    cut=st.integers(0, 20),
)
@settings(max_examples=60, deadline=None)
def test_no_byte_of_a_copy_is_read_beyond_its_message(
    rows: list[list[bytes | None]], at: int, byte: int, cut: int
) -> None:
    """Rows that are understood have values of the size that they say. Sanitizers see the rest."""
    messages = [bytearray(row(its)[5:]) for its in rows] + [bytearray(TRAILER)]
    messages[0][:0] = HEADER
    for its in messages:
        if at < len(its):
            its[at] = byte
        del its[len(its) - min(cut, at % len(its)) :]
    with contextlib.suppress(SourceError):
        for part in copy(copied(3, [bytes(its) for its in messages])):
            sizes = [part.blobs(column)[:, 1].tolist() for column in range(3)]
            for i in range(len(part)):
                values = [part.value(i, column) for column in range(3)]
                assert [its[i] for its in sizes] == [-1 if v is None else len(v) for v in values]


def test_an_error_in_the_middle_of_a_copy_is_the_servers() -> None:
    failed = message(b"E", b"SERROR\0C57014\0Mcanceling statement\0\0")
    begin = copied(1, [HEADER + ONE]).split(message(b"c", b""))[0]
    with session(begin + failed + READY) as s:
        with pytest.raises(QueryError, match="canceling statement") as caught:
            s.query(b"x", None, lambda _: None)
        assert (caught.value.sqlstate, caught.value.lost) == ("57014", False)


def test_a_server_that_stops_in_the_middle_of_a_copy_is_given_up() -> None:
    begin = copied(1, [HEADER + ONE]).split(message(b"c", b""))[0]
    with (
        session(begin, timeout_s=0.3) as s,
        pytest.raises(QueryError, match="not a byte has come for"),
    ):
        s.query(b"x", None, print)


def test_a_server_that_stops_in_the_middle_of_a_row_is_given_up() -> None:
    whole = answer([17], [(bytes(1000),)])
    with session(whole[:500], timeout_s=0.3) as s:
        with pytest.raises(QueryError, match="not a byte has come for 0.3 s") as caught:
            s.query(b"x")
        assert caught.value.lost


# ---- numbers -------------------------------------------------------------------------------------


def numbers(oid: int, blobs: list[bytes | None]) -> tuple[list[int], list[int], list[int]]:
    """Return kinds and numbers, and the rows with times that are too far away."""
    with session(answer([oid], [(blob,) for blob in blobs])) as s:
        (result,) = s.query(b"x")
    kind = LABELS[oid]
    kinds, found, far = result.numbers([(0, kind.wire, kind.unit, kind.epoch)])
    assert (kinds.dtype, found.dtype) == (np.uint8, np.int64)
    return kinds[0].tolist(), found[0].tolist(), [row for _, row in far]


@pytest.mark.parametrize(
    ("oid", "form", "given"),
    [
        (16, ">?", [True, False]),
        (21, ">h", [-(2**15), -1, 0, 258, 2**15 - 1]),
        (23, ">i", [-(2**31), -1, 0, 16909060, 2**31 - 1]),
        (20, ">q", [-(2**63), -1, 0, 72623859790382856, 2**63 - 1]),
        (700, ">f", [-1.5, 0.0, float("inf"), 2.0**-149]),
        (701, ">d", [-1e300, 0.1, float("-inf"), 5e-324]),
    ],
)
def test_numbers_are_told_from_null_in_every_type(oid: int, form: str, given: list[Any]) -> None:
    kinds, found, far = numbers(oid, [None, *(struct.pack(form, value) for value in given), None])
    kind = REAL if isinstance(given[0], float) else INTEGER
    assert kinds == [NULL, *[kind] * len(given), NULL]
    expected = np.array([0, *given, 0], np.float64 if kind == REAL else np.int64)
    assert found == expected.view(np.int64).tolist()
    assert far == []


@pytest.mark.parametrize(("oid", "form"), [(1082, ">i"), (1114, ">q"), (1184, ">q")])
def test_infinite_times_are_none_and_any_others_are_exact_or_too_far(oid: int, form: str) -> None:
    bits = 8 * struct.calcsize(form)
    unit, epoch = LABELS[oid].unit, LABELS[oid].epoch
    last = (2**63 - 1) // unit - epoch
    first = max(-(2**63 // unit) - epoch, 1 - 2 ** (bits - 1))  # days do not reach far enough back
    given = [-(2 ** (bits - 1)), first, 0, last, last + 1, 2 ** (bits - 1) - 1]
    kinds, found, far = numbers(oid, [struct.pack(form, value) for value in given])
    assert kinds == [NULL, INTEGER, INTEGER, INTEGER, NULL, NULL]
    assert found[1:4] == [(value + epoch) * unit for value in given[1:4]]
    assert far == [0, 4, 5]


def test_columns_of_numbers_are_read_together_and_each_for_itself() -> None:
    rows = [(struct.pack(">i", n) if n % 3 else None, struct.pack(">q", -n), struct.pack(">d", n))
            for n in range(1000)]  # fmt: skip
    with session(answer([23, 20, 701], rows)) as s:
        (result,) = s.query(b"x")
    wires = [(2, ">f8", 1, 0), (0, ">i4", 1, 0), (1, ">i8", 1, 0)]
    kinds, found, _ = result.numbers(wires)
    assert found[0].view(np.float64).tolist() == list(range(1000))
    assert found[1].tolist() == [n if n % 3 else 0 for n in range(1000)]
    assert found[2].tolist() == [-n for n in range(1000)]
    assert kinds[1].tolist() == [INTEGER if n % 3 else NULL for n in range(1000)]
    with pytest.raises(SourceError, match="a value of 8 bytes for a type of 4 bytes"):
        result.numbers([(0, ">i4", 1, 0), (1, ">i4", 1, 0)])
    kinds, found, _ = result.numbers([])
    assert (kinds.shape, found.shape) == ((0, 1000), (0, 1000))


# ---- arrays --------------------------------------------------------------------------------------


def encoded(values: Sequence[int | None], *, lower: int = 1, element: int = 23) -> bytes:
    parts = [
        struct.pack(">i", -1) if value is None else struct.pack(">ii", 4, value) for value in values
    ]
    if not values:
        return struct.pack(">iiI", 0, 0, element)
    return struct.pack(">iiIii", 1, None in values, element, len(values), lower) + b"".join(parts)


def arrays(blobs: list[bytes], *shape: int) -> tuple[list[Any], dict[int, str]]:
    """Return the arrays that were read, and what the other rows hold."""
    column = Column("v", "int32", shape)
    with session(answer([1007], [(blob,) for blob in blobs])) as s:
        (result,) = s.query(b"x")
    found, bad = values_of(result, 0, [column], {"v": LABELS[1007]})
    given = found["v"]
    assert bad == {}
    target = np.zeros((len(blobs), *shape), np.int32)
    reasons = Value(column.name).store(column, given, target, 0)
    what = {
        row: reason.removeprefix("column 'v' holds ").split(", an array of ")[0]
        for row, reason in reasons.items()
    }
    return [target[row].tolist() for row in range(len(blobs)) if row not in what], what


def of_shape(*shape: int) -> bytes:
    """Return an array with the elements 0, 1, and so on, as the server sends it."""
    flat = encoded(range(int(np.prod(shape))))[20:]
    sizes = b"".join(struct.pack(">ii", size, 1) for size in shape)
    return struct.pack(">iiI", len(shape), 0, 23) + sizes + flat


def test_arrays_have_one_shape() -> None:
    shapes = [(2, 3), (3, 2), (6,), (2, 3, 1), (1, 2, 3), (2, 3), (2, 2), (1, 1, 1, 1, 2, 3)]
    data, bad = arrays([of_shape(*shape) for shape in shapes], 2, 3)
    assert data == [[[0, 1, 2], [3, 4, 5]]] * 2
    assert bad == {
        row: f"an array of {' x '.join(map(str, shape))}"
        for row, shape in enumerate(shapes)
        if shape != (2, 3)
    }
    assert arrays([of_shape(1, 2, 1, 1, 2, 1)], 1, 2, 1, 1, 2, 1)[1] == {}
    assert arrays([encoded([]), encoded([1])], 0) == ([[]], {1: "an array of 1"})


def test_arrays_are_read_and_told_apart() -> None:
    blobs = [
        encoded([1, -2]),
        encoded([3]),
        encoded([]),
        encoded([1, None]),
        encoded([7, 8], lower=0),
    ]
    data, bad = arrays(blobs, 2)
    assert data == [[1, -2], [7, 8]]
    assert bad == {1: "an array of 1", 2: "an array of 0", 3: "an array with a NULL in it"}


@pytest.mark.parametrize(
    "blob",
    [
        b"",
        b"\0" * 11,
        encoded([1, 2])[:-1],
        encoded([1, 2]) + b"\0",
        encoded([1, 2], element=25),
        struct.pack(">iiI", -1, 0, 23),
        struct.pack(">iiI", 7, 0, 23) + bytes(56),
        struct.pack(">iiI", 1, 0, 23),
        struct.pack(">iiIii", 1, 0, 23, -1, 1),
        struct.pack(">iiIiiii", 2, 0, 23, 2**31 - 1, 1, 2**31 - 1, 1),
        struct.pack(">iiIiiii", 2, 0, 23, 65536, 1, 65536, 1) + bytes(16),
        struct.pack(">iiIiiii", 2, 0, 23, 2**30, 1, -(2**31), 1),  # 2**61 elements of 8 bytes
        struct.pack(">iiIii", 1, 0, 23, 2, 1) + struct.pack(">iiii", 8, 0, 0, 0),
        # Over 1 KB libpq gives a value memory of its own, at whose end a sanitizer watches.
        encoded(range(400))[:-3],
        struct.pack(">iiIii", 1, 0, 23, 400, 1) + encoded(range(300))[20:],
        struct.pack(">iiIii", 1, 0, 23, 2, 1) + struct.pack(">iiii", 4, 0, -1, 0),
    ],
)
def test_an_array_that_makes_no_sense_is_a_bad_row(blob: bytes) -> None:
    data, bad = arrays([encoded([5, 6]), blob, encoded([7, 8])], 2)
    assert bad == {1: "a malformed array"}
    assert data == [[5, 6], [7, 8]]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(max_size=60), min_size=1, max_size=40), st.integers(0, 4))
@example([encoded([1, 2]), encoded([1, 2])[:20]], 2)
def test_no_bytes_of_an_array_are_read_beyond_its_end(blobs: list[bytes], count: int) -> None:
    mutated = blobs + [encoded([1, 2])[: len(b)] + b for b in blobs]
    data, bad = arrays(mutated, count)
    assert len(data) + len(bad) == len(mutated)


VECTORS_OID = 16_385


@pytest.mark.parametrize(("kind", "form"), [("vector", ">f4"), ("halfvec", ">f2")])
def test_vectors_are_read_and_told_apart(kind: str, form: str) -> None:
    def vector(*elements: float, count: int | None = None) -> bytes:
        count = len(elements) if count is None else count
        return struct.pack(">HH", count, 0) + np.array(elements, form).tobytes()

    blobs = [vector(1, -2.5, 0), vector(1, 2), vector(), vector(1, 2, count=3), b"", b"\0\3\0",
             vector(1, 2, 3) + b"\0", vector(*range(1000)), vector(1, 2, 3, count=65_535),
             vector(float("inf"), 2.0**-14, -0.0)]  # fmt: skip
    with session(answer([VECTORS_OID], [(blob,) for blob in [*blobs, None]])) as s:
        (result,) = s.query(b"x")
    column = Column("v", VECTORS[kind].dtype, (3,))
    found, _ = values_of(result, 0, [column], {"v": VECTORS[kind]})
    given = found["v"]
    target = np.zeros((len(given), 3), column.dtype)
    bad = Value(column.name).store(column, given, target, 0)
    assert {row: reason.split(", an array of ")[0][16:] for row, reason in bad.items()} == {
        1: " an array of 2", 2: " an array of 0", 7: " an array of 1000", 10: " NULL",
        **dict.fromkeys((3, 4, 5, 6, 8), " a malformed array"),
    }  # fmt: skip
    assert bad[10].endswith(f"an array of 3 x {column.dtype} is needed")
    assert target[[0, 9]].tolist() == [[1, -2.5, 0], [float("inf"), 2.0**-14, -0.0]]


@pytest.mark.parametrize("oid", [16, 21, 23, 20, 700, 701, 1082, 1114, 1184])
@pytest.mark.parametrize("size", [0, 3, 5, 9, 10_000_000])
def test_a_value_of_another_width_is_refused(oid: int, size: int) -> None:
    with session(answer([oid], [(bytes(size),)])) as s:
        (result,) = s.query(b"x")
    with pytest.raises(SourceError, match="it is not PostgreSQL"):
        values_of(result, 0, [Column("v", LABELS[oid].dtype)], {"v": LABELS[oid]})


# ---- the source ----------------------------------------------------------------------------------


def big_endian(number: int) -> bytes:
    return struct.pack(">q", number)


def reading(*results: list[tuple[bytes | None, ...]], key: int = 20, limit: int = 16) -> Any:
    """Read ranges from a server that answers a FETCH with these results; ``key`` is an OID."""

    def answers(sql: str) -> bytes:
        if "LIMIT 0" in sql:
            return columns_of(id=key, image_data=17, label=20)
        if "FETCH" in sql:
            one = (answer([20, key, 23, 17, 20], its)[: -len(READY)] for its in results)
            return b"".join(one) + READY
        return COMPLETE + READY

    with hostile(answers) as dsn:
        source = open_source(make_config({"url": dsn, "stall_timeout_s": 2}, {}))
        with contextlib.closing(source):
            source._fetch_rows = limit  # type: ignore[attr-defined]
            ranges = [("a", "e"), ("f", "z")] if key != 20 else [(1, 5), (6, 9)]
            return list(source.read(ranges, (Column("label", "int64"),)))


def copying(rows: list[tuple[bytes | None, ...]], limit: int = 10_000) -> Any:
    """Read ranges of a table without images from a server that answers COPY with these rows."""

    def answers(sql: str) -> bytes:
        if "LIMIT 0" in sql:
            return columns_of(id=20, label=20)
        if sql.startswith("EXPLAIN"):
            plan = b'[{"Plan": {"Relation Name": "t", "Index Cond": "(id >= fl.lo)"}}]'
            return answer([114], [(plan,)], binary=False)
        if "COPY" in sql:
            return copied_rows(3, rows)
        return COMPLETE + READY

    options = {"table": "t", "image": None, "label": ["label"], "stall_timeout_s": 2}
    with hostile(answers) as dsn:
        source = open_source(make_config({"url": dsn, **options}, {}))
        with contextlib.closing(source):
            source._fetch_rows = limit  # type: ignore[attr-defined]
            return list(source.read([(1, 5), (6, 9)], (Column("label", "int64"),)))


def columns_of(**oids: int) -> bytes:
    """Return the answer to a SELECT without rows."""
    fields = b"".join(
        name.encode() + b"\0" + struct.pack(">IHIhih", 0, 0, oid, -1, -1, 1)
        for name, oid in oids.items()
    )
    return message(b"T", struct.pack(">H", len(oids)) + fields) + COMPLETE + READY


def test_an_honest_chunk_is_understood() -> None:
    rows = [(big_endian(n), big_endian(n), b"\0\0\0\1", b"x", big_endian(7)) for n in (1, 2)]
    (chunk,) = reading(rows)
    assert chunk.keys.tolist() == [1, 2]
    assert chunk.ranges.tolist() == [0, 1]
    assert chunk.columns["label"].numbers.tolist() == [7, 7]


@pytest.mark.parametrize("numbers", [(0,), (2, 1), (3,), (-5,), (2**63 - 1,)])
def test_rows_of_other_ranges_than_were_asked_for_are_refused(numbers: tuple[int, ...]) -> None:
    rows = [(big_endian(n), big_endian(1), None, b"x", big_endian(7)) for n in numbers]
    with pytest.raises(SourceError, match="rows in another order than that of the ranges"):
        reading(rows)


@pytest.mark.parametrize("key", [20, 25, 2950])
def test_a_key_that_is_null_in_a_row_is_refused(key: int) -> None:
    with pytest.raises(SourceError, match="NULL where there can be none"):
        reading([(big_endian(1), None, None, b"x", big_endian(7))], key=key)


def test_a_key_that_is_too_long_is_refused() -> None:
    with pytest.raises(PlanError, match="a key has 1025 bytes"):
        reading([(big_endian(1), b"k" * 1025, None, b"x", big_endian(7))], key=25)


def test_more_rows_than_were_asked_for_are_refused() -> None:
    rows = [(big_endian(1), big_endian(1), None, b"x", big_endian(7))] * 17
    with pytest.raises(SourceError, match="17 rows where 16 were asked for"):
        reading(rows)


def in_range(number: int, key: int) -> tuple[bytes, ...]:
    return (big_endian(number), big_endian(key), big_endian(7))


@pytest.mark.parametrize("results", [0, 2])
def test_a_fetch_has_one_result(results: int) -> None:
    rows = [(big_endian(1), big_endian(1), b"\0\0\0\1", b"x", big_endian(7))]
    with pytest.raises(SourceError, match=f"sent {results} results where 1 was asked for"):
        reading(*[rows] * results)


def test_the_parts_of_a_copy_are_chunks_in_their_order() -> None:
    first, second = copying([in_range(1, 1)] * 2048 + [in_range(1, 2), in_range(2, 6)])
    assert (len(first.keys), second.keys.tolist(), second.ranges.tolist()) == (2048, [2, 6], [0, 1])


@pytest.mark.parametrize(
    ("rows", "limit", "said"),
    [
        ([in_range(2, 6)] * 2048 + [in_range(1, 1)], 10_000, "another order than that of the rang"),
        ([in_range(1, 1)] * 17, 16, "17 rows where 16 were asked for"),
        ([in_range(1, 1)] * 2050, 2049, "2 rows where 1 were asked for"),
        ([in_range(1, 1)[:2]], 16, "something else than rows of a COPY"),
    ],
)
def test_other_rows_than_those_of_the_copy_are_refused(
    rows: list[Any], limit: int, said: str
) -> None:
    with pytest.raises(SourceError, match=said):
        copying(rows, limit)


def test_a_result_outlives_its_connection() -> None:
    with session(answer([17], [(b"abc",)])) as s:
        (result,) = s.query(b"x")
    assert isinstance(result, Result)
    del s
    assert result.value(0, 0) == b"abc"
