"""What an adapter takes batches from.

Adapters are imported by the loader's ``as_dataset()``, ``as_torch()`` and ``as_jax()``; so they
cannot import it in turn. They name this protocol instead, which the loader implements: the part of
its public interface that adapters use, and one thing more, its :class:`Delivery`. A framework that
pulls batches in a way of its own needs the engine below the public interface: tf.data begins an
epoch in one place and draws its batches in others, Keras counts what training has taken, CUDA pins
the rings. That engine exists already and has a name, so the protocol hands it out as it is, instead
of a second interface that repeats its methods.

``delivery`` has no underscore, because other modules of this package may use it, and it is no
public interface: it may change in any release.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from ..fields.columns import Column
from ..observe.stats import Stats
from ..options.config import Config
from .delivery import Delivery
from .epoch import Epoch


class BatchSource(Protocol):
    """A loader as its adapters see it. The methods are those of :class:`fastloader.FastLoader`."""

    @property
    def config(self) -> Config:
        """The options in force."""

    @property
    def columns(self) -> tuple[Column, ...]:
        """The label columns, with their types."""

    @property
    def key_columns(self) -> tuple[Column, ...]:
        """The column of keys in a batch."""

    @property
    def delivery(self) -> Delivery:
        """The engine behind the loader."""

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""

    def __iter__(self) -> Iterator[Any]:
        """Begin the next epoch."""

    def __call__(self) -> Iterator[Any]:
        """Begin the next epoch for a consumer that pulls batches before it wants them."""

    def epoch(self, number: int) -> Epoch:
        """Return the batches of an epoch."""

    def peek(self) -> Any:
        """Return a copy of the batch that comes next."""

    def state_dict(self, *, consumed: int | None = None) -> dict[str, Any]:
        """Return the state that resumes the loader."""

    def load_state_dict(self, state: Mapping[str, Any], *, elastic: bool = False) -> None:
        """Resume from a state."""

    def stats(self) -> Stats:
        """Return what the loader has done so far."""
