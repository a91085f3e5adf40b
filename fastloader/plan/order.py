"""The order of an epoch: a keyed permutation of blocks of rows, evaluated where it is needed.

Only some small tables are stored, so every worker can compute its own batches of any epoch, from
any batch on, at once and in little memory. A stored permutation of 10 million rows would take 80 MB
in each worker, and a second at the start of each epoch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Positions = NDArray[np.int64]
"""Positions of rows in the sorted key column, (n,)."""

Draws = NDArray[np.uint64]
"""Numbers that tell the times apart that a row comes in an epoch, (n,)."""

ROUNDS = 24
"""Rounds of the Feistel network. All permutations of few blocks must be equally likely. Those of 6
blocks are after 16 to 20 rounds (chi-squared over 100,000 seeds); more blocks need fewer rounds."""


class Rows(NamedTuple):
    """Some rows of an epoch.

    Attributes
    ----------
    positions
        Where they stand in the key column, (n,).
    draws
        The number of each row's draw, which its random crop, flip and transform depend on; None
        where each row comes once, which stands for 0.
    """

    positions: Positions
    draws: Draws | None = None

    def at(self, places: slice | NDArray[np.int64]) -> Rows:
        """Return those of the rows that are at some places."""
        return Rows(self.positions[places], None if self.draws is None else self.draws[places])


class Order(Protocol):
    """Which rows an epoch has, and in which order they are delivered.

    It is a pure function, and does not depend on batches, shards or workers.

    Attributes
    ----------
    rows
        The number of rows in an epoch.
    """

    @property
    def rows(self) -> int:
        """The number of rows in an epoch."""

    def __call__(self, epoch: int, numbers: Positions) -> Rows:
        """Return the rows with these numbers, (n,), in the order of delivery."""

    def with_rows(self, rows: int) -> Order:
        """Return the order with this number of rows in an epoch."""

    def about(self) -> Mapping[str, Any]:
        """Return what the order is a function of, apart from the keys, ready for JSON."""


class Permutation:
    """A permutation of 0 .. n - 1 that depends on nothing but the random numbers.

    It is a Feistel network over pairs (i // b, i % b) with random tables as round functions. A
    result outside 0 .. n - 1 goes through the network again until it is inside. Sources: Luby and
    Rackoff, "How to construct pseudorandom permutations from pseudorandom functions" (1988); Black
    and Rogaway, "Ciphers with arbitrary finite domains" (2002), methods 2 and 3.

    Parameters
    ----------
    n
        The number of elements.
    random
        Where the random tables come from.
    """

    def __init__(self, n: int, random: np.random.Philox) -> None:
        self._n = n
        high = math.isqrt(max(n - 1, 0)) + 1
        # With two odd sides, each round would be an even permutation, and so would the whole.
        high += high % 2
        self._low = low = max(1, -(-n // high))
        self._sides = (high, low)
        raw = random.random_raw((ROUNDS, max(high, low)))
        # Of 64 bits modulo a side below 2^32, the probabilities of residues differ by under 2^-32.
        self._tables = [
            (row % np.uint64(self._sides[i % 2])).view(np.int64) for i, row in enumerate(raw)
        ]

    def __call__(self, numbers: Positions) -> Positions:
        """Return where each of these numbers goes, int64 (n,)."""
        out = np.array(numbers, np.int64)
        pending = np.arange(len(out))
        while len(pending):
            halves = list(np.divmod(out[pending], self._low))
            for i, table in enumerate(self._tables):
                halves[i % 2] = (halves[i % 2] + table[halves[1 - i % 2]]) % self._sides[i % 2]
            out[pending] = halves[0] * self._low + halves[1]
            pending = pending[out[pending] >= self._n]
        return out


def mixed(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return a hash of each number, uint64 (n,). That of 0 is 0, and no two are the same.

    It is the last step of MurmurHash3 (Austin Appleby, 2011), ``fmix64``.
    """
    with np.errstate(over="ignore"):
        out = numbers ^ (numbers >> np.uint64(33))
        out *= np.uint64(0xFF51AFD7ED558CCD)
        out ^= out >> np.uint64(33)
        out *= np.uint64(0xC4CEB9FE1A85EC53)
        out ^= out >> np.uint64(33)
    return out


def permuted(numbers: Positions, sizes: Positions, keys: NDArray[np.uint64]) -> Positions:
    """Return where each number goes in a permutation of its own, int64 (n,).

    Each is a :class:`Permutation` whose tables are replaced by a hash, because there may be as many
    permutations as numbers.

    Parameters
    ----------
    numbers
        The numbers, each from 0 to its size - 1.
    sizes
        The number of elements of each permutation, from 1 to 2^52.
    keys
        Equal sizes and keys are the same permutation.
    """
    high = np.ceil(np.sqrt(sizes)).astype(np.int64)
    high += high % 2
    low = -(-sizes // high)
    sides = high.view(np.uint64), low.view(np.uint64)
    out = np.array(numbers, np.int64)
    pending = np.arange(len(out))
    while len(pending):
        own = keys[pending]
        size = [side[pending] for side in sides]
        halves = [*np.divmod(out[pending].view(np.uint64), size[1])]
        for i in range(ROUNDS):
            other = halves[1 - i % 2]
            drawn = mixed(own ^ mixed(other * np.uint64(ROUNDS) + np.uint64(i + 1)))
            halves[i % 2] = (halves[i % 2] + drawn % size[i % 2]) % size[i % 2]
        out[pending] = (halves[0] * size[1] + halves[1]).view(np.int64)
        pending = pending[out[pending] >= sizes[pending]]
    return out


def spread(rows: int, most: int) -> Positions:
    """Return the positions of at most ``most`` rows, from the first to the last, evenly spread."""
    return np.linspace(0, rows - 1, min(most, rows), dtype=int)


class Shuffled:
    """The rows of an epoch as blocks of consecutive rows, in a random order of blocks.

    The grid of the blocks starts at a random row and wraps around the end of the table, so each
    epoch has other blocks. The remaining ``rows % block`` rows are a short block, which comes at a
    random place among the others.

    Parameters
    ----------
    rows
        The number of rows of the table.
    block
        The number of rows of a block. With 1, all orders are equally likely.
    seed, epoch
        Numbers from 0 to 2^64 - 1. The order is a function of these four numbers.
    """

    def __init__(self, rows: int, block: int, seed: int, epoch: int) -> None:
        # NumPy only promises that the bit streams of its generators never change (NEP 19), so
        # nothing else of them is used here.
        random = np.random.Philox(key=np.array([seed, epoch], np.uint64))
        self._rows, self._block = rows, block
        blocks, self._short = divmod(rows, block)
        first, short_at = (int(number) for number in random.random_raw(2))
        self._first = first % rows
        self._short_begin = short_at % (blocks + 1) * block
        self._permutation = Permutation(blocks, random)

    def __call__(self, wanted: Positions) -> Positions:
        """Return the positions of the rows with these numbers in the order of delivery."""
        inside = (wanted >= self._short_begin) & (wanted < self._short_begin + self._short)
        whole = wanted - np.where(wanted < self._short_begin, 0, self._short)
        block, row = np.divmod(whole[~inside], self._block)
        places = np.empty(len(wanted), np.int64)
        places[~inside] = self._permutation(block) * self._block + row
        places[inside] = self._rows - self._short + wanted[inside] - self._short_begin
        return (places + self._first) % self._rows


# A loader uses two orders at a time, because it fetches the next epoch while it decodes this one. A
# process may have several loaders.
shuffled = lru_cache(maxsize=8)(Shuffled)


@dataclass(frozen=True)
class Uniform:
    """Each row of the table once, and once more, without an end: an epoch is a part of that.

    Attributes
    ----------
    table_rows
        The number of rows of the table.
    shuffle
        Go through the table in another order each time, of blocks of ``block`` rows.
    block
        The number of rows of a block.
    seed
        The seed of the order.
    epoch_rows
        The number of rows in an epoch; None for those of the table.
    """

    table_rows: int
    shuffle: bool = False
    block: int = 1
    seed: int = 0
    epoch_rows: int | None = None

    @property
    def rows(self) -> int:
        """The number of rows in an epoch."""
        return self.table_rows if self.epoch_rows is None else self.epoch_rows

    def __call__(self, epoch: int, numbers: Positions) -> Rows:
        """Return the rows with these numbers, (n,), in the order of delivery."""
        if self.rows == self.table_rows:
            return Rows(self._positions(epoch, numbers))
        first, begin = divmod(epoch * self.rows, self.table_rows)
        turns, numbers = np.divmod(numbers + begin, self.table_rows)
        positions = np.empty(len(numbers), np.int64)
        for turn in np.unique(turns).tolist():
            its = turns == turn
            positions[its] = self._positions(first + turn, numbers[its])
        return Rows(positions, turns.view(np.uint64))

    def _positions(self, turn: int, numbers: Positions) -> Positions:
        if not self.shuffle:
            return numbers
        return shuffled(self.table_rows, self.block, self.seed, turn % 2**64)(numbers)

    def with_rows(self, rows: int) -> Uniform:
        """Return the order with this number of rows in an epoch."""
        return replace(self, epoch_rows=rows)

    def about(self) -> Mapping[str, Any]:
        """Return what the order is a function of, apart from the keys, ready for JSON."""
        about: dict[str, Any] = {
            "shuffle": self.shuffle,
            "shuffle_block": self.block if self.shuffle else 1,
            "seed": self.seed,
        }
        return about if self.epoch_rows is None else {**about, "epoch_rows": self.epoch_rows}
