"""What the plots share."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..command import MACHINE, CommandError

BLUE, ORANGE, GREY, GREEN = "#2563a8", "#d97b29", "#9aa0a6", "#4d9a5b"

STYLE: dict[str, Any] = {
    "figure.dpi": 110,
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "legend.frameon": False,
}


def check_plots() -> None:
    """Raises CommandError without matplotlib, before anything was measured for a plot."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise CommandError(
            "a plot needs matplotlib; run pip install 'fastloader[plots]'", MACHINE
        ) from None


@contextlib.contextmanager
def figure(path: Path, *, columns: int = 1, height: float = 3.2) -> Iterator[Any]:
    """The axes of a figure of 880 pixels, which is saved as the suffix says: one, or a row."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        made = Figure(figsize=(8, height), layout="constrained")
        FigureCanvasAgg(made)
        yield made.subplots(1, columns)
        made.savefig(path)
