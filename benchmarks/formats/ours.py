"""fastloader in the case ``formats``: the same views and measurement as the peers, from a table.

``python -m benchmarks.formats.ours URL --mode jpeg --view random`` prints one line of JSON.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from ..measure import BATCH, SIZE, cores
from .peers.shared import KEPT, measured

VIEWS: dict[str, dict[str, Any]] = {
    "random": {"fit": "random_crop", "flip": True},
    "center": {"fit": "crop", "crop_fraction": KEPT},
}


def main() -> None:
    from fastloader import FastLoader

    arguments = argparse.ArgumentParser(prog="python -m benchmarks.formats.ours")
    arguments.add_argument("url")
    arguments.add_argument("--mode", choices=("jpeg", "raw"), required=True)
    arguments.add_argument("--view", choices=VIEWS, required=True)
    arguments.add_argument("--seconds", type=float, default=2.0)
    options = arguments.parse_args()
    more = VIEWS[options.view] | ({"cache": "ram"} if options.mode == "raw" else {})
    with FastLoader(
        options.url, batch_size=BATCH, size=SIZE, workers=cores(), shuffle=True, **more
    ) as loader:
        print(json.dumps(measured(loader, options.seconds)))


if __name__ == "__main__":
    main()
