"""Makes hosts and the wire between them."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from ..servers.cluster import Cluster, embedded_bindir
from ..support import ROOT

TIMEOUT_S = 60


def missing() -> str:
    """Return what is missing to make hosts, or ""."""
    if os.geteuid() != 0:
        return "needs root"
    if not Path("/dev/net/tun").exists():
        return "no /dev/net/tun"
    # What a container may forbid.
    tried = subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False)
    return "" if tried.returncode == 0 else "may not make network namespaces"


class Host:
    """A network namespace.

    Attributes
    ----------
    address
        Its IP address.
    """

    def __init__(self, address: str, wire: socket.socket) -> None:
        self.address = address
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.network.host", address, str(wire.fileno())],
            cwd=ROOT, stdin=subprocess.PIPE, pass_fds=[wire.fileno()],
        )  # fmt: skip

    def popen(self, command: list[Any], *, user: int = 0, group: int = 0, **options: Any) -> Any:
        """Start a process on the host, as ``subprocess.Popen`` does."""
        options.pop("extra_groups", None)
        enter = [
            "nsenter", f"--net=/proc/{self._process.pid}/ns/net",
            f"--setuid={user}", f"--setgid={group}", "--",
        ]  # fmt: skip
        return subprocess.Popen([*enter, *command], **options)

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.kill()
        self._process.wait()


class Network:
    """Some hosts, 10.77.0.1 and so on, and the wire between them.

    Attributes
    ----------
    hosts
        The hosts.
    """

    def __init__(self, hosts: int) -> None:
        with contextlib.ExitStack() as undo:
            self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            undo.callback(self._control.close)
            self._control.settimeout(TIMEOUT_S)
            to_wire = self._control.dup()
            self._wire = subprocess.Popen(
                [sys.executable, "-m", "tests.network.wire", str(theirs.fileno()), str(hosts)],
                cwd=ROOT, pass_fds=[theirs.fileno()],
            )  # fmt: skip
            undo.callback(self._wire.wait)
            undo.callback(self._wire.kill)
            theirs.close()
            self.hosts: list[Host] = []
            with to_wire:
                for number in range(1, hosts + 1):
                    self.hosts.append(Host(f"10.77.0.{number}", to_wire))
                    undo.callback(self.hosts[-1].close)
            assert self._control.recv(100) == b"ready"
            self._undo = undo.pop_all()

    def change(self, **request: Any) -> dict[str, int]:
        """Change how packets travel; see :mod:`tests.network.wire`. Return its counts so far."""
        self._control.send(json.dumps(request).encode())
        counts: dict[str, int] = json.loads(self._control.recv(1 << 16))
        return counts

    def cut(self, *hosts: Host) -> None:
        """Cut these hosts off, and connect all others."""
        self.change(cut=[host.address for host in hosts])

    def __enter__(self) -> Network:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._undo.close()


@contextlib.contextmanager
def server_on(host: Host) -> Iterator[Cluster]:
    """Yield a PostgreSQL server on a host, which lets all hosts in."""
    folder = Path(tempfile.mkdtemp(prefix="fastloader-host-"))
    folder.chmod(0o755)
    try:
        cluster = Cluster(
            embedded_bindir(), folder, popen=host.popen, listen_addresses=host.address
        )
        with (cluster.data / "pg_hba.conf").open("a") as rules:
            rules.write("host all all 10.77.0.0/24 trust\n")
        cluster.start()
        try:
            yield cluster
        finally:
            cluster.stop(immediate=True)
    finally:
        shutil.rmtree(folder)
