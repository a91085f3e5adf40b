"""The options of a loader: their defaults, their checks, and the environment variables.

This is the only place that reads ``FASTLOADER_...``. An argument wins over the variable, the
variable over the default; both are checked by the same function.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from .columns import split_label
from .errors import ConfigError
from .url import DatabaseUrl, parse_url, with_connect_timeout

UNSET: Any = type("Unset", (), {"__repr__": lambda _: "..."})()
"""Stands for an option that was not given, so that None can be given."""

MAX_SCANS = 100
"""Scans of a progressive JPEG. Encoders write about ten; each costs a pass over the picture."""


@dataclass(frozen=True)
class Config:
    """The options of a loader, checked.

    url: of the database. As text it holds no password; ``url.secret`` does.
    table, query: where the rows come from; exactly one of them is a string.
    key, image: names of columns.
    label: name of a column, several, or None; ``"name:dtype"`` asks for a type.
    size: (height, width) of the delivered images, in pixels.
    batch_size: rows in a batch; the last one may have fewer.
    workers: processes; 0 works in the calling process.
    slots: batches that the ring of each worker holds.
    on_error: what to do with a bad row: "raise", "skip" or "fill".
    max_restarts: dead workers that are replaced in one epoch.
    drop_remainder: leave out a last batch of fewer than batch_size rows.
    with_keys: deliver the keys too.
    prefetch: batches that ``as_dataset`` keeps ready at its end.
    max_pixels: width times height of an encoded picture that is still decoded.
    max_blob_bytes: of an encoded picture that is still fetched.
    fetch_bytes: of blobs that are fetched at once, about; None for the database's default.
    consistency: "snapshot" or "latest"; for PostgreSQL.
    stall_timeout_s: without a byte from the server, in seconds.
    reconnect_timeout_s: of attempts to get a lost connection back, in seconds.
    """

    url: DatabaseUrl
    table: str | None = "images"
    query: str | None = None
    key: str = "id"
    image: str = "image_data"
    label: str | tuple[str, ...] | None = "label"
    size: tuple[int, int] = (224, 224)
    batch_size: int = 64
    workers: int = 0
    slots: int = 8
    on_error: str = "raise"
    max_restarts: int = 3
    drop_remainder: bool = False
    with_keys: bool = False
    prefetch: int = 2
    max_pixels: int = 178_956_970  # where Pillow draws its line: 0.5 GiB of RGB
    max_blob_bytes: int = 64 << 20
    fetch_bytes: int | None = None
    consistency: str = "snapshot"
    stall_timeout_s: float = 60.0
    reconnect_timeout_s: float = 30.0

    @property
    def labels(self) -> tuple[str, ...]:
        """The label columns as given, however many."""
        if self.label is None:
            return ()
        return (self.label,) if isinstance(self.label, str) else self.label

    @property
    def where(self) -> str:
        """Where the rows come from, for messages."""
        return f"{self.url}, {self.table or 'query'}"

    def as_dict(self) -> dict[str, Any]:
        """For the pipe to a worker, with the password; :meth:`from_dict` reads it after a trip
        through JSON."""
        return {**asdict(self), "url": [self.url, self.url.secret]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Config:
        lists = {name: tuple(v) for name, v in values.items() if isinstance(v, list)}
        return cls(**{**values, **lists, "url": DatabaseUrl(*values["url"])})


def make_config(arguments: Mapping[str, Any], environ: Mapping[str, str] = os.environ) -> Config:
    """Checks the arguments that are not ``UNSET`` and fills in the rest.

    Raises ConfigError with the name of the option or variable.
    """
    given = {name: value for name, value in arguments.items() if value is not UNSET}
    unknown = sorted(set(given) - set(_CHECKS))
    if unknown:
        raise ConfigError(f"no option {unknown[0]!r}; there are {', '.join(_CHECKS)}")
    values = {name: _checked(name, value, name) for name, value in given.items()}
    for name in _CHECKS:
        variable = f"FASTLOADER_{name.upper()}"
        # A query that is given is not contradicted by a table in the environment, or vice versa.
        rival = {"table": "query", "query": "table"}.get(name)
        if name in values or variable not in environ or given.get(rival or "") is not None:
            continue
        values[name] = _checked(name, _parse(name, environ[variable], variable), variable)
    if values.get("url") is None:
        raise ConfigError("no database: pass its URL or path, or set FASTLOADER_URL")
    if values.get("query") is not None:
        if values.get("table") is not None:
            raise ConfigError("table and query exclude each other: give one of them")
        values["table"] = None
    elif values.get("table", "") is None:
        raise ConfigError("neither a table nor a query: give one of them")
    if values.get("workers") is None:
        values["workers"] = len(os.sched_getaffinity(0))
    config = Config(**values)
    if config.url.is_postgres:
        url = with_connect_timeout(config.url, config.stall_timeout_s, environ)
        config = replace(config, url=url)
    return config


# ---- one function for each kind of option --------------------------------------------------------


def _name(value: Any) -> str:
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError("must be a name")
    return value


def _optional_name(value: Any) -> str | None:
    return None if value is None else _name(value)


def _label(value: Any) -> str | tuple[str, ...] | None:
    if value is None:
        return None
    if isinstance(value, str):
        split_label(_name(value))
        return value
    names = tuple(_name(item) for item in value)
    columns = [split_label(name)[0] for name in names]
    if not names or len(set(columns)) != len(columns):
        raise ValueError("must name at least one column and none of them twice, or be None")
    return names


def _size(value: Any) -> tuple[int, int]:
    message = "must be (height, width), both from 1 to 65535"
    if isinstance(value, str) or not hasattr(value, "__len__") or len(value) != 2:
        raise ValueError(message)
    height, width = (_integer(1, 65535, message)(side) for side in value)
    return height, width


def _integer(low: int, high: int, message: str = "") -> Callable[[Any], int]:
    def check(value: Any) -> int:
        if isinstance(value, bool) or not hasattr(value, "__index__"):
            raise ValueError(message or f"must be an integer from {low} to {high}")
        if not low <= value.__index__() <= high:
            raise ValueError(message or f"must be from {low} to {high}")
        return int(value.__index__())

    return check


def _workers(value: Any) -> int | None:
    return None if value is None else _integer(0, 1024)(value)


def _slots(value: Any) -> int:
    return Config.slots if value is None else _integer(2, 1024)(value)


def _fetch_bytes(value: Any) -> int | None:
    return None if value is None else _integer(1, 1 << 30)(value)


def _seconds(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e6:
        raise ValueError("must be a number of seconds, more than 0")
    return float(value)


def _on_error(value: Any) -> str:
    if value not in ("raise", "skip", "fill"):
        raise ValueError('must be "raise", "skip" or "fill"')
    return str(value)


def _consistency(value: Any) -> str:
    if value not in ("snapshot", "latest"):
        raise ValueError('must be "snapshot" or "latest"')
    return str(value)


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("must be True or False")
    return value


_CHECKS: dict[str, Callable[[Any], Any]] = {
    "url": parse_url,
    "table": _optional_name,
    "query": _optional_name,
    "key": _name,
    "image": _name,
    "label": _label,
    "size": _size,
    "batch_size": _integer(1, 1_000_000),
    "workers": _workers,
    "slots": _slots,
    "on_error": _on_error,
    "max_restarts": _integer(0, 1_000_000),
    "drop_remainder": _flag,
    "with_keys": _flag,
    "prefetch": _integer(0, 1024),
    "max_pixels": _integer(1, 2**32),
    "max_blob_bytes": _integer(1, 1 << 30),
    "fetch_bytes": _fetch_bytes,
    "consistency": _consistency,
    "stall_timeout_s": _seconds,
    "reconnect_timeout_s": _seconds,
}
assert list(_CHECKS) == [field.name for field in fields(Config)]

_OPTIONAL = (_optional_name, _label, _workers, _slots, _fetch_bytes)
_FLAGS = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}


def _checked(name: str, value: Any, source: str) -> Any:
    try:
        return _CHECKS[name](value)
    except (ValueError, TypeError) as error:
        # A URL that cannot be read cannot be shown either: who knows where its password is.
        shown = "" if isinstance(value, str) and name == "url" else f"={value!r}"
        raise ConfigError(f"{source}{shown} {error}") from None


def _parse(name: str, text: str, variable: str) -> Any:
    """The value that a variable's text stands for, as an argument would have it."""
    kind = _CHECKS[name]
    text = text.strip()
    if text.lower() in ("none", "auto") and kind in _OPTIONAL:
        return None
    try:
        if kind is _flag:
            return _FLAGS[text.lower()]
        if kind is _size:
            return tuple(int(side) for side in text.lower().replace("x", ",").split(","))
        if kind is _label:
            names = [part.strip() for part in text.split(",")]
            return names if len(names) > 1 else names[0]
        if kind in (parse_url, _name, _optional_name, _on_error, _consistency):
            return text
        return float(text) if kind is _seconds else int(text)
    except (ValueError, KeyError):
        wanted: dict[Any, str] = {_flag: "1 or 0", _size: "HEIGHTxWIDTH", _seconds: "a number"}
        raise ConfigError(f"{variable}={text!r} must be {wanted.get(kind, 'an integer')}") from None
