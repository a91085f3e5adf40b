"""How a function reaches the workers: by the name of its module, or by value with cloudpickle.

A function of a module that the workers can import goes by name. Any other one, of a script, a
notebook or another function, goes by value, with the variables that it uses. All of it travels from
the training process to the workers. Nothing that a worker sends is ever unpickled.
"""

from __future__ import annotations

import functools
import inspect
import io
from collections import ChainMap
from collections.abc import Callable, Iterator
from types import CodeType
from typing import Any, ClassVar

from ..errors import ConfigError

NO_FILE = "<dynamic-code>"
"""What cloudpickle has in place of the name of a file."""


def name_of(function: Any) -> str:
    """Return what messages call a function: its name, or that of its class."""
    while isinstance(function, functools.partial):
        function = function.func
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    return str(name).rpartition("<locals>.")[2]


def pickled(function: Any) -> bytes:
    """Return a function as bytes.

    Raises
    ------
    ConfigError
        It cannot be sent. The message says which part of it cannot.
    """
    try:
        return _dumped(function)
    except Exception as error:
        culprit = next(_culprits(function), "")
        raise ConfigError(
            f"transform: {name_of(function)} cannot be sent to the workers: {culprit or error}. "
            f"Make what cannot be pickled (files, locks, connections, generators) inside the "
            f"function, when it is first called"
        ) from None


def unpickled(data: bytes) -> Callable[..., Any]:
    """Return the function that the training process has sent."""
    import cloudpickle

    function: Callable[..., Any] = cloudpickle.loads(data)
    return function


def _dumped(value: Any) -> bytes:
    import cloudpickle  # here, because most loaders have no transform

    reducers = cloudpickle.Pickler.dispatch_table

    def with_file(code: CodeType) -> tuple[Any, ...]:
        """Keep the name of the file, which cloudpickle leaves out, for tracebacks."""
        make, arguments, *rest = reducers[CodeType](code)
        named = tuple(code.co_filename if its == NO_FILE else its for its in arguments)
        return make, named, *rest

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # mypy does not follow it
        dispatch_table: ClassVar[Any] = ChainMap({CodeType: with_file}, reducers)

    out = io.BytesIO()
    Pickler(out).dump(value)
    return out.getvalue()


def _culprits(function: Any) -> Iterator[str]:
    """Yield what cannot be sent of the variables that a function uses."""
    while isinstance(function, functools.partial):
        yield from _unsendable({f"argument {i}": x for i, x in enumerate(function.args)})
        yield from _unsendable(function.keywords)
        function = function.func
    owner = getattr(function, "__self__", None)
    for one in (function, owner):
        yield from _unsendable({f"self.{n}": x for n, x in getattr(one, "__dict__", {}).items()})
    code = getattr(function, "__func__", function)
    if inspect.isfunction(code):
        used = inspect.getclosurevars(code)
        yield from _unsendable({**used.nonlocals, **used.globals})


def _unsendable(values: dict[str, Any]) -> Iterator[str]:
    for name, value in values.items():
        try:
            _dumped(value)
        except Exception as error:
            yield f"its variable {name!r} is a {type(value).__qualname__} ({error})"


def takes_rng(function: Callable[..., Any]) -> bool:
    """Return whether a function is called with a row or batch and ``rng``, or with one argument."""
    return len(_required(function)) > 1


def check_parameters(function: Callable[..., Any], scope: str) -> None:
    """Raise ConfigError if a function cannot be called with one or two arguments."""
    required = _required(function)
    if len(required) > 2 or required == ["*"]:
        raise ConfigError(
            f"transform: {name_of(function)} must take one argument, the {scope}, or two: the "
            f"{scope} and a random generator, as in def function({scope}, rng)"
        )


def _required(function: Callable[..., Any]) -> list[str]:
    """Return the names of the arguments to pass; ``["*"]`` if it takes none but keywords."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (ValueError, TypeError):  # some functions in C do not tell
        return ["row"]
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    positional = [parameter for parameter in parameters if parameter.kind in kinds]
    if not positional:
        takes_any = any(p.kind is p.VAR_POSITIONAL for p in parameters)
        return ["row"] if takes_any else ["*"]
    others = (p.name for p in positional[1:] if p.default is p.empty or p.name == "rng")
    return [positional[0].name, *others]
