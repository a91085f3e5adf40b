"""What a loader plans with: keys and order, out of the memory that the survey has written to."""

from __future__ import annotations

import io
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..options.config import Config
from ..plan.keys import Keys
from ..plan.plan import Plan
from ..transport.memory import map_array, map_keys
from .sampled import order_of
from .survey import Survey


class Planned(NamedTuple):
    """The rows of a table, and the batches that they are delivered in.

    Attributes
    ----------
    plan
        The plan of the loader's shard.
    keys
        The keys of the table in its order, (rows,).
    follows
        Which rows follow the one before in the table, (rows,); None if all do. See
        :func:`~fastloader.plan.plan.key_ranges`.
    """

    plan: Plan
    keys: Keys
    follows: NDArray[np.bool_] | None


def planned(config: Config, found: Survey, memory: io.FileIO) -> Planned:
    """Return what a survey has written. The arrays map the memory, and are read-only.

    Raises
    ------
    PlanError
        There are fewer classes than a batch has.
    """
    follows = None
    if found.follows_at:
        follows = map_array(memory, np.bool_, found.rows, found.follows_at)
    order = order_of(config, found.rows, found.sampled, memory)
    keys = map_keys(memory, found.key_dtype, found.rows)
    return Planned(Plan.of(config, order), keys, follows)
