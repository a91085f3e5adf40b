"""The ring's docstring, sentence by sentence."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from fastloader.batches.schema import IMAGE, OFFSETS
from fastloader.errors import ConfigError
from fastloader.fields.columns import Column
from fastloader.transport import messages, ring
from fastloader.transport.memory import create_memory
from fastloader.transport.messages import Record
from fastloader.transport.pipes import Channel, PipeBroken, socket_pair
from fastloader.transport.ring import Layout, Ring

IMAGES = f"{IMAGE}x photo"
COLUMNS = [
    Column(IMAGES, "uint8", (5, 7, 3)),
    Column("flag", "bool"),
    Column("text", "text", mean=20),
    Column("vector", "float32", (3,)),
]


@pytest.fixture
def three_slots() -> Ring:
    with create_memory("test") as memory:
        made = Ring(memory, Layout.of(4, COLUMNS), 3, allocate=True)
    for slot in range(3):
        made.slot(slot)[IMAGES][:] = slot
    return made


def test_every_column_of_a_slot_starts_on_an_aligned_address(three_slots: Ring) -> None:
    for slot in range(3):
        for array in three_slots.slot(slot).values():
            assert array.ctypes.data % 64 == 0  # what TensorFlow asks for
            assert array.flags.c_contiguous


def test_columns_do_not_overlap(three_slots: Ring) -> None:
    arrays = three_slots.slot(0)
    assert list(arrays) == [IMAGES, "flag", "text", "text" + OFFSETS, "vector"]
    for i, array in enumerate(arrays.values()):
        array.view(np.uint8).fill(i + 1)
    for i, array in enumerate(arrays.values()):
        assert (array.view(np.uint8) == i + 1).all()
    assert (three_slots.slot(1)[IMAGES] == 1).all()


def test_another_mapping_sees_what_is_written() -> None:
    with create_memory("test") as memory:
        layout = Layout.of(4, COLUMNS)
        here = Ring(memory, layout, 2, allocate=True)
        there = Ring(memory, layout, 2, allocate=False)
    here.slot(1)[IMAGES][:] = 9
    arrays, leased = there.hand_out(1, 4)
    assert leased
    assert (arrays[IMAGES] == 9).all()


def test_a_lease_ends_with_its_last_view_in_any_order(three_slots: Ring) -> None:
    arrays, leased = three_slots.hand_out(0, 4)
    assert leased
    view = arrays[IMAGES][1:3, ::2, :, 0][0]
    levels = arrays[IMAGES].view(np.int8)
    del arrays
    gc.collect()
    assert three_slots.take_back() == []
    del levels
    assert three_slots.take_back() == []
    assert three_slots.leased == {0}
    del view
    assert three_slots.take_back() == [0]
    assert three_slots.leased == set()


def test_a_lease_may_end_on_any_thread(three_slots: Ring) -> None:
    held = [three_slots.hand_out(0, 4)[0]]
    thread = threading.Thread(target=held.clear)
    thread.start()
    thread.join()
    assert three_slots.take_back() == [0]


def test_one_slot_is_never_leased(three_slots: Ring) -> None:
    kept = [three_slots.hand_out(slot, 4) for slot in range(3)]
    assert [leased for _, leased in kept] == [True, True, False]
    assert (three_slots.leases, three_slots.copies) == (2, 1)
    three_slots.slot(2)[IMAGES][:] = 99  # as the worker would, for the next batch
    copy = kept[2][0][IMAGES]
    assert (copy == 2).all()
    assert copy.ctypes.data % 64 == 0
    assert not three_slots.contains(copy.ctypes.data)
    assert three_slots.contains(kept[0][0][IMAGES].ctypes.data)


def test_arrays_outlive_the_ring(three_slots: Ring) -> None:
    images = three_slots.hand_out(1, 2)[0][IMAGES]
    del three_slots
    gc.collect()
    assert images.shape == (2, 5, 7, 3)
    assert (images == 1).all()


def test_a_ring_that_cannot_be_had_is_an_error_when_it_is_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    layout = Layout.of(1000, [Column("images", "uint8", (1000, 1000, 3))])
    with create_memory("test") as memory:
        with pytest.raises(ConfigError, match=r"needs 2861023 MiB .* lower slots, batch_size"):
            Ring(memory, layout, 1000, allocate=True)
        monkeypatch.setattr(ring, "available_bytes", lambda: 1 << 62)
        with pytest.raises(ConfigError, match="lower slots"):
            Ring(memory, Layout.of(1 << 60, COLUMNS[1:2]), 1000, allocate=True)


# ---- pipes ---------------------------------------------------------------------------------------


@pytest.fixture
def channels() -> Iterator[tuple[Channel, Channel]]:
    """Two ends of a pipe."""
    here, there = map(Channel, socket_pair())
    ends = (here, there)
    yield ends
    for end in ends:
        end.close()
        end.close()


def test_records_arrive_whole_and_in_order(channels: tuple[Channel, Channel]) -> None:
    here, there = channels
    records = [
        Record(messages.READY, epoch=2**40, batch=2**50, slot=7, payload=b"x" * 30),
        Record(messages.FREE, slot=65535),
        Record(messages.ERROR, epoch=-1, payload=b"y" * 1_000_000),  # more than a pipe holds
    ]
    sender = threading.Thread(target=lambda: [here.send(record) for record in records])
    sender.start()
    assert [there.receive() for _ in records] == records
    sender.join()


def test_receiving_gives_up_at_its_deadline(channels: tuple[Channel, Channel]) -> None:
    assert channels[0].receive(0) is None
    assert channels[0].receive(0.01) is None


def test_the_end_of_the_peer_is_the_end_of_the_file(channels: tuple[Channel, Channel]) -> None:
    here, there = channels
    there.send(Record(messages.FREE, slot=1))
    there.close()
    assert here.receive() == Record(messages.FREE, slot=1)
    with pytest.raises(EOFError):
        here.receive()
    with pytest.raises(BrokenPipeError):
        here.send(Record(messages.FREE))


def test_what_is_no_record_is_noticed(channels: tuple[Channel, Channel]) -> None:
    here, there = channels
    there._end.send(b"Traceback (most recent call last): ......................")
    with pytest.raises(PipeBroken):
        here.receive()


@pytest.mark.parametrize(
    ("slot_mib", "workers", "available_mib", "slots"),
    [
        (10, 2, 10_000, 8),
        (1, 2, 10_000, 32),
        (4, 2, 10_000, 16),
        (200, 16, 30_000, 2),  # a quarter of the memory is 7500 MiB
        (10, 16, 4_000, 6),
        (100, 4, 1, 2),
    ],
)
def test_rings_have_eight_slots_more_of_small_ones_and_less_where_memory_is_short(
    slot_mib: int, workers: int, available_mib: int, slots: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ring, "available_bytes", lambda: available_mib << 20)
    assert ring.automatic_slots(slot_mib << 20, workers) == slots


def test_large_inputs_are_leased_and_everything_else_but_images_is_copied() -> None:
    names = {"x large": 20_000, "x small": 5, "y large": 20_000, "x text": None, "y text": None}
    columns = [
        Column(name, "uint8", (size,)) if size else Column(name, "text", mean=90_000)
        for name, size in names.items()
    ]
    with create_memory("test") as memory:
        made = Ring(memory, Layout.of(4, columns), 2, allocate=True)
    for name in names:
        arrays, leased = made.hand_out(0, 4)
        assert leased
        kept = arrays.pop(name)
        del arrays
        gc.collect()
        is_kept = name in ("x large", "x text")
        assert made.leased == ({0} if is_kept else set()), name
        assert made.contains(kept.ctypes.data) == is_kept
        del kept
        assert made.take_back() == [0]
