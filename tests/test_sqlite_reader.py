"""The reader through SQLite's C API, checked against Python's sqlite3."""

from __future__ import annotations

import contextlib
import gc
import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastloader.fields.values import TOO_LARGE
from fastloader.source.sqlite._sqlite import (
    MISUSE,
    Database,
    Reader,
    Rows,
    SQLiteError,
    padded,
    version,
)

from .support import wait_until
from .tiers import full

CORRUPT, INTERRUPT, BUSY, NOTADB, IOERR = 11, 9, 5, 26, 10
WIDTH = 4
ALL = 1 << 40


def uri(path: Path) -> str:
    return f"file://{quote(str(path))}?mode=ro"


@contextlib.contextmanager
def opened(path: Path, busy_timeout_s: float = 30.0) -> Iterator[Database]:
    database = Database(uri(path), busy_timeout_s)
    try:
        yield database
    finally:
        database.close()


def made(path: Path, rows: list[tuple[Any, ...]], *, encoding: str = "UTF-8") -> Path:
    path.unlink(missing_ok=True)
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"PRAGMA encoding = '{encoding}'")
        columns = ", ".join(f"c{i}" for i in range(WIDTH))
        connection.execute(f"CREATE TABLE t (id INTEGER PRIMARY KEY, {columns})")
        marks = ", ".join("?" * (WIDTH + 1))
        connection.executemany(f"INSERT INTO t VALUES ({marks})", rows)
    return path


COLUMNS = ", ".join(["id", *(f"c{i}" for i in range(WIDTH))])
SQL = f"SELECT {COLUMNS} FROM t WHERE id BETWEEN ? AND ? ORDER BY id"
REST = f"SELECT {COLUMNS} FROM t WHERE id > ? AND id <= ? ORDER BY id"


def contents(rows: Rows) -> list[tuple[Any, ...]]:
    columns = rows.columns
    return [tuple(column.value(i) for column in columns) for i in range(len(rows))]


def read_all(
    reader: Reader, ranges: list[tuple[int, int]], most_bytes: int
) -> list[tuple[int, tuple[Any, ...]]]:
    """Return (number of the range, row) of all rows, read in chunks."""
    found: list[tuple[int, tuple[Any, ...]]] = []
    number, rest = 0, False
    while ranges:
        rows = reader.read(list(ranges), most_bytes=most_bytes, rest=rest, number=number)
        found += zip(rows.ranges.tolist(), contents(rows), strict=True)
        ranges, number, rest = ranges[rows.done :], number + rows.done, rows.is_cut
        if rest:
            ranges[0] = (int(rows.columns[0].numbers[-1]), ranges[0][1])
    return found


VALUES = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    st.binary(max_size=20),
    st.sampled_from([b"", "", b"x" * 20_000, "ä" * 40_000, b"\0", "a\0b", 0.0, -0.0]),
)
KEYS = st.integers(-5, 40)


@given(
    rows=st.dictionaries(KEYS, st.tuples(*[VALUES] * WIDTH), max_size=30),
    ranges=st.lists(st.tuples(KEYS, KEYS), max_size=12),
    most_bytes=st.sampled_from([1, 100, 5000, 1 << 20]),
    encoding=st.sampled_from(["UTF-8", "UTF-16le"]),
)
def test_rows_are_those_of_pythons_sqlite3(
    tmp_path_factory: pytest.TempPathFactory,
    rows: dict[int, tuple[Any, ...]],
    ranges: list[tuple[int, int]],
    most_bytes: int,
    encoding: str,
) -> None:
    path = tmp_path_factory.getbasetemp() / "conformance.db"
    made(path, [(key, *values) for key, values in rows.items()], encoding=encoding)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        expected = [
            (number, row)
            for number, ends in enumerate(ranges)
            for row in connection.execute(SQL, ends).fetchall()
        ]
        scanned = connection.execute("SELECT * FROM t").fetchall()
    with opened(path) as database:
        found = read_all(Reader(database, SQL, [None] * 5, REST), ranges, most_bytes)
        assert repr(found) == repr(expected)  # which tells 1 from 1.0 and -0.0 from 0.0
        assert repr(database.execute("SELECT * FROM t")) == repr(scanned)


def test_bytes_of_text_that_are_not_utf8_stay_as_they_are(tmp_path: Path) -> None:
    path = made(tmp_path / "t.db", [(1, *[None] * 4)])
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE t SET c0 = CAST(x'61ff62' AS TEXT)")
    with opened(path) as database:
        ((_, text, *_),) = contents(Reader(database, SQL, [None] * 5).read([(1, 1)], most_bytes=1))
        assert text == "a\udcffb"
        assert database.execute("SELECT c0, c0 = ? FROM t", (text,)) == [(text, 1)]


def test_parameters_of_each_type_are_bound(tmp_path: Path) -> None:
    path = made(tmp_path / "t.db", [])
    values = (None, 1, -(2**63), 2.5, "a\0ä", "", b"", b"\0x")
    with opened(path) as database:
        sql = f"SELECT {', '.join('?' * len(values))}"
        assert database.execute(sql, values) == [values]
        with pytest.raises(SQLiteError, match="has 1 parameters, and 2 were given") as caught:
            database.execute("SELECT ?", (1, 2))
        assert caught.value.code == MISUSE
        with pytest.raises(OverflowError):
            database.execute("SELECT ?", (2**63,))


@pytest.mark.parametrize("sql", ["SELECT 1; SELECT 2", "SELECT 1; x", "", "-- x", "SELECT '\0'"])
def test_what_is_not_one_statement_is_refused(tmp_path: Path, sql: str) -> None:
    with opened(made(tmp_path / "t.db", [])) as database:
        with pytest.raises(SQLiteError, match="one statement|NUL") as caught:
            database.execute(sql)
        assert caught.value.code == MISUSE
        assert database.execute("SELECT 1;") == [(1,)]


def test_text_and_blob_keys_are_bound_in_ranges(tmp_path: Path) -> None:
    path = made(tmp_path / "t.db", [(1, "ä", 0, 0, 0), (2, "b", 0, 0, 0), (3, b"c", 0, 0, 0)])
    with opened(path) as database:
        reader = Reader(database, "SELECT id FROM t WHERE c0 BETWEEN ? AND ?", [None])
        rows = reader.read([("ä", "ä"), (b"a", b"z"), ("b", "c")], most_bytes=ALL)
        assert contents(rows) == [(1,), (3,), (2,)]
        assert rows.ranges.tolist() == [0, 1, 2]
        with pytest.raises(SQLiteError, match="has 2 parameters for a range, and 1 were given"):
            reader.read([("a",)], most_bytes=1)


# ---- limits --------------------------------------------------------------------------------------

LIMITED = (
    "SELECT id, CASE WHEN length(c0) <= ? THEN c0 END, c1, length(c0) "
    "FROM t WHERE id BETWEEN ? AND ? ORDER BY id"
)


def test_a_value_over_the_limit_stays_in_the_database(tmp_path: Path) -> None:
    values = [b"x" * 1000, b"x" * 1001, "ä" * 1000, None, 7, b"", b"x" * 5_000_000]
    path = made(tmp_path / "t.db", [(i, v, "l", 0, 0) for i, v in enumerate(values)])
    with opened(path) as database:
        rows = Reader(database, LIMITED, [None, 1000, None]).read([(0, 99)], most_bytes=ALL)
        _, column, other = rows.columns
        assert column.kinds.tolist() == [4, TOO_LARGE, TOO_LARGE, 0, 1, 4, TOO_LARGE]
        assert column.blobs[:, 1].tolist() == [1000, 1001, 2000, 0, 0, 0, 5_000_000]
        assert [other.value(i) for i in range(7)] == ["l"] * 7
        assert column.nbytes + other.nbytes < 2000  # no copy of the others


def test_columns_and_parameters_have_to_agree(tmp_path: Path) -> None:
    with opened(made(tmp_path / "t.db", [])) as database:
        for sql, limits in ((SQL, [None] * 4), ("SELECT 1, 2", [5]), ("SELECT 1, ?", [None])):
            with pytest.raises(SQLiteError, match="other columns or parameters"):
                Reader(database, sql, limits)
        with pytest.raises(SQLiteError, match="other parameters"):
            Reader(database, SQL, [None] * 5, f"SELECT {COLUMNS} FROM t")
        reader = Reader(database, SQL, [None] * 5)
        with pytest.raises(SQLiteError, match="no statement for the rest"):
            reader.read([(1, 2)], most_bytes=1, rest=True)


def test_padded_copies_have_one_width(tmp_path: Path) -> None:
    path = made(tmp_path / "t.db", [(i, "x" * i, 0, 0, 0) for i in range(5)])
    with opened(path) as database:
        rows = Reader(database, SQL, [None] * 5).read([(0, 9)], most_bytes=ALL)
        copies = padded(rows.columns[1].blobs, 3)
        assert copies.view("S3").ravel().tolist() == [b"", b"x", b"xx", b"xxx", b""]


# ---- lifetimes -----------------------------------------------------------------------------------


def test_values_live_longer_than_all_else(tmp_path: Path) -> None:
    path = made(tmp_path / "t.db", [(i, b"%d" % i * 3000, i, 0.5, "t") for i in range(100)])
    with opened(path) as database:
        rows = Reader(database, SQL, [None] * 5).read([(0, 99)], most_bytes=ALL)
        ranges, column = rows.ranges, rows.columns[1]
    del rows, database
    gc.collect()
    assert ranges.tolist() == [0] * 100
    assert [column.value(i) for i in range(100)] == [b"%d" % i * 3000 for i in range(100)]


def test_a_closed_database_says_so(tmp_path: Path) -> None:
    database = Database(uri(made(tmp_path / "t.db", [(1, *[None] * 4)])), 30.0)
    reader = Reader(database, SQL, [None] * 5)
    other = Reader(database, SQL, [None] * 5)
    other.close()
    other.close()
    with pytest.raises(SQLiteError, match="the reader is closed"):
        other.read([(1, 1)], most_bytes=1)
    assert repr(database).endswith("open>")
    database.close()
    database.close()
    database.interrupt()
    reader.close()
    assert repr(database).endswith("closed>")
    assert database.closed
    for call in (
        lambda: database.execute("SELECT 1"),
        lambda: reader.read([(1, 1)], most_bytes=1),
        lambda: Reader(database, SQL, [None] * 5),
    ):
        with pytest.raises(SQLiteError, match="the database is closed"):
            call()


def test_closing_a_database_closes_its_file_whatever_still_refers_to_it(tmp_path: Path) -> None:
    path = made(tmp_path / "t.db", [(1, *[None] * 4)])
    database = Database(uri(path), 30.0)
    reader = Reader(database, SQL, [None] * 5)
    rows = reader.read([(1, 1)], most_bytes=1)
    assert str(path) in [file.path for file in psutil.Process().open_files()]
    database.close()
    assert str(path) not in [file.path for file in psutil.Process().open_files()]
    assert len(rows) == 1


@full
def test_memory_does_not_grow_with_the_number_of_reads(tmp_path: Path) -> None:
    path = made(tmp_path / "t.db", [(i, b"x" * 30_000, "y" * 500, i, None) for i in range(200)])

    def work() -> None:
        for _ in range(20):
            with opened(path) as database:
                reader = Reader(database, SQL, [None] * 5, REST)
                for most_bytes in (50_000, ALL):
                    read_all(reader, [(0, 99), *((i, i) for i in range(200))], most_bytes)
                with contextlib.suppress(SQLiteError):
                    database.execute("SELECT nothing")
        gc.collect()

    grown = []
    for _ in range(3):
        work()
        grown.append(psutil.Process().memory_full_info().uss)
    assert grown[2] - grown[1] < 5 << 20  # one pass reads 400 MB


# ---- errors --------------------------------------------------------------------------------------

ENDLESS = "WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"


def reading(call: Any) -> tuple[threading.Thread, list[SQLiteError]]:
    """Start a call in a thread, and return the thread and the list for the call's error."""
    errors: list[SQLiteError] = []

    def run() -> None:
        try:
            call()
        except SQLiteError as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, errors


@pytest.mark.parametrize("how", ["execute", "read", "ranges"])
def test_a_long_statement_is_interrupted_from_another_thread(tmp_path: Path, how: str) -> None:
    path = made(tmp_path / "t.db", [(1, *[None] * 4)])
    with opened(path) as database:
        if how == "ranges":  # each of which ends soon
            reader = Reader(database, SQL, [None] * 5)
            call = lambda: reader.read([(1, 1)] * 20_000_000, most_bytes=ALL)  # noqa: E731
        else:
            reader = Reader(database, ENDLESS, [None])
            call = {
                "execute": lambda: database.execute(ENDLESS),
                "read": lambda: reader.read([()], most_bytes=1),
            }[how]
        thread, errors = reading(call)

        def has_ended() -> bool:
            database.interrupt()
            return not thread.is_alive()

        wait_until(has_ended)
        assert [(str(error), error.code) for error in errors] == [("interrupted", INTERRUPT)]
        assert database.execute("SELECT count(*) FROM t") == [(1,)]


def test_a_connection_is_for_one_thread_at_a_time(tmp_path: Path) -> None:
    with opened(made(tmp_path / "t.db", [])) as database:
        thread, errors = reading(lambda: database.execute(ENDLESS))

        def is_in_use() -> bool:
            try:
                database.execute("SELECT 1")
            except SQLiteError as error:
                return "another thread" in str(error)
            return False

        wait_until(is_in_use)
        with pytest.raises(SQLiteError, match="another thread uses the connection"):
            database.close()
        wait_until(lambda: (database.interrupt(), not thread.is_alive())[1])
        assert len(errors) == 1


def test_a_locked_file_is_waited_for_and_then_an_error(tmp_path: Path) -> None:
    path = made(tmp_path / "t.db", [(1, *[None] * 4)])
    writer = sqlite3.connect(path, isolation_level=None)
    with contextlib.closing(writer), opened(path, 0.05) as database:
        reader = Reader(database, SQL, [None] * 5)
        writer.execute("BEGIN EXCLUSIVE")
        for ranges in ([(1, 1)], [(1, 1), (1, 1)]):
            with pytest.raises(SQLiteError, match="database is locked") as caught:
                reader.read(ranges, most_bytes=1)
            assert caught.value.code & 0xFF == BUSY
        writer.execute("COMMIT")
        assert len(reader.read([(1, 1), (1, 1)], most_bytes=ALL)) == 2


def test_no_lock_is_kept_after_a_read_that_ended_early(tmp_path: Path) -> None:
    path = made(tmp_path / "t.db", [(i, *[None] * 4) for i in range(100)])
    writer = sqlite3.connect(path, isolation_level=None, timeout=0)
    with contextlib.closing(writer), opened(path) as database:
        reader = Reader(database, SQL, [None] * 5)
        for ranges in ([(0, 99)], [(0, 99), (5, 7)]):
            assert reader.read(ranges, most_bytes=1).is_cut
            writer.execute("UPDATE t SET c0 = 1")


def test_a_writer_gets_in_between_the_ranges_of_a_long_read(tmp_path: Path) -> None:
    path = made(tmp_path / "t.db", [(1, *[None] * 4)])
    writer = sqlite3.connect(path, isolation_level=None, timeout=60)
    with contextlib.closing(writer), opened(path) as database:
        writer.execute("UPDATE t SET c0 = 0")
        reader = Reader(database, SQL, [None] * 5)
        found: list[Rows] = []
        ranges = [(1, 1)] * 500_000
        thread, errors = reading(lambda: found.append(reader.read(ranges, most_bytes=ALL)))
        while thread.is_alive():
            writer.execute("UPDATE t SET c0 = c0 + 1")
            thread.join(0.1)  # or the reader would hardly ever get its turn
        assert errors == []
        assert len(set(found[0].columns[1].numbers.tolist())) > 1


def test_nothing_is_written(tmp_path: Path) -> None:
    path = made(tmp_path / "t.db", [(1, *[None] * 4)])
    with opened(path) as database, pytest.raises(SQLiteError, match="readonly database"):
        database.execute("UPDATE t SET c0 = 1")


@pytest.mark.parametrize("call", ["random()", "RANDOM()", "abs(random())", "randomblob(4)"])
def test_functions_that_return_something_else_each_time_are_refused(
    tmp_path: Path, call: str
) -> None:
    with opened(made(tmp_path / "t.db", [])) as database:
        for sql in (f"SELECT {call}", f"SELECT id FROM t ORDER BY {call}"):
            with pytest.raises(SQLiteError, match="(?i)not authorized to use function: random"):
                database.execute(sql)
            with pytest.raises(SQLiteError, match="not authorized to use function"):
                Reader(database, sql, [None])


def test_a_fork_cannot_use_its_parents_connection(tmp_path: Path) -> None:
    path = made(tmp_path / "t.db", [])
    with opened(path) as database:
        child = os.fork()
        if child == 0:
            try:
                database.execute("SELECT 1")
            except SQLiteError as error:
                os._exit(7 if "fork" in str(error) else 8)
            finally:
                os._exit(9)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        assert database.execute("SELECT 1") == [(1,)]


# ---- hostile files -------------------------------------------------------------------------------


@given(data=st.data())
def test_a_damaged_file_is_an_error_and_never_a_crash(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Cut anywhere, or with some bytes overwritten: rows of some kind, or SQLiteError."""
    folder = tmp_path_factory.getbasetemp()
    whole = folder / "whole.db"
    if not whole.exists():
        made(whole, [(i, b"x" * 3000 * (i % 5), "text" * i, i, i / 3) for i in range(60)])
    damaged = bytearray(whole.read_bytes())
    if data.draw(st.booleans()):
        del damaged[data.draw(st.integers(0, len(damaged))) :]
    else:
        for _ in range(data.draw(st.integers(1, 40))):
            # Half of them in headers of pages, where they do the most.
            page = data.draw(st.integers(0, len(damaged) // 4096 - 1)) * 4096
            at = page + data.draw(st.one_of(st.integers(0, 40), st.integers(0, 4095)))
            damaged[at] = data.draw(st.integers(0, 255))
    path = folder / "damaged.db"
    path.write_bytes(damaged)
    with contextlib.suppress(SQLiteError), opened(path) as database:
        reader = Reader(database, SQL, [None] * 5, REST)
        read_all(reader, [(0, 30), *((i, i) for i in range(60))], 10_000)
        database.execute("SELECT * FROM t")


def test_a_file_that_is_cut_short_is_malformed(tmp_path: Path) -> None:
    path = made(tmp_path / "t.db", [(i, b"x" * 3000, 0, 0, 0) for i in range(100)])
    os.truncate(path, 100_000)
    with opened(path) as database:
        with pytest.raises(SQLiteError, match="malformed|disk I/O error") as caught:
            read_all(Reader(database, SQL, [None] * 5, REST), [(0, 99)], 1000)
        assert caught.value.code & 0xFF in (CORRUPT, IOERR)


def test_an_error_can_be_pickled() -> None:
    import pickle

    error = pickle.loads(pickle.dumps(SQLiteError("words", 5)))
    assert (str(error), error.message, error.code) == ("words", "words", 5)


def test_the_version_is_that_of_pythons_sqlite3() -> None:
    assert version == sqlite3.sqlite_version
