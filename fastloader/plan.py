"""Keys become batches, batches become key ranges: pure functions of the sorted key column.

Batch ``j`` is the same whatever the number of workers; it belongs to worker ``j % workers``.
"""

from __future__ import annotations

from dataclasses import dataclass

from .errors import PlanError
from .keys import Key, Keys, key_values

KeyRange = tuple[Key, Key]
"""The first and the last key of a run of planned keys, both inclusive."""


def check_keys(keys: Keys, where: str) -> None:
    """Raises PlanError unless there are keys and each is another than the one before.

    keys: sorted. where: what they are, for the message.
    """
    if len(keys) == 0:
        raise PlanError(f"{where}: there are no rows to load")
    same = keys[1:] == keys[:-1]
    if same.any():
        i = int(same.argmax())
        times = int((keys == keys[i]).sum())
        raise PlanError(
            f"{where}: {times} rows have the key {key_values(keys[i : i + 1])[0]}; keys must be "
            f"unique. Use a column with unique values as key, such as the primary key, or SQLite's "
            f"rowid"
        )
    if keys.dtype.kind == "i" and not (keys[1:] > keys[:-1]).all():
        raise PlanError(f"{where}: keys came out of order")


@dataclass(frozen=True)
class Plan:
    """The batches of an epoch.

    rows: of the table; the plan deals in positions in its sorted key column.
    batch_size: rows in every batch but perhaps the last.
    drop_remainder: leave the last batch out if it has fewer.
    """

    rows: int
    batch_size: int
    drop_remainder: bool = False

    def __len__(self) -> int:
        """Batches in an epoch."""
        whole, rest = divmod(self.rows, self.batch_size)
        return whole + (rest > 0 and not self.drop_remainder)

    def positions(self, batch: int) -> slice:
        """Where the batch's keys stand in the key column, in the order of delivery."""
        return slice(batch * self.batch_size, min((batch + 1) * self.batch_size, self.rows))

    def batches_of(self, worker: int, workers: int, first: int = 0) -> range:
        """The batches of one worker, ascending, from ``first`` on."""
        skipped = max(0, -(-(first - worker) // workers))
        return range(worker + skipped * workers, len(self), workers)


def key_ranges(keys: Keys) -> list[KeyRange]:
    """The ranges to read for a batch of these keys, in its order."""
    first, last = key_values(keys[[0, -1]])
    return [(first, last)]
