"""Exceptions can be pickled, cross a pipe, and are caught by one root."""

from __future__ import annotations

import pickle
import re

import pytest

import fastloader
from fastloader import errors
from fastloader.transport.messages import _BY_NAME as TRAVELLING
from fastloader.transport.messages import Failure
from fastloader.transport.serial import pack, unpack

from .support import ROOT

EXAMPLES = [
    errors.ConfigError("a"),
    errors.UsageError("a"),
    errors.SourceError("a"),
    errors.PlanError("a"),
    errors.RowError(7, "torn"),
    errors.TransformError(7, "augment raised ValueError: no\nTraceback"),
    errors.WorkerDied(1, 5, "was killed by SIGKILL", "ouch", 7),
    errors.WorkerError("a"),
    errors.SupersededError("a"),
    errors.ClosedError("a"),
    errors.CopyError("a"),
    errors.StateError("a"),
]
CROSSING = [error for error in EXAMPLES if type(error).__name__ in TRAVELLING]


def test_every_exception_has_an_example() -> None:
    ours = [e for e in vars(errors).values() if isinstance(e, type)]
    assert {errors.FastloaderError, errors.FastloaderWarning} < set(ours)
    raised = {e for e in ours if issubclass(e, errors.FastloaderError)}
    assert {type(e) for e in EXAMPLES} == raised - {errors.FastloaderError}
    assert {type(e).__name__ for e in EXAMPLES} <= set(fastloader.__all__)


def test_an_exception_says_when_it_is_raised_and_what_to_do() -> None:
    for name, its in vars(errors).items():
        if isinstance(its, type) and issubclass(its, (errors.FastloaderError, UserWarning)):
            first, *more = (its.__doc__ or "").split("\n\n")
            assert first.endswith("."), name
            assert more, f"{name}: no more than a summary"


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda e: type(e).__name__)
def test_exceptions_can_be_pickled(error: errors.FastloaderError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert (str(again), vars(again)) == (str(error), vars(error))


def test_a_row_error_can_be_pickled_whatever_was_added_to_its_args() -> None:
    error = errors.RowError(7, "torn")
    error.args += ("a note of Ray's",)
    again = pickle.loads(pickle.dumps(error))
    assert (again.key, again.reason) == (7, "torn")


@pytest.mark.parametrize(
    "error", [e for e in EXAMPLES if type(e).__name__ in TRAVELLING], ids=lambda e: type(e).__name__
)
def test_exceptions_cross_the_pipe(error: errors.FastloaderError) -> None:
    again = unpack(pack(Failure.of(error)), Failure).error()
    assert type(again) is type(error)
    assert (str(again), vars(again)) == (str(error), vars(error))


def test_every_status_of_the_kernel_has_its_words() -> None:
    header = (ROOT / "csrc" / "kernel.h").read_text()
    names = re.findall(r"^    FL_[A-Z_]+", header[: header.index("} fl_status")], re.MULTILINE)
    assert list(errors.KERNEL_STATUS) == list(range(1, len(names)))
