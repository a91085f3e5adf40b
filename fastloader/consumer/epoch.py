"""One epoch of a loader as an iterable of its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..errors import ConfigError
from .delivery import Delivery
from .foreign import Foreign


class Epoch(Foreign):
    """The batches of one epoch, as :meth:`fastloader.FastLoader.epoch` returns them.

    The epoch begins when it is iterated, and anew each time.

    Attributes
    ----------
    number
        The number of the epoch, from 0.
    """

    def __init__(self, delivery: Delivery, number: int, keep: object) -> None:
        if isinstance(number, bool) or not hasattr(number, "__index__"):
            raise ConfigError(f"epoch {number!r} must be an integer from 0 on")
        if not 0 <= number.__index__() < 2**62:  # so that those after it have numbers, too
            raise ConfigError(f"epoch {number} must be from 0 to {2**62 - 1}")
        self.number = number.__index__()
        self._delivery = delivery
        self._keep = keep  # or a loader that is only used like this would be closed

    def __len__(self) -> int:
        """Return the number of batches in the epoch."""
        return len(self._delivery.plan)

    def __iter__(self) -> Iterator[Any]:
        return self._delivery.iterate(ahead=False, keep=self._keep, epoch=self.number)

    def __repr__(self) -> str:
        return f"epoch {self.number} of {self._keep!r}"
