"""The command ``fastloader shrink``: its arguments and what they lead to."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable
from dataclasses import replace

from ...options.config import Config, make_config
from ...options.given import UNSET
from ...options.table import OPTIONS
from ...system.machine import cores
from ..command import MACHINE, NO_CACHE, CommandError, Outcome
from ..store import opened
from .image import Shrinker
from .recipe import Recipe, libraries
from .run import Run
from .summary import data_of, text_of
from .target import SmallTable

SIDE, QUALITY = 256, 90


class Shrink:
    """Makes a second table whose images are smaller, so that every epoch decodes fewer bytes.

    Each image is decoded exactly, turned as its EXIF data asks, resized with a Lanczos filter until
    its short side has --side pixels, and encoded as a JPEG. No image becomes larger. One that is
    small enough is encoded again too, except for a JPEG that would not get smaller by it: its bytes
    are copied, as long as it needs no turning. Gray images stay gray. Metadata is dropped.

    All other columns are copied as they are, and the key is the primary key of the new table. The
    source is only read. The new table may be in another database, of either kind.

    The same command again resumes what was interrupted, at any moment and in any way, and adds what
    is new. The rows are the same as those of a run without an interruption. Rows that are no longer
    in the source are counted and never deleted.

    Bad rows are listed. The exit code is 1 if there are any, or if the source has changed.
    """

    name = "shrink"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add both tables and the options of images."""
        parser.add_argument(
            "url", nargs="?", help="of the database with the images; default: FASTLOADER_URL"
        )
        parser.add_argument("--table", help="with the images [default: images]")
        parser.add_argument(
            "--into",
            metavar="TABLE",
            help="the new table [default: the table's name and the side, such as images_256; with "
            "--to the same name]",
        )
        parser.add_argument(
            "--to", metavar="URL", help="another database for the new table, of either kind"
        )
        parser.add_argument("--key", help="column of unique keys, or several: a,b [default: id]")
        parser.add_argument("--image", help="the column of images [default: image_data]")
        parser.add_argument(
            "--columns",
            metavar="A,B",
            help="the other columns to copy, none for no other [default: all]",
        )
        images = parser.add_argument_group("images")
        images.add_argument(
            "--side", type=_integer(1, 65_500), default=SIDE, metavar="PIXELS",
            help=f"of the short side, at most [default: {SIDE}]",
        )  # fmt: skip
        images.add_argument(
            "--quality", type=_integer(1, 100), default=QUALITY, metavar="Q",
            help=f"of the JPEGs [default: {QUALITY}]",
        )  # fmt: skip
        images.add_argument(
            "--colors",
            choices=("keep", "srgb"),
            default="keep",
            help="keep the levels and drop color profiles, as the loader does; or convert to sRGB, "
            "with Pillow [default: keep]",
        )
        images.add_argument(
            "--background",
            metavar="R,G,B",
            help="compose transparent images over this color [default: drop the alpha channel]",
        )
        images.add_argument(
            "--bad-rows",
            choices=("leave", "copy"),
            default="leave",
            help="leave out rows whose images are missing or damaged, or copy them as they are "
            "[default: leave]",
        )
        parser.add_argument(
            "--mix-versions",
            action="store_true",
            help="resume although another version of fastloader or of its codecs began the table",
        )
        parser.add_argument(
            "--workers", type=_integer(1, 1024), metavar="N", help="threads [default: all cores]"
        )
        parser.add_argument(
            "--max-blob-bytes", type=_integer(1, 1 << 30), metavar="N",
            help=f"larger images are bad rows ({Config.max_blob_bytes}, as for the loader)",
        )  # fmt: skip
        parser.add_argument(
            "--max-pixels", type=_integer(1, 1 << 32), metavar="N",
            help="larger images are bad rows (178956970, as for the loader)",
        )  # fmt: skip

    def run(self, arguments: argparse.Namespace) -> Outcome:
        """Shrink the table."""
        config = _source(arguments)
        image = config.images[0]
        target = _target(arguments, config)
        if arguments.colors == "srgb":
            _check_colors()
        only = None
        if arguments.columns is not None:
            only = [name for name in arguments.columns.split(",") if name and name != "none"]
        recipe = Recipe(
            source=config.place, key=config.keys, image=image.of_column,
            columns=("*",) if only is None else tuple(only),
            side=arguments.side, quality=arguments.quality,
            colors=arguments.colors, background=image.background, bad_rows=arguments.bad_rows,
            libraries=libraries(),
        )  # fmt: skip
        shrinker = Shrinker(
            column=image.of_column, side=recipe.side, quality=recipe.quality,
            colors=recipe.colors, background=recipe.background,
            max_blob_bytes=config.max_blob_bytes, max_pixels=image.max_pixels,
            max_scans=image.max_scans, max_chunks=image.max_chunks,
        )  # fmt: skip
        run = Run(
            config, target, recipe, shrinker, only=only, workers=arguments.workers or cores(),
            mix_versions=arguments.mix_versions,
        )  # fmt: skip
        with contextlib.closing(_opened(target)) as table:
            run.run(table)
        return Outcome(text_of(run, target, arguments), data_of(run, config, target), run.code)


def _source(arguments: argparse.Namespace) -> Config:
    """Return the configuration of the table to shrink."""
    given = {
        name: getattr(arguments, name) or UNSET
        for name in ("url", "table", "max_blob_bytes", "max_pixels")
    }
    for name in ("key", "image", "background"):
        if text := getattr(arguments, name):
            given[name] = OPTIONS[name].parse(text, source=f"--{name}")
    # The loader's other options are for batches, whatever the environment says of them.
    config = make_config({
        **given, "query": None, "where": None, "params": (), "split": None, "split_by": None,
        "fields": None, "label": None, "sample_weight": None, "with_keys": False,
        "transform": None, **NO_CACHE,
    })  # fmt: skip
    if len(config.images) != 1:
        raise CommandError("shrink makes one column of images smaller: name it with --image")
    return config


def _target(arguments: argparse.Namespace, config: Config) -> Config:
    """Return the configuration of the new table.

    Raises
    ------
    CommandError
        If it is the table that is shrunk.
    """
    table = arguments.into or (config.table if arguments.to else f"{config.table}_{arguments.side}")
    if arguments.to:
        url = make_config({"url": arguments.to, "table": table, "query": None}).url
        target = replace(config, url=url, table=table)
    else:
        target = replace(config, table=table)
    if _is_same_table(config, target) and _is_same_database(config, target):
        raise CommandError(
            f"{config.place}: shrink makes a second table and never changes the one with the "
            f"images; name another one with --into"
        )
    return target


def _opened(config: Config) -> SmallTable:
    """Connect to the database in which the table is, or will be.

    Raises
    ------
    SourceError, CommandError
        If the database cannot be opened, or its file cannot be made.
    """
    table: SmallTable
    if config.url.is_postgres:
        from .target_postgres import SmallPostgresTable

        table = SmallPostgresTable(config)
    else:
        from .target_sqlite import SmallSQLiteTable

        table = SmallSQLiteTable(config)
    return opened(table)


def _is_same_table(config: Config, target: Config) -> bool:
    """Return whether both tables have one name, for which SQLite ignores the case of letters."""
    one, other = config.table or "", target.table or ""
    return one == other if config.url.is_postgres else one.lower() == other.lower()


def _is_same_database(config: Config, target: Config) -> bool:
    """Return whether both are one database, as far as that can be told without opening it.

    A server may have several names. Then what keeps the source from being written to is that the
    table is there and was not made by shrink.
    """
    if config.url.is_postgres or target.url.is_postgres:
        return config.url == target.url
    from ..database_files import DatabaseFiles

    path = target.url.removeprefix("sqlite:///")
    return config.url == target.url or path in DatabaseFiles(config)


def _check_colors() -> None:
    """Check that Pillow can convert colors.

    Raises
    ------
    CommandError
        If it is not installed, or was built without LittleCMS.
    """
    try:
        from PIL import ImageCms

        ImageCms.createProfile("sRGB")
    except ImportError as error:
        raise CommandError(
            f"--colors srgb needs Pillow with LittleCMS ({error}): pip install "
            f"'fastloader[pillow]'",
            MACHINE,
        ) from None


def _integer(low: int, high: int) -> Callable[[str], int]:
    """Return a parser of integers in a range, for argparse."""

    def parsed(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"must be an integer from {low} to {high}, not {text}")
        return value

    return parsed
