"""Several loaders as one, in proportions of your choice."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, get_args

from .base import Loader
from .consumer.delivery import Delivery
from .consumer.mixed import Mixers, common
from .errors import ConfigError
from .loader import FastLoader
from .options.sampling import ClassBatch
from .plan.keys import Key
from .plan.mixture import Portion, Within, divided


def mix(
    loaders: Mapping[FastLoader, float],
    *,
    epoch_rows: int | None = None,
    within: Within = "batch",
) -> Mixture:
    """Return one loader whose rows come from several, in proportion to their weights.

    It is a loader like any other: you iterate over it, or over its ``as_dataset()``,
    ``as_torch()``, ``as_jax()`` or ``as_keras()``, and it has a state, statistics and shards.

    Each loader goes through its own rows in its own order, again and again: in the next epoch of
    the mixture it goes on where this one ends. So a small table comes more often than once in an
    epoch, and a large one comes in parts. The order of an epoch is a pure function of the loaders'
    orders, the weights, and the epoch's number.

    All batches have ``batch_size`` rows. Rows at the end of an epoch that do not fill a batch of
    each shard are left out.

    The mixture iterates the loaders: nobody else may any longer. To close it is to close them.

    Parameters
    ----------
    loaders
        The loaders, and the weight of each: a number above 0. Only their proportions matter. The
        loaders must deliver the same entries, of the same types and shapes, and have the same
        `batch_size`, `shard` and `on_error`. They may read any tables and databases.
    epoch_rows
        The number of rows in an epoch, of all shards together. None takes the rows that the
        loaders have in an epoch of their own, all together.
    within
        ``"batch"`` puts rows of all loaders into each batch: in the order of the loaders, and in
        proportions that are exact in an epoch, up to one row, and even within it. Batches are
        copied once for that, and lie in memory of their own. ``"batches"`` delivers
        whole batches of one loader at a time, without a copy. They are spread evenly over the
        epoch, and all shards take the same loader at the same step.

    Raises
    ------
    ConfigError
        The loaders differ in what a batch holds or in an option above, one of them is in a mixture
        already, or a weight is so small that an epoch has no row of its loader.

    Examples
    --------
    >>> low = FastLoader("photos.db", where="label < 350", batch_size=20)
    >>> high = FastLoader("photos.db", where="label >= 350", batch_size=20)
    >>> with mix({low: 0.75, high: 0.25}) as mixture:
    ...     for images, labels in mixture:
    ...         print((labels < 350).mean())
    ...         break
    0.75
    """
    return Mixture(loaders, epoch_rows=epoch_rows, within=within)


class Mixture(Loader):
    """The loader that :func:`fastloader.mix` returns.

    Attributes
    ----------
    loaders
        The loaders of the mixture, by which their own counts can be read.
    shares
        What comes from each of them in an epoch, of all shards together: rows, or batches of each
        shard with ``within="batches"``.
    """

    def __init__(
        self, loaders: Mapping[FastLoader, float], *, epoch_rows: int | None, within: Within
    ) -> None:
        weights = _weights(loaders)
        if within not in get_args(Within):
            raise ConfigError(f'within={within!r} must be "batch" or "batches"')
        deliveries = [loader.delivery for loader in loaders]
        config = common(deliveries)
        rows = _rows(loaders, epoch_rows)
        step_rows = config.batch_size * config.shard[1]
        total, unit = (rows, "rows") if within == "batch" else (rows // step_rows, "batches")
        if within == "batch" and any(
            isinstance(loader.config.sampling, ClassBatch) for loader in loaders
        ):
            raise ConfigError(
                'batches of ClassBatch cannot be divided: mix them with within="batches"'
            )
        self.shares = divided(total, weights)
        if rows >= step_rows and 0 in self.shares:  # fewer rows are an error of the plan
            number = self.shares.index(0) + 1
            raise ConfigError(
                f"an epoch of {total} {unit} has none of loader {number}, whose weight is "
                f"{weights[number - 1]:g}: raise epoch_rows or the weight"
            )
        self.loaders = tuple(loaders)
        self._within = within
        portions = [Portion(self.shares, i, within) for i in range(len(weights))]
        super().__init__(
            Delivery(config, lambda config: Mixers(config, deliveries, portions, rows))
        )

    def load_state_dict(self, state: Mapping[str, Any], *, elastic: bool = False) -> None:
        """Have the next iteration resume where :meth:`state_dict` was called.

        See :meth:`fastloader.FastLoader.load_state_dict`. With ``within="batches"``, a mixture
        takes no state of another batch size or number of shards.
        """
        if elastic and self._within == "batches":
            raise ConfigError(
                'a mixture with within="batches" cannot resume with other batches or shards: '
                'within="batch" can'
            )
        super().load_state_dict(state, elastic=elastic)

    @property
    def bad_rows(self) -> list[tuple[Key, str]]:
        """The bad rows of all loaders so far, as (key, reason); each of ``loaders`` has its own."""
        return [row for loader in self.loaders for row in loader.bad_rows]

    @property
    def partial_rows(self) -> list[tuple[Key, str]]:
        """The partial rows of all loaders, as (key, reason); each of ``loaders`` has its own."""
        return [row for loader in self.loaders for row in loader.partial_rows]

    def _what(self) -> str:
        """See :meth:`fastloader.base.Loader._what`."""
        return f"of {len(self.loaders)} loaders"


def _weights(loaders: Mapping[FastLoader, float]) -> list[float]:
    """Return the weights. Raises ConfigError unless these are loaders and their weights."""
    if not isinstance(loaders, Mapping) or not loaders:
        raise ConfigError(
            f"mix() takes a dict from loaders to weights, such as {{pets: 0.7, street: 0.3}}, and "
            f"not {loaders!r}"
        )
    for loader, weight in loaders.items():
        if not isinstance(loader, FastLoader):
            raise ConfigError(
                f"mix() takes FastLoaders, and not {loader!r}: mix all loaders at once"
            )
        is_number = isinstance(weight, int | float) and not isinstance(weight, bool)
        if not (is_number and weight > 0 and math.isfinite(weight)):
            raise ConfigError(f"the weight {weight!r} of {loader!r} must be a number above 0")
    return list(loaders.values())


def _rows(loaders: Mapping[FastLoader, float], epoch_rows: int | None) -> int:
    if epoch_rows is None:
        return sum(loader.delivery.plan.rows for loader in loaders)
    is_number = isinstance(epoch_rows, int) and not isinstance(epoch_rows, bool)
    if not (is_number and 0 < epoch_rows < 2**53):
        raise ConfigError(f"epoch_rows={epoch_rows!r} must be a number of rows above 0")
    return epoch_rows
