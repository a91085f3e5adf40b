"""What `transform=` takes: functions for rows and for batches, and what they deliver."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ..checks.kinds import SHAPE, number_type
from ..errors import ConfigError
from ..fields.columns import BYTES_OF, Column
from .sending import check_parameters, name_of, pickled

Outputs = Mapping[str, "Spec | None"]


@dataclass(frozen=True)
class Spec:
    """The type and the shape of an entry that a transform delivers.

    Parameters
    ----------
    dtype : str or dtype
        An integer or float type of NumPy's, ``"bool"``, ``"bfloat16"``, or ``"text"``, ``"bytes"``
        or ``"json"``.
    shape : tuple of int, default ()
        The shape of a row's value. ``None`` as its first size means that the rows differ: the batch
        then holds a :class:`Ragged`.
    part : {"x", "y"}, default "x"
        Where a new entry goes: with the inputs, or with the labels. An entry that exists stays
        where it is.

    Raises
    ------
    ConfigError
        There is no such type or shape.

    Examples
    --------
    >>> from fastloader import Spec
    >>> Spec("float32", (10,))
    Spec(dtype='float32', shape=(10,), part='x')
    """

    dtype: str
    shape: tuple[int | None, ...] = ()
    part: Literal["x", "y"] = "x"

    def __post_init__(self) -> None:
        if self.part not in ("x", "y"):
            raise ConfigError(f'Spec: part={self.part!r} must be "x" or "y"')
        try:
            dtype = self.dtype
            if dtype not in (*BYTES_OF, "bfloat16"):
                dtype = number_type(dtype)
            sizes = (self.shape,) if isinstance(self.shape, int) else tuple(self.shape)
            ragged = sizes[:1] if sizes[:1] == (None,) else ()
            shape = (*ragged, *SHAPE.check(sizes[len(ragged) :]))
        except (ValueError, TypeError) as error:
            raise ConfigError(f"Spec: {self.dtype!r}, {self.shape!r}: {error}") from None
        if dtype in BYTES_OF and shape:
            raise ConfigError(f"Spec: {dtype!r} has no shape: each row has one value")
        object.__setattr__(self, "dtype", dtype)
        object.__setattr__(self, "shape", shape)

    def column(self, name: str) -> Column:
        """Return the column of a batch with this name."""
        return Column(name, self.dtype, self.shape)


@dataclass(frozen=True)
class Step:
    """One function of a transform. Make it with :func:`per_row` or :func:`per_batch`.

    Attributes
    ----------
    scope
        Whether it gets a row or a batch.
    name
        What messages call the function.
    pickled
        The function, as cloudpickle writes it.
    outputs
        The entries that it adds or changes, as far as they were declared; None for one that it
        removes.
    drops
        Whether it may drop rows.
    """

    scope: Literal["row", "batch"]
    name: str
    pickled: bytes = field(repr=False)
    outputs: Mapping[str, Spec | None] = field(default_factory=dict)
    drops: bool = False

    def __repr__(self) -> str:
        return f"per_{self.scope}({self.name})"


def per_row(
    function: Callable[..., Any], *, outputs: Outputs | None = None, drops: bool = False
) -> Step:
    """Have a function run on each row, in the workers.

    It is called as ``function(row, rng)``, or as ``function(row)`` if it takes one argument. A bare
    function in `transform` is the same as ``per_row(function)``.

    Parameters
    ----------
    function
        Gets a dict of the entries of the row by their names, and a ``numpy.random.Generator`` that
        depends on nothing but the seed, the epoch and the row's key. The arrays are views of the
        batch. The function may change them, put other values into the dict, and return the dict, a
        new dict, or None, which means the dict that it was given. :data:`DROP` drops the row.
    outputs
        The entries that it adds or changes, as :class:`Spec`; None for those that it removes. What
        is left out here is found by running the function on a few rows.
    drops
        Whether the function may return :data:`DROP`. Batches may then have fewer rows.

    Raises
    ------
    ConfigError
        The function cannot be sent to the workers.
    """
    return _step("row", function, outputs, drops=drops)


def per_batch(function: Callable[..., Any], *, outputs: Outputs | None = None) -> Step:
    """Have a function run on each batch, in the workers.

    It is called as ``function(batch, rng)``, or as ``function(batch)``.

    Parameters
    ----------
    function
        Gets a dict of the entries of the batch by their names: arrays of shape (n, ...) over the
        batch, :class:`Ragged` for rows of different sizes, and arrays of objects for text, bytes
        and JSON. It returns the dict, a new one, or None, as for :func:`per_row`. The number of
        rows must stay the same.
    outputs
        As for :func:`per_row`.

    Raises
    ------
    ConfigError
        The function cannot be sent to the workers.
    """
    return _step("batch", function, outputs, drops=False)


def _step(
    scope: Literal["row", "batch"],
    function: Callable[..., Any],
    outputs: Outputs | None,
    *,
    drops: bool,
) -> Step:
    if not callable(function):
        raise ConfigError(f"per_{scope}: {function!r} is not a function")
    for name, spec in (outputs or {}).items():
        if not isinstance(name, str) or not (spec is None or isinstance(spec, Spec)):
            raise ConfigError(
                f"per_{scope}: outputs must be a dict from names to Spec or None, such as "
                f'{{"image": Spec("float32", (3, 224, 224))}}'
            )
    check_parameters(function, scope)
    return Step(scope, name_of(function), pickled(function), dict(outputs or {}), drops)


class _Drop:
    """The type of DROP, which stays one object when it is pickled."""

    def __repr__(self) -> str:
        return "DROP"

    def __reduce__(self) -> str:
        return "DROP"


DROP = _Drop()
"""What a function of `per_row` returns to leave a row out of its batch."""
