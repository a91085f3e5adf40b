"""The part of a table that ``split=`` names, as limits of a number that each row has."""

from __future__ import annotations

from fractions import Fraction

SPLITS = (
    'must be START:END, two parts of the whole from 0 to 1: ":0.9" for nine tenths of the rows and '
    '"0.9:" for the others'
)

NUMBERS = 2**64
"""How many numbers a row can have."""


def split_limits(split: str) -> tuple[int, int]:
    """Return the first number of a part, and the one after its last: ``":0.5"`` is (0, 2^63).

    Parts that share a limit share no row, because the limit is exact: it is not rounded to a float.

    Raises
    ------
    ValueError
        The text names no part.
    """
    start, colon, end = split.partition(":")
    try:
        low, high = Fraction(start.strip() or 0), Fraction(end.strip() or 1)
    except (ValueError, ZeroDivisionError):
        raise ValueError(SPLITS) from None
    if not colon or not 0 <= low < high <= 1:
        raise ValueError(SPLITS)
    return int(low * NUMBERS), int(high * NUMBERS)
