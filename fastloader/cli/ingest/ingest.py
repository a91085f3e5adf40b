"""The command ``fastloader ingest``: its arguments and what they lead to."""

from __future__ import annotations

import argparse
import contextlib
from pathlib import Path

from ...options.config import Config, make_config
from ...options.given import UNSET
from ..command import CommandError, Outcome
from ..database_files import DatabaseFiles
from ..store import opened
from .folder import Folder
from .labels import LABEL, read_classes
from .run import Run
from .summary import data_of, text_of
from .target import Target


class Ingest:
    """Puts a folder of images into a table that FastLoader reads as it is.

    Without a list of labels, the class of an image is the first subfolder on the way to it, however
    deep it lies, as in torchvision's ImageFolder and in Keras. An image in no subfolder has no
    class and is refused; --one-class gives all images the same one. Folders called train, val or
    test are splits, not classes: ingest each into a table of its own, with --classes-of for the
    same numbers.

    FOLDER/labels.csv, or the file given with --labels, names the label of each image in its columns
    file and label. If all labels are integers, they are stored as integers. If all are numbers,
    they are stored as floats. Otherwise they are classes.

    Classes are numbered in the order of their names, and their numbers are kept in the table
    TABLE_classes (id, name). A class never changes its number: a later ingest uses the numbers that
    are there and numbers new classes after them. --classes or --classes-of lists the classes; any
    other class is then an error.

    A file is an image if its first bytes say so, whatever its suffix. None is decoded: "fastloader
    check" does that afterwards, on all cores, and for tables that were filled in another way too.

    The same command again resumes what was interrupted and adds what is new. Files that have not
    changed (size and time are the same, or else the bytes) are not stored again. Files that have
    changed, moved to another subfolder, or got another label are listed, and the table stays as it
    is; with --update the table follows the folder. Rows whose files are no longer in the folder are
    counted and never deleted.

    The exit code is 1 if files were refused (empty, too large, unreadable, missing, without a
    class), or if the table differs from the folder in a file that is in both.
    """

    name = "ingest"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add folder, URL, table and the options of labels."""
        parser.add_argument("folder", help="with the images, in a subfolder for each class")
        parser.add_argument(
            "url",
            nargs="?",
            help="of the database: the path of a SQLite file, which is made if it does not exist, "
            "or postgresql://user@host/database; default: FASTLOADER_URL",
        )
        parser.add_argument("--table", help="made if it does not exist [default: images]")
        parser.add_argument(
            "--update",
            action="store_true",
            help="replace the rows of files that have changed, moved or got another label",
        )
        labels = parser.add_argument_group("labels")
        labels.add_argument(
            "--labels", type=Path, metavar="CSV", help="with the columns file and label"
        )
        labels.add_argument(
            "--label-column", metavar="NAME", default=LABEL, help="of the CSV file [default: label]"
        )
        labels.add_argument(
            "--one-class", metavar="NAME", help="of all images, whatever subfolder they are in"
        )
        numbers = labels.add_mutually_exclusive_group()
        numbers.add_argument(
            "--classes",
            type=Path,
            metavar="FILE",
            help="with the name of a class on each line; the first one is number 0",
        )
        numbers.add_argument(
            "--classes-of",
            metavar="TABLE",
            help="of the same database, whose classes and numbers to take",
        )
        parser.add_argument(
            "--max-blob-bytes",
            type=int,
            metavar="N",
            help=f"refuse larger files ({Config.max_blob_bytes}, as the loader does)",
        )

    def run(self, arguments: argparse.Namespace) -> Outcome:
        """Ingest the folder."""
        given = {
            name: getattr(arguments, name) or UNSET for name in ("url", "table", "max_blob_bytes")
        }
        config = make_config({**given, "query": None})
        database = DatabaseFiles(config)
        if arguments.labels is not None and arguments.one_class is not None:
            raise CommandError("--labels and --one-class: choose one of them")
        if arguments.classes is not None and arguments.classes in database:
            raise CommandError(f"{arguments.classes} belongs to the database; name a text file")
        folder = Folder(
            arguments.folder,
            labels=arguments.labels,
            label_column=arguments.label_column,
            one_class=arguments.one_class,
            max_blob_bytes=config.max_blob_bytes,
            database=database,
        )
        classes = read_classes(arguments.classes) if arguments.classes is not None else None
        with contextlib.closing(open_target(config)) as target:
            if arguments.classes_of is not None:
                classes = target.classes(arguments.classes_of)
            run = Run(folder, target, classes, update=arguments.update)
            run.run()
        return Outcome(text_of(run, config, arguments), data_of(run, config), run.code)


def open_target(config: Config) -> Target:
    """Open the table that the configuration names.

    Raises
    ------
    SourceError
        If the database cannot be opened, or its table cannot hold the images.
    """
    target: Target
    if config.url.is_postgres:
        from .target_postgres import PostgresTarget

        target = PostgresTarget(config)
    else:
        from .target_sqlite import SQLiteTarget

        target = SQLiteTarget(config)
    return opened(target)
