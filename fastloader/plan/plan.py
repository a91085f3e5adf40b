"""Keys become batches, and batches become key ranges: pure functions of the sorted key column.

Batch ``j`` does not depend on the number of workers. It belongs to worker ``j % workers``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..errors import PlanError
from ..options.config import Config
from ..options.sampling import ClassBatch
from .keys import Key, Keys, key_parts, key_values, same
from .order import Order, Positions, Rows

KeyRange = tuple[Key, Key]
"""The first and the last key of consecutive planned keys, both inclusive."""


def check_keys(keys: Keys, where: str) -> None:
    """Raise PlanError if there are no keys, or they are not unique or not sorted.

    Parameters
    ----------
    keys
        The keys of the table.
    where
        The name of the table, for the message.
    """
    if len(keys) == 0:
        raise PlanError(f"{where}: there are no rows to load")
    again = same(keys[1:], keys[:-1])
    if again.any():
        i = int(again.argmax())
        times = int(same(keys, keys[i : i + 1]).sum())
        raise PlanError(
            f"{where}: {times} rows have the key {key_values(keys[i : i + 1])[0]}; keys must be "
            f"unique. Use a column with unique values as key, such as the primary key or the "
            f"rowid of an ordinary SQLite table"
        )
    tied = np.ones(len(keys) - 1, np.bool_)
    for part in key_parts(keys):
        if part.dtype.kind != "i":  # only the database knows the order of others
            break
        if (part[1:] < part[:-1])[tied].any():
            raise PlanError(f"{where}: the database returned the keys out of order")
        tied &= part[1:] == part[:-1]


@dataclass(frozen=True)
class Plan:
    """The batches of one shard in each epoch. All shards together deliver the rows of the order.

    A step is one batch of each shard, so all shards have the same number of batches. All steps but
    the last have ``batch_size`` rows per shard. The rows that remain for the last step are divided
    evenly. If they are fewer than the shards, the step before gives up as many rows as are missing.
    With ``drop_remainder`` the remaining rows are left out. With several shards and a
    ``batch_size`` of 1 they are too, because the step before has no rows to give up.

    Attributes
    ----------
    order
        Which rows an epoch has.
    batch_size
        The number of rows in a batch of one shard.
    drop_remainder
        Leave out the rows that do not make a whole step.
    shard
        The shard's index and the number of shards.
    first_row
        The number of rows of the order that were delivered before the first batch; see
        :meth:`rest`.
    """

    order: Order
    batch_size: int
    drop_remainder: bool = False
    shard: tuple[int, int] = (0, 1)
    first_row: int = 0

    @classmethod
    def of(cls, config: Config, order: Order) -> Plan:
        """Return the plan that the options ask for."""
        whole_only = isinstance(config.sampling, ClassBatch)
        return cls(order, config.batch_size, config.drop_remainder or whole_only, config.shard)

    def rest(self, first_row: int) -> Plan:
        """Return the plan of what is left of an epoch after its first rows."""
        return replace(self, first_row=first_row)

    @property
    def rows(self) -> int:
        """The number of rows that all shards deliver, apart from those that are left out."""
        return self.order.rows - self.first_row

    def __len__(self) -> int:
        """Return the number of batches of the shard in an epoch."""
        whole, rest = divmod(self.rows, self.batch_size * self.shard[1])
        dropped = self.drop_remainder or (self.batch_size == 1 and self.shard[1] > 1)
        if whole == 0 and rest < self.shard[1]:  # of the rest of an epoch
            return 0
        return whole + (rest > 0 and not dropped)

    def check(self, where: str) -> None:
        """Raise PlanError if a batch would be empty, or there is no batch.

        Parameters
        ----------
        where
            The name of the table, for the message.
        """
        shards = self.shard[1]
        if self.rows < shards:
            raise PlanError(f"{where}: {self.rows} rows are too few for {shards} shards")
        if len(self) == 0:
            each = f" for each of {shards} shards" if shards > 1 else ""
            raise PlanError(
                f"{where}: {self.rows} rows do not fill a batch of {self.batch_size}{each}, and "
                f"drop_remainder leaves out what does not; lower batch_size"
            )

    def numbers(self, batch: int) -> slice:
        """Return which rows, by their numbers in the order of delivery, are in a batch."""
        begin, rows = self.before(batch), self.before(batch + 1) - self.before(batch)
        index, shards = self.shard
        return slice(begin + rows * index // shards, begin + rows * (index + 1) // shards)

    def before(self, step: int) -> int:
        """Return the number of rows of the epoch that all shards have delivered before a step."""
        whole = step * self.batch_size * self.shard[1]
        if whole > self.rows:
            return self.order.rows
        is_last = self.rows - whole < self.batch_size * self.shard[1] and step < len(self)
        return self.first_row + (min(whole, self.rows - self.shard[1]) if is_last else whole)

    def read(self, epoch: int, batches: Sequence[int]) -> list[Rows]:
        """Return the rows of some batches. Many at a time take less time than one by one."""
        numbers = [self.numbers(batch) for batch in batches]
        if not numbers:
            return []
        rows = self.order(epoch, np.concatenate([np.arange(s.start, s.stop) for s in numbers]))
        found, begin = [], 0
        for some in numbers:
            end = begin + some.stop - some.start
            found.append(rows.at(slice(begin, end)))
            begin = end
        return found

    def positions(self, epoch: int, batch: int) -> Positions:
        """Return the positions of a batch's keys in the key column, in the order of delivery."""
        return self.read(epoch, [batch])[0].positions

    def batches_of(self, worker: int, workers: int, first: int = 0) -> range:
        """Return the batches of one worker in ascending order, from batch ``first`` on."""
        skipped = max(0, -(-(first - worker) // workers))
        return range(worker + skipped * workers, len(self), workers)


def key_ranges(
    keys: Keys, positions: Positions, follows: NDArray[np.bool_] | None = None
) -> list[KeyRange]:
    """Return the key ranges to read for the rows at these positions of the key column.

    There is one range for each run of consecutive positions, in the order of the positions.

    Parameters
    ----------
    follows
        For each key, whether no row of the table is between it and the one before; None if there
        never is.
    """
    if len(positions) == 0:
        return []
    is_new = np.diff(positions) != 1
    if follows is not None:
        is_new |= ~follows[positions[1:]]
    new = np.flatnonzero(is_new) + 1
    first = key_values(keys[positions[np.concatenate(([0], new))]])
    last = key_values(keys[positions[np.concatenate((new - 1, [-1]))]])
    return list(zip(first, last, strict=True))
