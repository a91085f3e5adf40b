"""The style and size that all plots share."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..command import MACHINE, CommandError

BLUE, ORANGE, GREY, GREEN, PURPLE = "#2563a8", "#d97b29", "#9aa0a6", "#4d9a5b", "#8a63b8"

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
    """Check that matplotlib is installed, before anything is measured for a plot.

    Raises
    ------
    CommandError
        If it is not installed.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise CommandError(
            "a plot needs matplotlib; run pip install 'fastloader[plots]'", MACHINE
        ) from None


@contextlib.contextmanager
def figure(path: Path, *, columns: int = 1, height: float = 3.2) -> Iterator[Any]:
    """Yield the axes of a figure, and save it when the block ends.

    Parameters
    ----------
    path
        The file to write. Its suffix chooses the format.
    columns
        The number of axes, in a row. A single one is yielded as it is, several as an array.
    height
        The height in inches. The width is 8 inches, 880 pixels.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        made = Figure(figsize=(8, height), layout="constrained")
        FigureCanvasAgg(made)
        yield made.subplots(1, columns)
        made.savefig(path)
