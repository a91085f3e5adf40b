"""Ctrl-C, or any other exception of a signal handler, comes in every place.

Whatever is done next works.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator

import psutil
import pytest

from fastloader import FastLoader

from .interrupts import each_place
from .support import open_files, simple_rows, table, unpacked, wait_until
from .tiers import full

pytestmark = [
    pytest.mark.skipif(sys.version_info < (3, 11), reason="knows the bytecode of 3.11 on"),
    pytest.mark.timeout(600),
]

OPTIONS = {"size": (16, 16), "batch_size": 8, "with_keys": True, "shuffle": True, "slots": 3}
ROWS = 40

TAKING = ("base", "consumer", "batches", "observe", "system", "transport", "worker")
MAKING = ("consumer", "system", "transport", "worker")


def workers_and_steps(*steps: tuple[int, int]) -> pytest.MarkDecorator:
    """Parametrize by the number of workers, and by the step from one place to the next.

    In ``make test``, one in ten of the places that ``make test-full`` tries.
    """
    return pytest.mark.parametrize(
        ("workers", "step"),
        [(workers, 10 * step + 1) for workers, step in steps]
        + [pytest.param(workers, step, marks=full) for workers, step in steps],
    )


# With a worker, which is replaced each time, fewer places.
workers_and_step = workers_and_steps((0, 3), (1, 37))


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    return table(tmp_path_factory.mktemp("interrupts") / "t.db", simple_rows(ROWS))


@pytest.fixture(scope="module")
def order(path: str) -> Iterator[Callable[[int], list[int]]]:
    """Return a function that returns the keys of an epoch, in its order."""
    with FastLoader(path, workers=0, **OPTIONS) as loader:

        def order(epoch: int) -> list[int]:
            loader.load_state_dict({**loader.state_dict(consumed=0), "epoch": epoch, "batch": 0})
            return keys_of(loader)

        yield order


def keys_of(loader: FastLoader) -> list[int]:
    return [key for *_, keys in unpacked(loader) for key in keys.tolist()]


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # Ctrl-C in a finalizer
@workers_and_step
def test_the_next_epoch_is_whole_wherever_the_one_before_was_interrupted(
    path: str, workers: int, step: int, order: Callable[[int], list[int]]
) -> None:
    """Interrupted are the beginning of an iteration, a batch in its middle, its end, and looks."""

    def some(loader: FastLoader) -> None:
        loader.peek()
        iterator = iter(loader)
        kept = [next(iterator), loader.peek(), next(iterator)]
        del kept, iterator

    with FastLoader(path, workers=workers, **OPTIONS) as loader:
        keys_of(loader)  # so that what is interrupted could be the run's next epoch
        for interrupter in each_place(TAKING, step=step):
            interrupter.run(lambda: some(loader))
            keys = keys_of(loader)
            epoch = loader.delivery.progress.iteration.turn.epoch
            assert keys == order(epoch), interrupter.where
            if loader.delivery.feeders[0].ring.leased:
                gc.collect()  # a traceback can be part of a cycle, with the batch of its frame
            assert len(loader.delivery.feeders[0].ring.leased) == 0, interrupter.where
            assert keys_of(loader) == order(epoch + 1), interrupter.where
        assert interrupter.seen > 100
        assert loader.stats().copies == 0, "no slot is lost for the loader's life"


@workers_and_step
def test_a_close_that_was_interrupted_is_finished_by_the_next_one(
    path: str, workers: int, step: int
) -> None:
    before, others = open_files(), psutil.Process().children()
    for interrupter in each_place((*MAKING, "base"), step=step):
        loader = FastLoader(path, workers=workers, **OPTIONS)
        iterator = iter(loader)
        next(iterator)
        interrupter.run(loader.close)
        loader.close()
        assert loader.closed
        assert open_files() == before, interrupter.where
        assert psutil.Process().children() == others, interrupter.where
    assert interrupter.seen > 50


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # of what is left to its finalizers
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@workers_and_steps((0, 3), (1, 31))
def test_an_epoch_is_whole_after_a_refresh_that_was_interrupted(
    path: str, workers: int, step: int, order: Callable[[int], list[int]]
) -> None:
    with FastLoader(path, workers=workers, **OPTIONS) as loader:
        keys_of(loader)
        for interrupter in each_place((*MAKING, "loader"), step=step):
            interrupter.run(loader.refresh)
            for _ in range(2):
                keys = keys_of(loader)
                epoch = loader.delivery.progress.iteration.turn.epoch
                assert keys == order(epoch), interrupter.where
            assert loader.state_dict()["epoch"] == epoch + 1
        assert interrupter.seen > 100
    gc.collect()


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # of what is left to its finalizers
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
# Each place makes a loader, with a survey process of its own.
@workers_and_steps((0, 41), (2, 241))
def test_a_loader_whose_making_is_interrupted_leaves_nothing(
    path: str, workers: int, step: int
) -> None:
    before, others = open_files(), psutil.Process().children()

    def ours() -> list[psutil.Process]:
        return [p for p in psutil.Process().children() if p not in others]

    def make() -> None:
        FastLoader(path, workers=workers, **OPTIONS).close()

    for interrupter in each_place(MAKING, step=step):
        interrupter.run(make)
        gc.collect()
        wait_until(lambda: all(p.status() == psutil.STATUS_ZOMBIE for p in ours()))
        assert open_files() == before, interrupter.where
    assert interrupter.seen > 50
    make()  # waits for the processes that are left
    assert ours() == []
