"""A TCP proxy that delays, stalls and cuts what goes through it, for tests and benchmarks.

``python -m tests.servers.proxy PORT --delay-ms 10`` prints the port that it listens on, and delays
each way by so much; the round trip is twice that.
"""

from __future__ import annotations

import argparse
import contextlib
import queue
import socket
import struct
import threading
import time

READ_BYTES = 1 << 18

IN_FLIGHT = 256
"""Reads that are under way at most; with READ_BYTES, 64 MB, more than any delay here needs."""


class Proxy:
    """Forwards connections on ``port`` to a server on this machine until it is closed.

    delay_s: one way. cut_after: bytes from the server, over all connections, after which all of
    them are cut, once.
    """

    def __init__(self, to_port: int, *, delay_s: float = 0.0, cut_after: int | None = None) -> None:
        self._to_port = to_port
        self._delay_s = delay_s
        self._flowing = threading.Event()
        self._flowing.set()
        self._lock = threading.Lock()
        self._ends: list[socket.socket] = []
        self._left = cut_after
        self.connections = 0
        self.cuts = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def stall(self) -> None:
        """Nothing goes through any more, but the connections stay."""
        self._flowing.clear()

    def resume(self) -> None:
        self._flowing.set()

    def cut(self) -> None:
        """Reset all connections, and serve new ones."""
        with self._lock:
            ends, self._ends = self._ends, []
            self.cuts += 1
        for end in ends:
            _reset(end)

    def refuse(self) -> None:
        """Reset all connections, and serve no new ones."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes who accepts, which close() would not
        self._listener.close()
        self.cut()

    def close(self) -> None:
        self.refuse()
        self._flowing.set()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._to_port))
            except OSError:
                if self._listener.fileno() < 0:
                    return
                _reset(client)  # the server is not there
                continue
            self.connections += 1
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._ends += [client, server]
            self._pump(client, server, counted=False)
            self._pump(server, client, counted=True)

    def _pump(self, source: socket.socket, target: socket.socket, *, counted: bool) -> None:
        waiting: queue.Queue[tuple[float, bytes]] = queue.Queue(IN_FLIGHT)

        def read() -> None:
            data = b"."
            while data:
                try:
                    data = source.recv(READ_BYTES)
                except OSError:
                    data = b""
                if counted and self._count(len(data)):
                    self.cut()
                waiting.put((time.monotonic() + self._delay_s, data))

        def write() -> None:
            while True:
                due, data = waiting.get()
                time.sleep(max(0.0, due - time.monotonic()))
                self._flowing.wait()
                try:
                    if not data:
                        target.shutdown(socket.SHUT_WR)
                        return
                    target.sendall(data)
                except OSError:
                    _reset(source)
                    return

        for job in (read, write):
            threading.Thread(target=job, daemon=True).start()

    def _count(self, size: int) -> bool:
        """Whether it is time to cut."""
        with self._lock:
            if self._left is None:
                return False
            self._left -= size
            if self._left > 0:
                return False
            self._left = None
            return True


def _reset(end: socket.socket) -> None:
    # With the lock of a reader held, close() alone would not wake it.
    with contextlib.suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()


def main() -> None:
    arguments = argparse.ArgumentParser(prog="python -m tests.servers.proxy", description=__doc__)
    arguments.add_argument("port", type=int)
    arguments.add_argument("--delay-ms", type=float, default=0.0)
    options = arguments.parse_args()
    print(Proxy(options.port, delay_s=options.delay_ms / 1000).port, flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
