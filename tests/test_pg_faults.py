"""What networks and servers do: each fault is survived, or one clear error in a stated time."""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from fastloader import FastLoader, FastloaderError, SourceError
from fastloader.options.config import make_config
from fastloader.source.postgres.connection import Connection

from .servers.cluster import Cluster, free_ports
from .servers.postgres import PASSWORD, Database, lock, standby_of
from .servers.proxy import Proxy
from .support import (
    jpeg,
    simple_rows,
    survey_processes,
    unpacked,
    wait_until,
    worker_processes,
)
from .tiers import full

ROWS = 600
KEYS = list(range(1, ROWS + 1))
OPTIONS = {"size": (8, 8), "batch_size": 8, "with_keys": True, "fetch_bytes": 10_000}
QUICK = {**OPTIONS, "stall_timeout_s": 1.0, "reconnect_timeout_s": 1.0}

workers = pytest.mark.parametrize("workers", [0, 2])
consistencies = pytest.mark.parametrize("consistency", ["snapshot", "latest"])


@pytest.fixture
def filled(database: Database) -> Database:
    """600 rows with keys 1, 2, ..."""
    images = [jpeg(60, 40, seed=seed) for seed in range(4)]
    database.table([(key, images[key % 4], key) for key in KEYS])
    return database


def keys_of(batches: Any) -> list[int]:
    return [key for *_, keys in unpacked(batches) for key in keys.tolist()]


@contextlib.contextmanager
def fails(message: str) -> Iterator[None]:
    with pytest.raises(SourceError, match=message):
        yield


# ---- no connection -------------------------------------------------------------------------------


@workers
def test_a_refused_connection_is_an_error_at_once(workers: int) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # and does not listen
        port = unused.getsockname()[1]
        with fails(f"cannot read the keys: .*port {port} failed: Connection refused"):
            FastLoader(f"postgresql://u@127.0.0.1:{port}/db", workers=workers)


@workers
def test_a_host_that_says_nothing_is_given_up_in_time(workers: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql://u@127.0.0.1:{silent.getsockname()[1]}/db"
        with fails("timeout expired"):
            FastLoader(url, workers=workers, stall_timeout_s=2)


def test_a_host_that_speaks_another_language_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def greet() -> None:
            with server.accept()[0] as client:
                client.recv(8)
                client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=greet)
        thread.start()
        with fails("cannot read the keys"):
            FastLoader(f"postgresql://u@127.0.0.1:{server.getsockname()[1]}/db?sslmode=disable")
        thread.join()


@workers
def test_a_wrong_password_is_an_error_and_shown_nowhere(
    filled: Database, workers: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    lock(filled.cluster)
    wrong = "not-" + PASSWORD
    url = filled.url(host="127.0.0.1").replace("postgres@", f"locked:{wrong}@")
    with pytest.raises(SourceError, match='password authentication failed for user "locked"') as e:
        FastLoader(url, workers=workers)
    text = "".join(traceback.format_exception(e.value)) + repr(e.value) + caplog.text
    assert wrong not in text.replace(__file__, "")
    assert wrong not in str(pickle.dumps(e.value))


@workers
@pytest.mark.parametrize("form", ["url", "dsn", "passfile", "service", "variables"])
def test_a_password_is_shown_nowhere(
    filled: Database,
    form: str,
    workers: int,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    """Whatever libpq reads it from."""
    monkeypatch = request.getfixturevalue("monkeypatch")
    caplog = request.getfixturevalue("caplog")
    caplog.set_level(logging.DEBUG)
    lock(filled.cluster)
    filled.execute("GRANT SELECT ON images TO locked")
    where = {"host": "127.0.0.1", "port": str(filled.cluster.port), "dbname": filled.name}
    dsn = " ".join(f"{name}={value}" for name, value in where.items()) + " user=locked"
    if form == "url":
        url = filled.url(host="127.0.0.1").replace("postgres@", f"locked:{PASSWORD}@")
    elif form == "dsn":
        url = f"{dsn} password={PASSWORD}"
    elif form == "passfile":
        (tmp_path / "pass").write_text(f"*:*:*:locked:{PASSWORD}\n")
        (tmp_path / "pass").chmod(0o600)
        url = f"{dsn} passfile={tmp_path / 'pass'}"
    elif form == "service":
        service = "\n".join(f"{name}={value}" for name, value in where.items())
        (tmp_path / "services").write_text(
            f"[train]\n{service}\nuser=locked\npassword={PASSWORD}\n"
        )
        monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "services"))
        url = "service=train"
    else:
        url = "postgresql://"
        for name, value in (*where.items(), ("user", "locked"), ("password", PASSWORD)):
            monkeypatch.setenv("PGDATABASE" if name == "dbname" else f"PG{name.upper()}", value)
    with FastLoader(url, workers=workers, slots=2, **QUICK) as loader:
        shown = [
            repr(loader),
            repr(loader.config),
            str(loader.config),
            repr(loader.delivery.feeders),
        ]
        shown += [" ".join(p.cmdline()) for p in worker_processes() + survey_processes()]
        iterator = iter(loader)
        keys = next(unpacked(iterator))[-1].tolist()
        assert keys + keys_of(iterator) == KEYS
        filled.execute("REVOKE SELECT ON images FROM locked")
        filled.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'locked'"
        )
        with pytest.raises(SourceError) as caught:
            list(loader)
    shown += ["".join(traceback.format_exception(caught.value)), repr(caught.value.args)]
    for text in (*shown, caplog.text):
        assert PASSWORD not in text


@workers
def test_missing_privileges_are_named_with_what_to_do(filled: Database, workers: int) -> None:
    filled.execute("DROP ROLE IF EXISTS nobody; CREATE ROLE nobody LOGIN")
    url = filled.url().replace("postgres@", "nobody@")
    with fails("permission denied for table images .*GRANT this user what is missing"):
        FastLoader(url, workers=workers)


# ---- a connection that breaks --------------------------------------------------------------------


@workers
@consistencies
def test_a_cut_in_the_middle_of_a_fetch_is_survived(
    filled: Database, workers: int, consistency: str
) -> None:
    size = ROWS * len(jpeg(60, 40))
    for part in (0.1, 0.35, 0.6):
        with (
            Proxy(filled.cluster.port, cut_after=int(size * part)) as proxy,
            FastLoader(
                filled.url(host="127.0.0.1", port=proxy.port),
                workers=workers, consistency=consistency, slots=2,
                **{**OPTIONS, "fetch_bytes": 100_000},
            ) as loader,
        ):  # fmt: skip
            if consistency == "latest":
                assert keys_of(loader) == KEYS
            else:  # the holder's connection has been cut too
                with fails("make a new loader; or pass consistency"):
                    list(loader)
            assert proxy.cuts == 1


@workers
@consistencies
def test_a_network_that_goes_silent_is_an_error_in_the_stated_time(
    filled: Database, workers: int, consistency: str
) -> None:
    with (
        Proxy(filled.cluster.port) as proxy,
        FastLoader(
            filled.url(host="127.0.0.1", port=proxy.port),
            workers=workers, consistency=consistency, slots=2, **QUICK,
        ) as loader,
    ):  # fmt: skip
        iterator = iter(loader)
        next(iterator)
        proxy.stall()
        with fails(r"(not a byte has come for 1 s|timeout expired)(.|\n)*Tried for"):
            list(iterator)


@workers
def test_a_network_that_comes_back_is_waited_for(filled: Database, workers: int) -> None:
    with (
        Proxy(filled.cluster.port) as proxy,
        FastLoader(
            filled.url(host="127.0.0.1", port=proxy.port), workers=workers, slots=2,
            **{**OPTIONS, "stall_timeout_s": 1.0},
        ) as loader,
    ):  # fmt: skip
        iterator = iter(loader)
        keys = next(unpacked(iterator))[-1].tolist()
        proxy.stall()
        timer = threading.Timer(1.5, proxy.resume)
        timer.start()
        assert keys + keys_of(iterator) == KEYS
        timer.join()


@workers
def test_a_server_that_is_gone_is_an_error_in_the_stated_time(
    filled: Database, workers: int
) -> None:
    with (
        Proxy(filled.cluster.port) as proxy,
        FastLoader(
            filled.url(host="127.0.0.1", port=proxy.port), workers=workers,
            consistency="latest", slots=2, **QUICK,
        ) as loader,
    ):  # fmt: skip
        iterator = iter(loader)
        next(iterator)
        proxy.refuse()
        with fails("Connection refused(.|\n)*reconnect_timeout_s=1"):
            list(iterator)


@workers
def test_closing_does_not_wait_for_a_silent_server(filled: Database, workers: int) -> None:
    with Proxy(filled.cluster.port) as proxy:
        loader = FastLoader(
            filled.url(host="127.0.0.1", port=proxy.port), workers=workers, slots=2, **OPTIONS
        )
        next(iter(loader))
        proxy.stall()
        time.sleep(0.2)
        loader.close()  # a hang would exceed the test's time limit


@workers
@consistencies
def test_a_statement_that_times_out_is_an_error_with_advice(
    filled: Database, workers: int, consistency: str
) -> None:
    filled.execute(
        "CREATE VIEW slow AS SELECT id, image_data, label + (SELECT count(*) FROM "
        "generate_series(1, CASE WHEN id = 100 THEN 100000000 ELSE 1 END)) AS label FROM images"
    )
    filled.execute(f"ALTER DATABASE {filled.name} SET statement_timeout = 300")
    options = {**OPTIONS, "table": "slow", "consistency": consistency, "workers": workers}
    with (
        FastLoader(filled.url(), **options) as loader,
        fails("canceling statement due to statement timeout .*raise statement_timeout"),
    ):
        list(loader)


@workers
def test_a_table_that_is_dropped_is_an_error(filled: Database, workers: int) -> None:
    options = {**OPTIONS, "consistency": "latest", "workers": workers}
    with FastLoader(filled.url(), **options) as loader:
        assert keys_of(loader) == KEYS
        filled.execute("DROP TABLE images")
        for _ in range(2):
            with fails('relation "images" does not exist'):
                list(loader)


# ---- TLS -----------------------------------------------------------------------------------------


@workers
def test_tls_and_its_certificates_are_libpqs_business(
    filled: Database, workers: int, tmp_path: Path
) -> None:
    cluster = filled.cluster
    if filled.execute("SELECT count(*) FROM pg_config WHERE setting LIKE '%%with-ssl%%' OR "
                      "setting LIKE '%%with-openssl%%'") == [(0,)]:  # fmt: skip
        pytest.skip("this server is built without TLS")
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with")
    make_certificate(cluster)
    cluster.execute("ALTER SYSTEM SET ssl = on")
    cluster.execute("SELECT pg_reload_conf()")
    wait_until(lambda: cluster.execute("SHOW ssl") == [("on",)])
    (tmp_path / "root.crt").write_bytes((cluster.data / "server.crt").read_bytes())
    url = f"{filled.url(host='127.0.0.1')}?sslmode=verify-ca&sslrootcert={tmp_path / 'root.crt'}"
    try:
        with FastLoader(url, workers=workers, slots=2, **OPTIONS) as loader:
            iterator = iter(loader)
            keys = next(unpacked(iterator))[-1].tolist()
            used = filled.execute(
                "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) "
                "WHERE application_name LIKE 'fastloader%%'"
            )
            assert used == [(True,)]
            assert keys + keys_of(iterator) == KEYS
        (tmp_path / "root.crt").write_bytes(b"")
        with fails("certificate"):
            FastLoader(url, workers=workers)
    finally:
        cluster.execute("ALTER SYSTEM RESET ssl")
        cluster.execute("SELECT pg_reload_conf()")


def make_certificate(cluster: Cluster) -> None:
    """One that the server has signed itself."""
    names = [cluster.data / "server.crt", cluster.data / "server.key"]
    subprocess.run(
        ["openssl", "req", "-new", "-x509", "-days", "2", "-nodes", "-subj", "/CN=localhost",
         "-out", names[0], "-keyout", names[1]],
        check=True, capture_output=True,
    )  # fmt: skip
    for name in names:
        name.chmod(0o600)
        os.chown(name, cluster.data.stat().st_uid, cluster.data.stat().st_gid)


# ---- poolers, standbys, replicas -----------------------------------------------------------------


@full
@workers
def test_a_hot_standby_serves_both_modes(filled: Database, workers: int) -> None:
    with standby_of(filled.cluster) as standby:
        url = standby.url().removesuffix("postgres") + filled.name
        with FastLoader(url, workers=workers, **OPTIONS) as snapshot:
            assert keys_of(snapshot) == KEYS
        with FastLoader(url, workers=workers, consistency="latest", **OPTIONS) as latest:
            assert keys_of(latest) == KEYS
            filled.execute("DELETE FROM images WHERE id = 7")
            wait_until(
                lambda: (
                    standby.execute("SELECT count(*) FROM images", dbname=filled.name)
                    == [(ROWS - 1,)]
                )
            )
            next(iter(latest))  # which the workers may have read before; now they start anew
            with pytest.raises(FastloaderError, match="key 7: the row is gone"):
                list(latest)
        spread_over_both(filled, standby, workers=3)


@full
def test_a_standby_that_has_to_clean_up_ends_a_snapshot_but_not_the_latest(
    filled: Database,
) -> None:
    """The primary vacuums what the standby's queries still see, and the standby does not wait."""
    filled.execute(
        "CREATE VIEW slow AS SELECT id, image_data, label + (SELECT count(pg_sleep(0.02)) FROM "
        "generate_series(id, id)) AS label FROM images"
    )

    def clean_up() -> None:
        filled.execute("UPDATE images SET label = label + 1")
        filled.execute("VACUUM images")
        (lsn,) = filled.execute("SELECT pg_current_wal_insert_lsn()")[0]
        sql = "SELECT pg_last_wal_replay_lsn() >= %s"
        wait_until(lambda: standby.execute(sql, (lsn,)) == [(True,)])

    with standby_of(filled.cluster, max_standby_streaming_delay="0") as standby:
        url = standby.url().removesuffix("postgres") + filled.name
        options = {**OPTIONS, "workers": 2, "slots": 2}
        with FastLoader(url, **options) as snapshot:
            iterator = iter(snapshot)
            next(iterator)
            clean_up()
            with fails("(hot_standby_feedback = on|make a new loader)"):
                list(iterator)
        # Each row takes a moment, so that it happens in the middle of a fetch.
        with FastLoader(url, table="slow", consistency="latest", **options) as latest:
            iterator = iter(latest)
            keys = next(unpacked(iterator))[-1].tolist()
            for _ in range(3):
                clean_up()
                keys += next(unpacked(iterator))[-1].tolist()
            assert keys + keys_of(iterator) == KEYS
            assert latest.stats().reconnects > 0


def spread_over_both(filled: Database, standby: Cluster, *, workers: int) -> None:
    """Several hosts in one DSN: the workers spread, in "latest" mode."""
    primary = filled.cluster
    dsn = (
        f"host={primary.folder},{standby.folder} port={primary.port},{standby.port} "
        f"user=postgres dbname={filled.name} load_balance_hosts=random"
    )
    seen: set[str] = set()
    options = {**OPTIONS, "on_error": "skip", "consistency": "latest", "workers": workers}
    for _ in range(10):
        with FastLoader(dsn, **options) as loader:
            assert keys_of(loader) == [key for key in KEYS if key != 7]
            for cluster in (primary, standby):
                count = "SELECT count(*) FROM pg_stat_activity WHERE application_name ~ %s"
                if cluster.execute(count, ("fastloader worker",)) > [(0,)]:
                    seen.add(str(cluster.folder))
        if len(seen) == 2:
            break
    assert len(seen) == 2
    with fails('a snapshot is valid on one: pass consistency="latest"'):
        FastLoader(dsn, workers=1)
    with FastLoader(dsn.replace(" load_balance_hosts=random", ""), workers=1) as pinned:
        assert len(pinned) > 0


def test_a_connection_says_whose_it_is(filled: Database) -> None:
    with FastLoader(filled.url(), workers=2, slots=2, **OPTIONS) as loader:
        next(iter(loader))
        ours = {("fastloader survey",), ("fastloader worker 0",), ("fastloader worker 1",)}
        sql = "SELECT application_name FROM pg_stat_activity WHERE datname = current_database()"
        wait_until(lambda: ours <= set(filled.execute(sql)))


@full
def test_tensorflows_tls_library_is_not_called_in_place_of_libpqs(filled: Database) -> None:
    """psycopg2 imported after TensorFlow crashed in its first TLS connection."""
    script = f"""
import tensorflow, fastloader
try:
    fastloader.FastLoader({filled.url(host="127.0.0.1")!r}, workers=0)
except fastloader.SourceError as error:
    print(error)
with fastloader.FastLoader({filled.url(host="127.0.0.1")!r}, workers=1) as loader:
    print(len(list(loader)))
with fastloader.FastLoader({filled.url()!r}, workers=0) as loader:
    print(len(list(loader)))
"""
    out = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True, timeout=200
    ).stdout
    assert "Import psycopg2 before tensorflow, or pass workers=1" in out
    assert out.split("\n")[1:3] == ["10", "10"]


@full
@workers
def test_memory_stays_flat_while_gigabytes_go_through(database: Database, workers: int) -> None:
    """The pages of libpq's buffers are used again. benchmarks.postgres does it with 2 GB."""
    image = jpeg(60, 40) + bytes(400_000)
    database.table(simple_rows(1))
    database.execute("ALTER TABLE images ALTER image_data SET STORAGE EXTERNAL")
    database.execute("INSERT INTO images SELECT n, %s, 0 FROM generate_series(2, 250) n", (image,))
    with FastLoader(database.url(), workers=workers, size=(8, 8), batch_size=16) as loader:

        def resident() -> int:
            processes = worker_processes() or [psutil.Process()]
            return sum(process.memory_info().rss for process in processes)

        list(loader)
        before = resident()
        for _ in range(4):
            list(loader)
        assert resident() - before < 10e6


# ---- PgBouncer -----------------------------------------------------------------------------------

PGBOUNCER = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


@contextlib.contextmanager
def pgbouncer(cluster: Cluster, mode: str) -> Iterator[int]:
    """Yield the port of one that runs in front of the server."""
    assert PGBOUNCER is not None
    (port,) = free_ports(1)
    with tempfile.TemporaryDirectory(prefix="fastloader-bouncer-") as folder:
        config = Path(folder, "pgbouncer.ini")
        config.write_text(
            f"[databases]\n* = host={cluster.folder} port={cluster.port} user=postgres\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nauth_type = any\n"
            f"pool_mode = {mode}\nunix_socket_dir =\nlogfile = {folder}/log\n"
        )
        Path(folder).chmod(0o777)
        user = {"user": 65534, "group": 65534, "extra_groups": []} if os.geteuid() == 0 else {}
        process = subprocess.Popen([PGBOUNCER, "-q", config], **user)  # type: ignore[call-overload]
        try:
            wait_until(lambda: answers(port))
            yield port
        finally:
            process.terminate()
            process.wait(60)


def answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


@pytest.mark.skipif(PGBOUNCER is None, reason="no pgbouncer on this machine")
@consistencies
def test_a_pooler_in_transaction_mode_will_do(filled: Database, consistency: str) -> None:
    with pgbouncer(filled.cluster, "transaction") as port:
        url = filled.url(host="127.0.0.1", port=port)
        with FastLoader(url, workers=2, consistency=consistency, **OPTIONS) as loader:
            for _ in range(2):
                assert keys_of(loader) == KEYS


@pytest.mark.skipif(PGBOUNCER is None, reason="no pgbouncer on this machine")
@consistencies
def test_a_pooler_in_statement_mode_refuses_in_its_own_words(
    filled: Database, consistency: str
) -> None:
    with (
        pgbouncer(filled.cluster, "statement") as port,
        fails("transaction blocks not allowed in statement pooling mode"),
    ):
        FastLoader(filled.url(host="127.0.0.1", port=port), workers=1, consistency=consistency)


# ---- TCP -----------------------------------------------------------------------------------------


def test_silent_connections_are_kept_alive_unless_the_user_says_how(filled: Database) -> None:
    """The one that holds the snapshot is silent all the time."""

    def idle_s(**parameters: str) -> int:
        url = filled.url(host="127.0.0.1")
        query = "&".join(f"{name}={value}" for name, value in parameters.items())
        config = make_config({"url": f"{url}?{query}"}, {})
        connection = Connection(config, None, who="test")
        connection.open()
        with contextlib.closing(connection):
            end = socket.socket(fileno=os.dup(connection._connection.fileno()))
            with end:
                assert end.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
                return end.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)

    assert idle_s() == 60
    assert idle_s(keepalives_idle="77") == 77
