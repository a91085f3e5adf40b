"""Which rows an epoch has, and how often: what ``sampling=`` takes, apart from how it is done.

The text of each is its constructor's call, in Python, on the command line and between processes.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, fields, replace
from typing import Any

from ..errors import ConfigError

SAMPLINGS = (
    'must be "balanced", Balanced("column"), Weighted("column") or ClassBatch(classes=8, each=4)'
)


class Sampling:
    """The base of the ways to sample, which are frozen dataclasses.

    Attributes
    ----------
    column
        The column that decides. None stands for that of the label.
    """

    column: str | None

    def __post_init__(self) -> None:
        if self.column is not None and (not isinstance(self.column, str) or not self.column):
            raise ConfigError(f"sampling: column={self.column!r} must be the name of a column")

    def of(self, column: str) -> Sampling:
        """Return the same sampling by another column."""
        its: Any = self
        found: Sampling = replace(its, column=column)
        return found

    def __repr__(self) -> str:
        its: Any = self
        given = (
            f"{field.name}={value!r}"
            for field in fields(its)
            if (value := getattr(self, field.name)) != field.default
        )
        return f"{type(self).__name__}({', '.join(given)})"


@dataclass(frozen=True, repr=False)
class Balanced(Sampling):
    """All classes equally often: every run of as many rows as there are classes has each once.

    Within a class, each row comes once before any of them comes again, also across epochs.
    ``sampling="balanced"`` stands for ``Balanced()``.

    Parameters
    ----------
    column : str or None, default None
        The column of the classes, text or integers. None takes the column of the label.

    Raises
    ------
    ConfigError
        The column is no name.

    Examples
    --------
    >>> from fastloader import Balanced, FastLoader
    >>> loader = FastLoader("photos.db", sampling=Balanced("label"))
    """

    column: str | None = None


@dataclass(frozen=True, repr=False)
class Weighted(Sampling):
    """Rows in proportion to the weights in a column.

    Parameters
    ----------
    column : str
        The column of the weights: numbers from 0 on, of any scale.
    replacement : bool, default True
        True draws each row of an epoch independently of the others, as PyTorch's
        `WeightedRandomSampler` does. False spreads them evenly: a row whose share of the epoch is
        2.3 rows comes 2 or 3 times in each epoch, and 2.3 times on average.

    Raises
    ------
    ConfigError
        An option cannot have its value.

    Examples
    --------
    >>> from fastloader import FastLoader, Weighted
    >>> loader = FastLoader("photos.db", sampling=Weighted("quality", replacement=False))
    """

    column: str
    replacement: bool = True

    def __post_init__(self) -> None:
        if self.column is None:
            raise ConfigError('sampling: Weighted needs the column of the weights: Weighted("w")')
        super().__post_init__()
        if not isinstance(self.replacement, bool):
            raise ConfigError(f"sampling: replacement={self.replacement!r} must be True or False")


@dataclass(frozen=True, repr=False)
class ClassBatch(Sampling):
    """Batches of some classes, and of some rows of each of them, for losses that compare rows.

    The rows of a class stand together in the batch, and are different ones if it has so many. Its
    ``batch_size`` is ``classes * each``.

    Parameters
    ----------
    classes : int
        How many classes a batch has.
    each : int
        How many rows of each class a batch has.
    column : str or None, default None
        The column of the classes, text or integers. None takes the column of the label.

    Raises
    ------
    ConfigError
        An option cannot have its value.

    Examples
    --------
    >>> from fastloader import ClassBatch, FastLoader
    >>> loader = FastLoader("photos.db", sampling=ClassBatch(classes=8, each=4))
    >>> loader.config.batch_size
    32
    """

    classes: int
    each: int
    column: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("classes", "each"):
            value = getattr(self, name)
            if type(value) is not int or not 1 <= value <= 1_000_000:
                raise ConfigError(
                    f"sampling: {name}={value!r} must be an integer from 1 to 1000000"
                )

    @property
    def batch_size(self) -> int:
        """The number of rows in a batch."""
        return self.classes * self.each


KINDS = {kind.__name__: kind for kind in (Balanced, Weighted, ClassBatch)}


def parse_sampling(text: str) -> Sampling:
    """Return what a text such as ``balanced`` or ``Weighted("w", replacement=False)`` stands for.

    Raises
    ------
    ValueError
        It stands for nothing.
    ConfigError
        An option of it cannot have its value.
    """
    if text.strip().lower() == "balanced":
        return Balanced()
    try:
        call = ast.parse(text.strip(), mode="eval").body
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
            raise ValueError(SAMPLINGS)
        given = [ast.literal_eval(one) for one in call.args]
        named: dict[Any, Any] = {one.arg: ast.literal_eval(one.value) for one in call.keywords}
        return KINDS[call.func.id](*given, **named)
    except ConfigError:
        raise
    except (SyntaxError, ValueError, KeyError, TypeError, RecursionError, MemoryError):
        raise ValueError(SAMPLINGS) from None


def check_sampling(value: Any) -> Sampling:
    """Return a sampling, given one or its text. Raises ValueError."""
    if isinstance(value, str):
        return parse_sampling(value)
    if not isinstance(value, Sampling):
        raise ValueError(SAMPLINGS)
    return value
