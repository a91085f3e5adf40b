"""Plain data as bytes and back: how everything but arrays crosses a pipe, in every process.

Workers decode hostile bytes, so what comes from one is never unpickled and never believed:
:func:`unpack` builds only the type that it is asked for, of values of the declared types, or fails.
Plain data is None, bool, int, float, str, bytes, and lists, tuples, dicts with text keys,
dataclasses and NamedTuples of plain data.

The bytes are JSON: an object with those fields of a dataclass that differ from their defaults, a
list for a NamedTuple. JSON in ASCII carries lone surrogates, which file names and text keys may
hold and which UTF-8, and so a library such as msgspec, does not encode. And it is imported already:
the library would add 4 % to the import of this package, in every process.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from functools import cache, partial
from types import UnionType
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from ..errors import ConfigError
from ..fields.every import kind_named
from ..fields.field import Field
from ..options.sampling import Sampling, parse_sampling
from ..options.url import DatabaseUrl

T = TypeVar("T")

Reader = Callable[[Any], Any]
"""Returns what a decoded JSON value stands for. Raises ValueError for a value of another type."""


def pack(value: object) -> bytes:
    """Return plain data as bytes. The URL of a database travels with its password."""
    return json.dumps(value, default=_fields).encode()


def unpack(payload: bytes, kind: type[T]) -> T:
    """Return the value of type ``kind`` that :func:`pack` wrote.

    Raises
    ------
    ValueError
        The bytes hold no such value. The message does not quote them: there may be a password.
    """
    try:
        value: T = _reader(cast(Any, kind))(json.loads(payload.decode("ascii")))
    except (ValueError, OverflowError, RecursionError) as error:
        raise ValueError(f"{len(payload)} bytes are no {kind.__name__}: {error}") from None
    return value


def _fields(record: object) -> dict[str, Any]:
    """Return what stands for a value in JSON: of a dataclass the fields that are not defaults."""
    kind: Any = type(record)
    if kind is bytes:
        return {"hex": cast(bytes, record).hex()}
    if isinstance(record, Sampling):
        return {"sampling": repr(record)}
    if isinstance(record, Field):
        return {"field": kind.__name__, **record.options()}
    if not is_dataclass(record):
        raise TypeError(f"{kind.__name__} is not plain data")
    values = {
        name: value
        for name, default in _defaults(cast(Any, kind)).items()
        if (value := getattr(record, name)) != default
    }
    # To JSON a URL is a string like others, so its secret has to be written out.
    return {n: [v, v.secret] if isinstance(v, DatabaseUrl) else v for n, v in values.items()}


@cache
def _defaults(kind: Any) -> dict[str, Any]:
    """Return the default of each field of a dataclass: MISSING where there is none."""
    return {
        field.name: field.default if field.default_factory is MISSING else field.default_factory()
        for field in fields(kind)
    }


@cache
def _reader(hint: Any) -> Reader:
    """Return the reader of a type. Raises TypeError for one that is not plain data."""
    kind, parts = get_origin(hint) or hint, get_args(hint)
    if kind is DatabaseUrl:
        return _row(DatabaseUrl, (str, str))
    if kind is Field:
        return _field
    if kind is Sampling:
        return lambda value: parse_sampling(_checked(str, _checked(dict, value).get("sampling")))
    if kind in _READERS:
        return _READERS[kind](kind, parts)
    if is_dataclass(kind):
        return _record(kind)
    if hasattr(kind, "_fields"):
        hints = get_type_hints(kind)
        return _row(kind, [hints[name] for name in kind._fields])
    raise TypeError(f"{hint} is not plain data")


def _field(value: Any) -> Field:
    """Return the field that :func:`_fields` wrote. Its class checks the options."""
    options = {name: its for name, its in _checked(dict, value).items() if name != "field"}
    try:
        return kind_named(_checked(str, value.get("field")))(**options)
    except (ConfigError, TypeError) as error:
        raise ValueError(f"no field: {error}") from None


def _checked(kind: type, value: Any) -> Any:
    """Return the value, whose type is ``kind``. Raises ValueError for another."""
    if type(value) is not kind:
        raise ValueError(f"{kind.__name__} expected, got {type(value).__name__}")
    return value


def _scalar(kind: type, _: Any) -> Reader:
    return partial(_checked, kind)


def _float(*_: Any) -> Reader:
    return lambda value: value if type(value) is float else float(_checked(int, value))


def _bytes(*_: Any) -> Reader:
    return lambda value: bytes.fromhex(_checked(str, _checked(dict, value).get("hex")))


def _either(_: type, parts: Sequence[Any]) -> Reader:
    readers = [_reader(part) for part in parts]

    def read(value: Any) -> Any:
        for read_one in readers:
            try:
                return read_one(value)
            except ValueError as error:
                reason = str(error)
        raise ValueError(reason)

    return read


def _literal(_: type, parts: Sequence[Any]) -> Reader:
    def read(value: Any) -> Any:
        if value not in parts:
            raise ValueError(f"one of {parts} expected")
        return value

    return read


def _list(_: type, parts: Sequence[Any]) -> Reader:
    read_one = _reader(parts[0])

    def read(value: Any) -> list[Any]:
        return [read_one(item) for item in _checked(list, value)]

    def read_texts(value: Any) -> list[str]:
        values: list[str] = _checked(list, value)
        if not {str}.issuperset(map(type, values)):
            raise ValueError("a list of str expected")
        return values

    # A text column has a value for each row, so it is checked in one call.
    return read_texts if parts[0] is str else read


def _tuple(kind: type, parts: Sequence[Any]) -> Reader:
    if parts[1:] != (...,):
        return _row(lambda *values: values, parts)
    read = _list(kind, parts)
    return lambda value: tuple(read(value))


def _dict(_: type, parts: Sequence[Any]) -> Reader:
    read_one = _reader(parts[1])
    return lambda value: {name: read_one(item) for name, item in _checked(dict, value).items()}


def _row(make: Callable[..., Any], parts: Sequence[Any]) -> Reader:
    """Return the reader of a list that has one value for each of ``parts``."""
    readers, types = [_reader(part) for part in parts], tuple(parts)

    def read(value: Any) -> Any:
        if len(_checked(list, value)) != len(readers):
            raise ValueError(f"{len(readers)} values expected, got {len(value)}")
        if tuple(map(type, value)) == types:  # only scalars, as in the rows that every batch has
            return make(*value)
        return make(*[read_one(item) for read_one, item in zip(readers, value, strict=True)])

    return read


def _record(kind: Any) -> Reader:
    """Return the reader of a dataclass."""
    hints = get_type_hints(kind)
    required = {name for name, default in _defaults(kind).items() if default is MISSING}

    def read(value: Any) -> Any:
        if not required <= _checked(dict, value).keys() <= hints.keys():
            raise ValueError(f"the fields of {kind.__name__} expected")
        # Only fields that occur get a reader: a configuration has fifty, most at their defaults.
        return kind(**{name: _reader(hints[name])(item) for name, item in value.items()})

    return read


_READERS: dict[Any, Callable[[Any, Any], Reader]] = {
    **dict.fromkeys((bool, int, str, type(None)), _scalar),
    float: _float,
    bytes: _bytes,
    Literal: _literal,
    list: _list,
    tuple: _tuple,
    **dict.fromkeys((dict, Mapping), _dict),
    **dict.fromkeys((Union, UnionType), _either),
}
"""What makes the reader of a type, by the type without its parameters."""
