"""The limits that a system sets for a process, and what to say when one is reached.

Calls that reach a limit raise a bare OSError or MemoryError, which names neither the limit nor the
remedy.
"""

from __future__ import annotations

import contextlib
import errno
import resource
from collections.abc import Iterator

from ..errors import ConfigError, FastloaderError, unexpected


def limit_error(error: BaseException, doing: str) -> ConfigError | None:
    """Return an error that names the limit behind ``error``, or None if it is no limit's.

    Parameters
    ----------
    error
        What was raised.
    doing
        What could not be done, in words such as "start a worker".
    """
    if isinstance(error, OSError):
        words = _BY_ERRNO.get(error.errno or 0)
    elif isinstance(error, MemoryError) or "failed to map segment" in str(error):
        words = _BY_ERRNO[errno.ENOMEM]  # "failed to map segment" comes from importing a library
    elif isinstance(error, RuntimeError) and "can't start new thread" in str(error):
        words = _BY_ERRNO[errno.EAGAIN]
    else:
        words = None
    if words is None:
        return None
    limits = {name: _shown(getattr(resource, name)) for name in _NAMES}
    said = f" ({error})" if str(error) else ""
    return ConfigError(f"cannot {doing}{said}: {words.format(**limits)}")


def explained(error: Exception, doing: str) -> FastloaderError:
    """Return :func:`limit_error`, or else what ``errors.unexpected`` makes of the error."""
    return limit_error(error, doing) or unexpected(error)


@contextlib.contextmanager
def limits_named(doing: str) -> Iterator[None]:
    """Raise :func:`limit_error` instead of the bare errors of the block.

    ``doing`` is what could not be done, in words.
    """
    try:
        yield
    except FastloaderError:
        raise
    except Exception as error:
        named = limit_error(error, doing)
        if named is None:
            raise
        try:
            raise named from error
        finally:
            # Its traceback refers to this frame. The cycle would keep descriptors open until it is
            # collected.
            del named


_NAMES = ("RLIMIT_NOFILE", "RLIMIT_FSIZE", "RLIMIT_AS", "RLIMIT_NPROC")

_BY_ERRNO = {
    errno.EMFILE: "this process may open {RLIMIT_NOFILE} descriptors (RLIMIT_NOFILE), and all are "
    "in use. Raise the limit (ulimit -n), close loaders that are no longer needed, or use fewer "
    "workers: each takes four",
    errno.ENFILE: "the system has no more descriptors. Raise fs.file-max, or use fewer workers",
    errno.EFBIG: "this process may write files of at most {RLIMIT_FSIZE} bytes (RLIMIT_FSIZE), "
    "which applies to shared memory too. Raise the limit (ulimit -f), or lower slots, batch_size "
    "or size",
    errno.ENOMEM: "there is not enough memory. This process may map {RLIMIT_AS} bytes "
    "(RLIMIT_AS, ulimit -v): raise the limit if there is one, or lower workers, slots, batch_size "
    "or size",
    errno.EAGAIN: "the system starts no more processes or threads. This user may have "
    "{RLIMIT_NPROC} (RLIMIT_NPROC, ulimit -u), a control group may allow fewer (pids.max), and a "
    "thread needs memory for its stack (RLIMIT_AS). Raise the limit, or use fewer workers",
}
"""The words for each errno. The names of limits are replaced by their values."""


def _shown(limit: int) -> str:
    """Return the soft limit in words."""
    soft = resource.getrlimit(limit)[0]
    return "any number of" if soft == resource.RLIM_INFINITY else str(soft)
