"""The order of an epoch: a keyed permutation of blocks of rows, evaluated where it is needed.

Only some small tables are stored, so every worker can compute its own batches of any epoch, from
any batch on, at once and in little memory. A stored permutation of 10 million rows would take 80 MB
in each worker, and a second at the start of each epoch.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Positions = NDArray[np.int64]
"""Positions of rows in the sorted key column, (n,)."""

ROUNDS = 24
"""Rounds of the Feistel network. All permutations of few blocks must be equally likely. Those of 6
blocks are after 16 to 20 rounds (chi-squared over 100,000 seeds); more blocks need fewer rounds."""


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

    def __getitem__(self, numbers: slice) -> Positions:
        """Return the positions of the rows with these numbers in the order of delivery."""
        wanted = np.arange(numbers.start, numbers.stop)
        inside = (wanted >= self._short_begin) & (wanted < self._short_begin + self._short)
        whole = wanted - np.where(wanted < self._short_begin, 0, self._short)
        block, row = np.divmod(whole[~inside], self._block)
        places = np.empty(len(wanted), np.int64)
        places[~inside] = self._permutation(block) * self._block + row
        places[inside] = self._rows - self._short + wanted[inside] - self._short_begin
        return (places + self._first) % self._rows
