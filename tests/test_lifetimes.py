"""What a batch, a loader and a fork keep alive, and for how long."""

from __future__ import annotations

import contextlib
import copy
import gc
import os
import pickle
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from numpy.typing import NDArray

from fastloader import ClosedError, CopyError, FastLoader

from .programs import in_a_fork, run
from .support import open_files, simple_rows, table, unpacked, wait_until
from .tiers import full

either_way = pytest.mark.parametrize("workers", [0, 2])

RING = "fastloader-ring"

OPTIONS = {"size": (64, 64), "batch_size": 4, "with_keys": True}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    return table(tmp_path_factory.mktemp("lifetimes") / "t.db", simple_rows(400))


def mapped(loader: FastLoader) -> list[int]:
    """Return where this process has mapped the rings of a loader."""
    return [feeder.ring.memory[0] for feeder in loader.delivery.feeders]


def still_mapped(addresses: list[int]) -> list[str]:
    """Return which of the rings that were mapped at these addresses are still mapped."""
    lines = [line for line in Path("/proc/self/maps").read_text().splitlines() if RING in line]
    return [line for line in lines if int(line.partition("-")[0], 16) in addresses]


@contextlib.contextmanager
def ring_bytes(loader: FastLoader) -> Iterator[Callable[[], int]]:
    """Yield a function that returns the memory of the rings, whoever has them mapped."""
    mine = {feeder.ring.memory[0] for feeder in loader.delivery.feeders}
    inodes = {
        int(line.split()[4])
        for line in Path("/proc/self/maps").read_text().splitlines()
        if int(line.partition("-")[0], 16) in mine
    }
    files: dict[int, int] = {}
    for fd in map(int, os.listdir("/proc/self/fd")):
        with contextlib.suppress(OSError):
            inode = os.fstat(fd).st_ino
            if inode in inodes and inode not in files:
                files[inode] = os.dup(fd)
    assert len(files) == len(mine)
    try:
        yield lambda: sum(os.fstat(fd).st_blocks * 512 for fd in files.values())
    finally:
        for fd in files.values():
            os.close(fd)


def owned_bytes(array: NDArray[Any]) -> int:
    """Return the number of bytes that an array keeps alive."""
    owner: Any = array
    while isinstance(owner.base, np.ndarray):
        owner = owner.base
    assert owner.base is None, "it keeps something that is no array"
    return int(owner.nbytes)


# ---- labels --------------------------------------------------------------------------------------


@either_way
def test_kept_labels_cost_what_they_weigh(path: str, workers: int) -> None:
    """All labels of a validation epoch are kept, and images stay valid as ever."""
    with FastLoader(path, workers=workers, slots=3, **OPTIONS) as loader:
        kept = [(labels, keys) for _ in range(10) for _, labels, keys in unpacked(loader)]
        assert len(kept) == 1000
        assert loader.stats().copies == 0
        assert loader.stats().leased == 0
        for labels, keys in kept:
            assert owned_bytes(labels) <= labels.nbytes + 64
            assert owned_bytes(keys) <= keys.nbytes + 64
        assert np.concatenate([keys for _, keys in kept[:100]]).tolist() == [*range(1, 401)]


def test_the_labels_of_a_batch_that_was_copied_do_not_keep_its_images(path: str) -> None:
    with FastLoader(path, workers=1, slots=2, **OPTIONS) as loader:
        kept = [*unpacked(loader)]
        assert loader.stats().copies >= len(kept) - 1
        for images, labels, keys in kept[1:]:
            assert owned_bytes(labels) <= labels.nbytes + 64
            assert owned_bytes(keys) <= keys.nbytes + 64
            assert owned_bytes(images) >= images.nbytes


@full
def test_kept_labels_of_tensorflow_cost_what_they_weigh(path: str) -> None:
    pytest.importorskip("tensorflow")
    with FastLoader(path, workers=2, slots=16, **OPTIONS) as loader:
        kept = [labels for _ in range(3) for _, labels in loader.as_dataset()]
        assert len(kept) == 300
        assert loader.stats().copies == 0


@full
def test_kept_labels_of_torch_cost_what_they_weigh(path: str) -> None:
    pytest.importorskip("torch")
    with FastLoader(path, workers=2, slots=3, **OPTIONS) as loader:
        kept = [labels for _ in range(3) for _, labels in loader.as_torch()]
        assert len(kept) == 300
        assert loader.stats().copies == 0
        assert all(len(labels.untyped_storage()) <= labels.nbytes + 64 for labels in kept)


def test_an_iterator_keeps_no_batch(path: str) -> None:
    with FastLoader(path, workers=0, **OPTIONS) as loader:
        iterator = iter(loader)
        batch: Any = next(iterator)
        assert loader.stats().leased == 1
        del batch
        assert loader.stats().leased == 0


# ---- after close() -------------------------------------------------------------------------------


@either_way
def test_the_ring_goes_with_the_last_batch_after_close(path: str, workers: int) -> None:
    loader = FastLoader(path, workers=workers, **OPTIONS)
    rings = mapped(loader)
    iterator = iter(loader)
    images, *_ = next(unpacked(iterator))
    before = images.copy()
    loader.close()
    assert len(still_mapped(rings)) == 1
    assert (images == before).all()
    del images
    assert still_mapped(rings) == [], "although the loader and its iterator are still there"
    assert loader.closed
    del iterator


@either_way
def test_a_batch_keeps_its_own_slot_of_a_closed_loader_and_no_other(
    path: str, workers: int
) -> None:
    options = {**OPTIONS, "size": (512, 512), "slots": 8}  # 3 MiB a slot
    loader = FastLoader(path, workers=workers, **options)
    images, *_ = next(unpacked(loader))
    with ring_bytes(loader) as taken:
        assert taken() >= 8 * images.nbytes * max(1, workers)
        loader.close()
        assert images.nbytes <= taken() < 1.5 * images.nbytes
        del images


# ---- forks ---------------------------------------------------------------------------------------


@either_way
def test_a_fork_keeps_neither_rings_nor_descriptors(path: str, workers: int) -> None:
    with FastLoader(path, workers=workers, **OPTIONS) as loader:
        rings, before = mapped(loader), sum(RING in name for name in open_files())
        iterator = iter(loader)
        next(iterator)

        def look() -> None:
            assert still_mapped(rings) == []
            there = sum(RING in name for name in open_files())
            assert there == before - len(rings) * (2 if workers else 1)
            for asked in (
                loader.stats, loader.state_dict, lambda: loader.bad_rows,
                lambda: loader.partial_rows, lambda: iter(loader), lambda: next(iterator),
            ):  # fmt: skip
                with pytest.raises(ClosedError, match="of which this one is a fork"):
                    asked()
            assert "epoch 0" in repr(loader)
            loader.close()

        in_a_fork(look)
        assert sum(len(labels) for _, labels in loader) == 400, "and the loader is as it was"


@either_way
def test_a_fork_that_holds_a_batch_keeps_no_pages_of_a_closed_loader(
    path: str, workers: int
) -> None:
    options = {**OPTIONS, "size": (512, 512), "slots": 8}
    loader = FastLoader(path, workers=workers, **options)
    images, *_ = next(unpacked(loader))
    reading, writing = os.pipe()
    with ring_bytes(loader) as taken:
        pid = os.fork()
        if pid == 0:  # with the batch, until it is told to end
            os.close(writing)
            os.read(reading, 1)
            os._exit(0)
        try:
            assert taken() > 0
            del images
            loader.close()
            assert taken() == 0
        finally:
            os.close(writing)
            os.close(reading)
            os.waitpid(pid, 0)


@either_way
def test_a_fork_in_a_thread_can_forget_the_loader_whatever_others_were_doing(
    path: str, workers: int
) -> None:
    """The other threads do not exist in the fork, so their locks stay held forever."""
    script = """
    import warnings; warnings.simplefilter("ignore", ResourceWarning)
    loader, done = make(), threading.Event()
    def train():
        while not done.is_set():
            for _ in loader:
                pass
    training = threading.Thread(target=train)
    training.start()
    for _ in range(40):
        pid = os.fork()
        if pid == 0:
            signal.alarm(20)    # rather than hang
            try:
                repr(loader)
                try:
                    loader.stats()
                except fastloader.ClosedError:
                    del loader
                    gc.collect()
                    os._exit(0)
            finally:
                os._exit(1)
        print(os.waitpid(pid, 0)[1])
    done.set()
    training.join()
    loader.close()
    """
    assert run(script, path, workers) == "0\n" * 40


def test_a_fork_of_the_moment_when_a_worker_starts_hides_no_death(path: str) -> None:
    """It holds the worker's own end of the pipe, so the end of the pipe never comes."""
    forks: list[int] = []

    def fork(*_: Any) -> None:
        pid = os.fork()
        if pid == 0:
            time.sleep(60)
            os._exit(0)
        forks.append(pid)

    with pytest.MonkeyPatch.context() as patch:
        spawn = os.posix_spawn

        def spawn_and_fork(*args: Any, **more: Any) -> int:
            pid = spawn(*args, **more)
            fork()
            return pid

        patch.setattr("os.posix_spawn", spawn_and_fork)
        # The fork closes what belongs to the loader, but not what is about to be the worker's.
        loader = FastLoader(path, workers=1, **OPTIONS, max_restarts=3)
    try:
        iterator = iter(loader)
        next(iterator)
        os.kill(loader.delivery.feeders[0].process.pid, 9)
        assert 4 + sum(len(labels) for _, labels in iterator) == 400
        assert loader.stats().restarts == 1
        loader.close()
    finally:
        for pid in forks:
            os.kill(pid, 9)
            os.waitpid(pid, 0)


# ---- copies --------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_loader_is_neither_copied_nor_pickled(path: str, how: Any) -> None:
    with FastLoader(path, workers=1, **OPTIONS) as loader:
        with pytest.raises(CopyError, match="Make another loader with the same options"):
            how(loader)
        with pytest.raises(TypeError):  # as other libraries expect
            how(loader)
        assert sum(len(labels) for _, labels in loader) == 400


@pytest.fixture
def recorded() -> Iterator[list[warnings.WarningMessage]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield caught


def test_whoever_records_the_warning_of_an_unclosed_loader_does_not_keep_it(
    path: str, recorded: list[warnings.WarningMessage]
) -> None:
    loader = FastLoader(path, workers=1, **OPTIONS)
    rings = mapped(loader)
    worker = psutil.Process(loader.delivery.feeders[0].process.pid)
    del loader
    gc.collect()
    (of_ours,) = [w for w in recorded if "unclosed <FastLoader" in str(w.message)]
    assert of_ours.source is None
    assert still_mapped(rings) == []
    wait_until(lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE)


@pytest.mark.parametrize("workers", [0, 1])
def test_the_variables_of_a_traceback_can_be_shown_when_the_loader_is_closed(
    tmp_path: Path, workers: int
) -> None:
    """Error trackers, IPython's verbose mode and pytest do that."""
    path = table(tmp_path / "t.db", [*simple_rows(20), (99, b"broken", 0)])
    script = """
    shown = []
    try:
        with make(size=(224, 224)) as loader:
            list(loader)
    except fastloader.RowError as error:
        trace = error.__traceback__
        while trace is not None:
            shown += [repr(value) for value in trace.tb_frame.f_locals.values()]
            trace = trace.tb_next
    print(len(shown) > 3)
    """
    assert run(script, path, workers) == "True\n"
