"""The pipe between a worker and its loader, which carries records. Used in both processes.

The records say who owns a slot (``ring.py``). The pipe ends with whichever process ends first. It
is a pair of Unix sockets, because a socket can do three things that a pipe of the kernel cannot:
``shutdown`` ends it even if a fork of either process holds it open, ``MSG_NOSIGNAL`` makes a dead
peer an error and never a SIGPIPE, and one descriptor is enough for both directions.
"""

from __future__ import annotations

import _socket  # its sockets own their descriptors from the first moment; socket's own do not
import contextlib
import errno
import select
import socket
import struct
import time
from collections.abc import Iterator
from itertools import chain

from ..system.descriptors import forget_in_children
from .messages import Record


class PipeBroken(Exception):
    """What came through a pipe is not a record."""


class Channel:
    """One process's end of the pipe between it and its peer.

    Parameters
    ----------
    end
        The socket.
    waits
        Whether :meth:`send` waits for room in the pipe. A worker's does. A loader's must not,
        because the worker may be waiting for room at the same time. What the pipe cannot take is
        kept, and leaves when something is sent or received the next time.
    """

    _HEADER = struct.Struct("<HHIqqqqIQ")
    _MAGIC = 0xFA57

    def __init__(self, end: _socket.socket, *, waits: bool = True) -> None:
        self._end = end
        self._flags = socket.MSG_NOSIGNAL | (0 if waits else socket.MSG_DONTWAIT)
        self._buffer = bytearray()
        self._unsent = bytearray()
        forget_in_children(self, Channel.close)

    def send(self, *records: Record) -> None:
        """Send records. Raises BrokenPipeError once the peer is gone or the channel is closed."""
        self._unsent += b"".join(map(self._packed, records))
        self._send()

    def _send(self) -> None:
        try:
            while self._unsent:
                del self._unsent[: self._end.send(self._unsent, self._flags)]
        except BlockingIOError:
            pass
        except OSError as error:
            if error.errno in (errno.ECONNRESET, errno.EBADF):  # by the peer; closed here
                raise BrokenPipeError(*error.args) from None
            raise

    def _packed(self, record: Record) -> bytes:
        header = self._HEADER.pack(
            self._MAGIC, record.kind, record.slot, record.run, record.epoch, record.batch,
            record.first_row, len(record.payload), len(record.tail),
        )  # fmt: skip
        return header + record.payload + record.tail

    def receive(self, timeout_s: float | None = None) -> Record | None:
        """Return the next record, waiting for it; None when ``timeout_s`` has passed.

        Raises
        ------
        EOFError
            The peer is gone.
        PipeBroken
            What came is not a record.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while (record := self._parsed()) is None:
            if not self._read():
                left_s = None if deadline is None else max(0.0, deadline - time.monotonic())
                if not self.wait(left_s):
                    return None
        return record

    def received(self) -> Iterator[Record]:
        """Yield the records of one read. What arrives meanwhile is left for the next call.

        Raises
        ------
        EOFError
            The peer is gone.
        PipeBroken
            What came is not a record.
        """
        self._read()
        while (record := self._parsed()) is not None:
            yield record

    def _read(self) -> bool:
        """Send what is unsent, if there is room, and return whether there was data to receive."""
        if self._unsent:
            with contextlib.suppress(BrokenPipeError):  # reading will show it, too
                self._send()
        try:
            data = self._end.recv(65536, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except ConnectionResetError:  # the peer ended with records of ours unread
            data = b""
        if not data:
            raise EOFError
        self._buffer += data
        return True

    def wait(self, timeout_s: float | None) -> bool:
        """Wait until there is something to receive, or room for what is unsent.

        Any thread may wait. The channel may be closed meanwhile.

        Returns
        -------
        bool
            False if ``timeout_s`` has passed, or the channel is closed.
        """
        fd = self.fileno()
        if fd < 0:
            return False
        poll = select.poll()
        poll.register(fd, select.POLLIN | (select.POLLOUT if self._unsent else 0))
        return bool(poll.poll(None if timeout_s is None else timeout_s * 1000))

    def _parsed(self) -> Record | None:
        size = self._HEADER.size
        if len(self._buffer) < size:
            return None
        magic, kind, slot, run, epoch, batch, first_row, *sizes = self._HEADER.unpack_from(
            self._buffer
        )
        if magic != self._MAGIC:
            raise PipeBroken
        payload = size + sizes[0]
        end = payload + sizes[1]
        if len(self._buffer) < end:
            return None
        parts = bytes(self._buffer[size:payload]), bytes(self._buffer[payload:end])
        del self._buffer[:end]
        return Record(kind, run, epoch, batch, slot, *parts, first_row)

    def fileno(self) -> int:
        """Return the descriptor, which is readable when there is something to receive.

        It is -1 once the channel is closed.
        """
        return self._end.fileno()

    def shut_down(self) -> None:
        """Tell the peer that nothing more will come, even if a fork holds this end open."""
        with contextlib.suppress(OSError):  # the peer is gone, or the channel is closed
            self._end.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close this process's end. May be called twice."""
        self._end.close()


def socket_pair() -> tuple[_socket.socket, _socket.socket]:
    """Return the two ends of a new pipe."""
    # One bytecode creates both sockets, so that Ctrl-C cannot come between and lose a descriptor.
    ours, theirs = chain.from_iterable(map(_socket.socketpair, [socket.AF_UNIX]))
    for end in (ours, theirs):
        end.settimeout(None)  # whatever socket.setdefaulttimeout() says
    return ours, theirs
