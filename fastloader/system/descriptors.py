"""Keep the descriptors and mappings of a loader away from those they do not belong to.

A forked child inherits them, and a program that has closed its standard input could find one of
them in its place.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import weakref
from collections.abc import Callable, Iterator
from typing import TypeVar

T = TypeVar("T")

_owned: weakref.WeakKeyDictionary[object, Callable[..., object]] = weakref.WeakKeyDictionary()


def forget_in_children(owned: T, forget: Callable[[T], object]) -> None:
    """Call ``forget(owned)`` in every process that this one forks from now on.

    A loader belongs to the process that made it. Otherwise a fork, by multiprocessing or by a
    DataLoader with workers, would keep the loader's memory after the loader is closed, and hold its
    pipes open, for as long as the fork lives.

    Parameters
    ----------
    owned
        The object to give up. It is referenced weakly.
    forget
        Must not take a lock: another thread may hold it during the fork, and that thread does not
        exist in the child.
    """
    _register()
    _owned[owned] = forget


@functools.cache
def _register() -> None:
    os.register_at_fork(after_in_child=_forget_all)


def _forget_all() -> None:
    for owned, forget in list(_owned.items()):
        with contextlib.suppress(Exception):
            forget(owned)


@contextlib.contextmanager
def standard_files_taken() -> Iterator[None]:
    """Keep what is opened in the block away from descriptors 0, 1 and 2.

    If a program has closed them (``python train.py <&-``, daemons), other code would take a plan's
    memory for the standard input, or write its messages into it.
    """
    # Each FileIO takes the lowest free descriptor, and closes it if an exception drops the list.
    taken = [*map(io.FileIO, [os.devnull] * sum(not _is_open(fd) for fd in range(3)))]
    try:
        yield
    finally:
        for file in taken:
            file.close()


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True
