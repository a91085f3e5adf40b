"""Random numbers for a transform, which depend on the row and not on who makes it when."""

from __future__ import annotations

import contextlib
import random
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

ROW, BATCH = 1, 2
"""What the numbers are for: the row with a key, or the batch whose first row has it."""


class Draws:
    """The generator that a transform gets, and those of libraries that have a global one.

    Philox, "Parallel random numbers: as easy as 1, 2, 3" (Salmon et al., 2011), makes its numbers
    of a key, here the seed and the epoch, and of a counter. So no other state can be lost, and the
    generator is not made anew for each row, which would take 16 us.

    Parameters
    ----------
    seed
        The seed of the loader, from 0 to 2^64 - 1.
    keeps
        Whether :meth:`borrowed` restores the global generators. A training process needs its own.

    Attributes
    ----------
    rng
        The generator.
    """

    def __init__(self, seed: int, *, keeps: bool) -> None:
        self._seed, self._keeps = seed, keeps
        self._bits = np.random.Philox(key=np.array([seed, 0], np.uint64))
        self.rng = np.random.Generator(self._bits)
        self._counter, self._key = np.zeros(4, np.uint64), np.zeros(2, np.uint64)
        self._state: Any = {**self._bits.state}
        self._state["state"] = {"counter": self._counter, "key": self._key}

    def begin(self, epoch: int, number: int, what: int) -> None:
        """Begin the numbers of a row or a batch.

        `random`, NumPy's global generator, and PyTorch's if it is imported, are seeded with the
        first of them.

        Parameters
        ----------
        epoch
            The epoch.
        number
            The number of the row's key, from 0 to 2^64 - 1.
        what
            ROW or BATCH.
        """
        self._key[0], self._key[1] = self._seed, epoch
        self._counter[1], self._counter[2] = number, what
        self._bits.state = self._state
        seed = int(self._bits.random_raw()) & 0xFFFF_FFFF
        random.seed(seed)
        np.random.seed(seed)  # it is for libraries that use it
        if (torch := _torch_generator()) is not None:
            torch.manual_seed(seed)

    @contextlib.contextmanager
    def borrowed(self) -> Iterator[None]:
        """Restore the global generators when the block ends, if they are the training's."""
        if not self._keeps:
            yield
            return
        states = random.getstate(), np.random.get_state()
        torch = _torch_generator()
        torch_state = None if torch is None else torch.get_state()
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])
            if torch is not None:
                torch.set_state(torch_state)


def _torch_generator() -> Any:
    """Return PyTorch's global generator; None if PyTorch is not imported.

    ``torch.manual_seed()`` also looks for accelerators, which takes 0.3 ms.
    """
    return getattr(sys.modules.get("torch"), "default_generator", None)
