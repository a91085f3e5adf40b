"""Carries packets between hosts: late, at a rate, and not all of them.

``python -m tests.network.wire FD HOSTS``: TUN devices come in through the socket FD, and after them
requests in JSON, each of which is answered with the counts so far:

* ``{"delay_s": 0.01, "loss": 0.02, "bytes_per_s": 1e6}`` changes how packets travel.
* ``{"cut": ["10.77.0.2"]}`` names the hosts that are cut off.
"""

from __future__ import annotations

import heapq
import json
import os
import random
import select
import socket
import sys
import time

PACKET_BYTES = 1 << 16
QUEUE_S = 1.0
"""How long a packet may wait for the rate of its link before it is dropped."""


class Wire:
    """The state of the wire.

    Attributes
    ----------
    counts
        Packets that were delivered, lost by chance or by a full queue, and cut off.
    """

    def __init__(self, tuns: dict[bytes, int]) -> None:
        self._tuns = tuns  # by the four bytes of the address
        self._delay_s, self._loss, self._bytes_per_s = 0.0, 0.0, 0.0
        self._cut: set[bytes] = set()
        self._random = random.Random(0)
        self._free = dict.fromkeys(tuns, 0.0)  # when the link of each sender is free
        self._under_way: list[tuple[float, int, bytes, bytes]] = []
        self._number = 0
        self.counts = {"delivered": 0, "lost": 0, "cut": 0}

    def change(self, request: dict[str, object]) -> None:
        for name in ("delay_s", "loss", "bytes_per_s"):
            if name in request:
                setattr(self, f"_{name}", float(str(request[name])))
        if "cut" in request:
            cut = request["cut"]
            assert isinstance(cut, list)
            self._cut = {socket.inet_aton(address) for address in cut}

    def take(self, sender: bytes) -> None:
        """Take in what a host has sent."""
        for _ in range(64):
            try:
                packet = os.read(self._tuns[sender], PACKET_BYTES)
            except BlockingIOError:
                return
            target, now = packet[16:20], time.monotonic()
            if packet[0] >> 4 != 4 or target not in self._tuns:
                continue  # IPv6 asks for routers
            if {sender, target} & self._cut:
                self.counts["cut"] += 1
                continue
            begin = max(now, self._free[sender])
            if self._random.random() < self._loss or begin - now > QUEUE_S:
                self.counts["lost"] += 1
                continue
            if self._bytes_per_s:
                begin = self._free[sender] = begin + len(packet) / self._bytes_per_s
            self._number += 1
            entry = (begin + self._delay_s, self._number, target, packet)
            heapq.heappush(self._under_way, entry)

    def deliver(self) -> float | None:
        """Deliver what is due. Return the seconds until something is."""
        while self._under_way:
            wait_s = self._under_way[0][0] - time.monotonic()
            if wait_s > 0:
                return wait_s
            _, _, target, packet = heapq.heappop(self._under_way)
            if target in self._cut:
                self.counts["cut"] += 1
                continue
            os.write(self._tuns[target], packet)
            self.counts["delivered"] += 1
        return None


def main(fd: int, hosts: int) -> None:
    control = socket.socket(fileno=fd)
    tuns = {}
    for _ in range(hosts):
        address, (tun,), _, _ = socket.recv_fds(control, 100, 1)
        tuns[socket.inet_aton(address.decode())] = tun
    control.send(b"ready")
    wire = Wire(tuns)
    senders = {tun: address for address, tun in tuns.items()}
    poll = select.poll()
    for readable in (control.fileno(), *senders):
        poll.register(readable, select.POLLIN)
    while True:
        wait_s = wire.deliver()
        for ready, _ in poll.poll(None if wait_s is None else max(1, wait_s * 1e3)):
            if ready in senders:
                wire.take(senders[ready])
                continue
            request = control.recv(PACKET_BYTES)
            if not request:
                return
            wire.change(json.loads(request))
            control.send(json.dumps(wire.counts).encode())


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
