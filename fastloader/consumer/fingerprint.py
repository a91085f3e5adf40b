"""What decides about the batches of an epoch: how a state knows the loader that it belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import StateError
from ..options.config import Config
from ..plan.keys import Keys, digest
from ..plan.plan import Plan


def fingerprint(config: Config, plan: Plan, keys: Keys) -> dict[str, Any]:
    """Return everything that decides about the batches of an epoch, ready for JSON."""
    return {
        "database": config.url.database,
        "from": config.table or config.query,
        **({} if config.where is None else {"where": [config.where, *map(repr, config.params)]}),
        **({} if config.split is None else {"split": [config.split, config.split_by]}),
        "key": config.key if isinstance(config.key, str) else list(config.key),
        "rows": len(keys),
        "keys": digest(keys),
        **plan.order.about(),
        "batch_size": plan.batch_size,
        "drop_remainder": plan.drop_remainder,
        "shard": list(plan.shard),
    }


OF_TABLE = ("rows", "keys", "classes", "weights", "epoch_rows")
"""What depends on the rows of the table; ``epoch_rows`` only if the option is not given."""

OF_BATCHES = ("batch_size", "drop_remainder", "shard")
"""What decides how the rows of an epoch are divided into batches, but not about their order."""


def check_same_plan(
    saved: Mapping[str, Any], here: Mapping[str, Any], *, elastic: bool = False
) -> None:
    """Raise StateError, which names the difference, unless two fingerprints are equal.

    With ``elastic`` they may have other batches.
    """
    its, own = saved.get("loaders", ()), here.get("loaders", ())
    if len(its) != len(own):
        raise StateError(
            f"the state is that of {_mixture_of(len(its))}, and this is {_mixture_of(len(own))}: "
            f"resume with the same loaders as then"
        )
    for number, (was, now) in enumerate(zip(its, own, strict=True), 1):
        try:
            check_same_plan(was, now)
        except StateError as error:
            raise StateError(f"loader {number} of the mixture: {error}") from None
    for name in dict.fromkeys([*here, *saved]):
        was, value = saved.get(name), here.get(name)
        if was == value or (elastic and name in OF_BATCHES):
            continue
        if name == "rows":
            what = f"the table had {was} rows when the state was saved, and has {value} now"
        elif name == "keys":
            what = "the table has other keys now than when the state was saved"
        elif name in ("classes", "weights") and was is not None and value is not None:
            what = f"rows have other {name} now than when the state was saved"
        else:
            what = f"the state was saved with {name}={was!r}, and this loader has {name}={value!r}"
        advice = (
            "resume with the table as it was, or start from the beginning"
            if name in ("rows", "keys", "classes", "weights")
            else "make the loader with the same options as then"
        )
        if name in OF_BATCHES:
            advice += ", or pass elastic=True to resume with other batches"
        raise StateError(f"{what}, so its batches are different: {advice}")


def _mixture_of(loaders: int) -> str:
    return f"a mixture of {loaders} loaders" if loaders else "a loader that is no mixture"
