"""Several hosts on one machine: network namespaces, and a wire between them that is not perfect.

Each host is a network namespace with a TUN device. What it sends goes to a process of ours, the
wire, which delivers it later, loses some of it, or has been told that a host is cut off. The kernel
has ``netem`` for that, but not every kernel is built with it, as that of the machine is not on
which these tests were written. TCP is the kernel's own, with its timeouts and retransmissions.

It needs root, or at least CAP_NET_ADMIN and CAP_SYS_ADMIN, and ``/dev/net/tun``. Nothing outside
the namespaces changes, and all of it is gone when the processes are.
"""

from .hosts import Host, Network, missing, server_on

__all__ = ["Host", "Network", "missing", "server_on"]
