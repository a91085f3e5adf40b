"""Is a host: makes a network namespace with a TUN device, and keeps it until standard input ends.

``python -m tests.network.host ADDRESS FD``: the TUN device's descriptor goes out through the socket
FD.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
import sys

CLONE_NEWNET = 0x40000000
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
SIOCGIFFLAGS, SIOCSIFFLAGS, SIOCSIFADDR, SIOCSIFNETMASK = 0x8913, 0x8914, 0x8916, 0x891C
IFF_UP = 0x1


def become_a_host(address: str) -> int:
    """Leave for a new namespace, and return its TUN device."""
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "cannot make a network namespace")
    tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH22x", b"eth0", IFF_TUN | IFF_NO_PI))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        for request, value in ((SIOCSIFADDR, address), (SIOCSIFNETMASK, "255.255.255.0")):
            where = struct.pack("HH4s8x", socket.AF_INET, 0, socket.inet_aton(value))
            fcntl.ioctl(control, request, struct.pack("16s16s8x", b"eth0", where))
        for device in (b"lo", b"eth0"):
            asked = struct.pack("16sH22x", device, 0)
            (flags,) = struct.unpack("16xH22x", fcntl.ioctl(control, SIOCGIFFLAGS, asked))
            fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sH22x", device, flags | IFF_UP))
    return tun


def main(address: str, fd: int) -> None:
    with socket.socket(fileno=fd) as wire:
        socket.send_fds(wire, [address.encode()], [become_a_host(address)])
    sys.stdin.read()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
