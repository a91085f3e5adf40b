"""``loader.stats()`` as metrics for Prometheus, and whatever else reads OpenMetrics.

This module imports prometheus_client, because its class is a collector. No other module of the
package imports it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import weakref
from collections.abc import Iterator
from typing import Any

try:
    from prometheus_client.core import (
        REGISTRY,
        CollectorRegistry,
        CounterMetricFamily,
        GaugeMetricFamily,
    )
    from prometheus_client.registry import Collector
except ImportError as error:
    raise ImportError(
        f"fastloader.adapters.prometheus needs prometheus_client ({error}). Run: pip install "
        f"'fastloader[prometheus]'"
    ) from error

from ..consumer.batch_source import BatchSource
from ..errors import ClosedError
from ..observe.stats import Stages, Stats

HELP = {
    "epochs": "Iterations begun.",
    "batches": "Batches handed to the consumer.",
    "rows": "Rows handed to the consumer.",
    "leases": "Batches handed over without a copy.",
    "copies": "Batches copied because the consumer kept too many.",
    "bad_rows": "Rows that were dropped or filled.",
    "partial_rows": "Rows with an image that ends early or is damaged.",
    "dropped_rows": "Rows that a transform has dropped.",
    "passed_over": "Rows that appeared after the keys had been read.",
    "restarts": "Workers replaced after they had died.",
    "reconnects": "Connections to the database made again.",
    "cached_rows": "Rows that came out of the cache.",
}

GAUGES = {
    "leased": "Batches over the ring that the consumer holds.",
    "rows_added": "Rows that the table has gained since the loader was made.",
}


class LoaderCollector(Collector):  # type: ignore[misc]  # prometheus_client may not be there
    """Collects the metrics of any number of loaders.

    The metrics are ``fastloader_rows_total`` and so on,
    ``fastloader_stage_seconds_total{stage="decode"}``, ``fastloader_pictures_total{format="JPEG"}``
    and ``fastloader_leased``, each with the label ``loader``. The collector asks the loaders when
    Prometheus asks it, and costs nothing in between. It holds no reference to them: a loader that
    is gone is left out.

    Parameters
    ----------
    registry
        The registry to register with; None for none.
    **loaders
        The loaders, by the value of their label.

    Examples
    --------
    >>> from prometheus_client import CollectorRegistry, generate_latest
    >>> registry = CollectorRegistry()
    >>> collector = LoaderCollector(train=loader, registry=registry)
    >>> print(generate_latest(registry).decode())  # doctest: +ELLIPSIS
    # HELP fastloader_epochs_total Iterations begun.
    # TYPE fastloader_epochs_total counter
    fastloader_epochs_total{loader="train"} 0.0
    ...

    Without ``registry`` it is the default one, which ``start_http_server(9000)`` serves.
    """

    def __init__(
        self, *, registry: CollectorRegistry | None = REGISTRY, **loaders: BatchSource
    ) -> None:
        self._loaders = {name: weakref.ref(loader) for name, loader in loaders.items()}
        if registry is not None:
            registry.register(self)

    def describe(self) -> list[Any]:
        """Return the names without values, so that registering asks no loader."""
        return list(self._metrics({}))

    def collect(self) -> Iterator[Any]:
        """Yield the metrics of the loaders that still exist and belong to this process."""
        stats = {}
        for name, reference in self._loaders.items():
            loader = reference()
            with contextlib.suppress(ClosedError):  # in a fork
                if loader is not None:
                    stats[name] = loader.stats()
        return self._metrics(stats)

    @staticmethod
    def _metrics(stats: dict[str, Stats]) -> Iterator[Any]:
        for name, text in HELP.items():
            counter = CounterMetricFamily(f"fastloader_{name}", text, labels=["loader"])
            for loader, its in stats.items():
                counter.add_metric([loader], getattr(its, name))
            yield counter
        stages = CounterMetricFamily(
            "fastloader_stage_seconds", "Seconds of each stage.", labels=["loader", "stage"]
        )
        for loader, its in stats.items():
            for field in dataclasses.fields(Stages):
                stage = field.name.removesuffix("_s")
                stages.add_metric([loader, stage], getattr(its, field.name))
        yield stages
        pictures = CounterMetricFamily(
            "fastloader_pictures", "Decoded pictures.", labels=["loader", "format"]
        )
        for loader, its in stats.items():
            for name, found in its.pictures.items():
                pictures.add_metric([loader, name], found.decoded)
        yield pictures
        for name, text in GAUGES.items():
            gauge = GaugeMetricFamily(f"fastloader_{name}", text, labels=["loader"])
            for loader, its in stats.items():
                gauge.add_metric([loader], getattr(its, name))
            yield gauge
