"""The inbox of a worker: every slot is in one place, and every batch comes at most once."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from dataclasses import dataclass

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from fastloader import RowError, SourceError
from fastloader.consumer.inbox import Inbox
from fastloader.transport.messages import ERROR, FREE, NEVER, READY, Failure, Filled, Record
from fastloader.transport.pipes import PipeBroken
from fastloader.transport.serial import pack

WORKERS = 2
ROWS = 8
SLOTS = 4
BATCHES = 5
"""In an epoch. The worker is number 0 of two, so it makes batches 0, 2 and 4."""


def ready(
    run: int = 1, epoch: int = 0, batch: int = 0, *, slot: int = 0, rows: int = ROWS
) -> Record:
    return Record(READY, run, epoch, batch, slot, pack(Filled(rows)))


def inbox_of(leased: Collection[int] = ()) -> Inbox:
    """Return the inbox of a worker in run 1."""

    def is_the_workers(slot: int) -> bool:
        return 0 <= slot < SLOTS and slot not in leased

    inbox = Inbox(workers=WORKERS, batch_size=ROWS, is_the_workers=is_the_workers)
    inbox.begin(1, 0, 0)
    return inbox


# ---- one thing at a time -------------------------------------------------------------------------


def test_a_batch_that_was_announced_can_be_taken_once() -> None:
    inbox = inbox_of()
    assert inbox.put(ready(slot=3, rows=5)) == []
    assert (0, 0) in inbox
    assert inbox.slots == {3}
    assert inbox.expected == (0, 2)
    taken = inbox.take((0, 0))
    assert taken is not None
    assert taken.slot == 3
    assert taken.what == Filled(5)
    assert inbox.take((0, 0)) is None
    assert inbox.slots == set()


def test_an_error_takes_the_place_of_its_batch_and_no_slot() -> None:
    inbox = inbox_of()
    error = RowError(7, "corrupt image")
    assert inbox.put(Record(ERROR, 1, 0, 0, payload=pack(Failure.of(error)))) == []
    assert inbox.slots == set()
    taken = inbox.take((0, 0))
    assert taken is not None
    assert taken.slot is None
    assert str(taken.what) == str(error)


def test_the_error_of_a_worker_that_could_not_begin_is_raised() -> None:
    inbox = inbox_of()
    with pytest.raises(SourceError, match="no such file"):
        inbox.put(Record(ERROR, epoch=NEVER, payload=pack(Failure.of(SourceError("no such file")))))


def test_a_new_run_frees_what_the_older_one_has_announced_and_will_announce() -> None:
    inbox = inbox_of()
    inbox.put(ready(batch=0, slot=2))
    inbox.put(ready(batch=2, slot=1))
    assert sorted(inbox.begin(2, 3, 4)) == [1, 2]
    assert inbox.expected == (3, 4)
    assert inbox.put(ready(batch=4, slot=3)) == [3], "it was on its way"
    assert (0, 4) not in inbox


def test_a_batch_that_a_replaced_worker_announced_too_makes_way_for_the_new_one() -> None:
    inbox = inbox_of()
    inbox.put(ready(slot=2))
    inbox.expected = (0, 0)  # as if Ctrl-C had come before the inbox knew what comes next
    assert inbox.put(ready(slot=1)) == [2]
    assert inbox.slots == {1}
    assert inbox.expected == (0, 2)


@pytest.mark.parametrize(
    "record",
    [
        ready(batch=2, slot=SLOTS),
        ready(batch=2, slot=999),
        ready(batch=2, slot=3),  # leased
        ready(batch=2, slot=0),  # announced already
        ready(batch=2, slot=1, rows=ROWS + 1),
        ready(batch=2, slot=1, rows=-1),
        ready(batch=0, slot=1),  # announced already
        ready(run=9, batch=2, slot=0),  # a slot that is taken, for whatever run
        ready(batch=2, slot=1)._replace(payload=b"no JSON"),
        ready(batch=2, slot=1)._replace(payload=pack(Filled(ROWS)) + b"{"),
        ready(batch=2, slot=1)._replace(payload=pack(Filled(ROWS, spilled={"a": 5}))),
        ready(batch=2, slot=1)._replace(payload=b'{"rows": "8"}'),
        ready(batch=2, slot=1)._replace(payload=b'{"rows": 8, "times": [0.0]}'),
        Record(ERROR, 1, 0, 2, payload=b'["SystemExit", [0]]'),
        Record(ERROR, 1, 0, 2, payload=b'["RowError", []]'),
        Record(ERROR, 1, 0, 2, payload=b'["SourceError", [{}]]'),
        Record(ERROR, 1, 0, 2, payload=b""),
        Record(FREE, 1, 0, 2, slot=1),
        Record(77, 1, 0, 2),
    ],
)
def test_what_makes_no_sense_is_refused_and_changes_nothing(record: Record) -> None:
    inbox = inbox_of({3})
    inbox.put(ready(slot=0))
    with pytest.raises(PipeBroken):
        inbox.put(record)
    assert inbox.slots == {0}
    assert inbox.expected == (0, 2)
    assert (0, 0) in inbox
    assert (0, 2) not in inbox


# ---- everything in any order ---------------------------------------------------------------------


@dataclass
class Worker:
    """Does what a real worker does: it fills its free slots with the batches of a run, in order.

    Attributes
    ----------
    free
        Its slots.
    run, epoch, batch
        What it makes next.
    """

    free: deque[int]
    run: int
    epoch: int
    batch: int

    def announce(self) -> Record:
        record = ready(self.run, self.epoch, self.batch, slot=self.free.popleft())
        self.advance()
        return record

    def fail(self) -> Record:
        payload = pack(Failure.of(RowError(1, "corrupt image")))
        record = Record(ERROR, self.run, self.epoch, self.batch, payload=payload)
        self.advance()
        return record

    def advance(self) -> None:
        self.batch += WORKERS
        if self.batch >= BATCHES:
            self.epoch, self.batch = self.epoch + 1, 0


class Life(RuleBasedStateMachine):
    """A worker, the pipe from it, its inbox and a consumer. The rules play the supervisor.

    The model of the inbox is ``waiting``: the slot of each batch that was heard and not taken, None
    for an error.
    """

    def __init__(self) -> None:
        super().__init__()
        self.leased: set[int] = set()
        self.inbox = inbox_of(self.leased)
        self.waiting: dict[tuple[int, int], int | None] = {}
        self.taken: list[tuple[int, int]] = []  # in this run
        self.pipe: deque[Record] = deque()
        self.worker = Worker(deque(range(SLOTS)), 1, 0, 0)

    # ---- the worker

    @precondition(lambda self: self.worker.free)
    @rule()
    def the_worker_announces_a_batch(self) -> None:
        self.pipe.append(self.worker.announce())

    @rule()
    def the_worker_announces_an_error(self) -> None:
        self.pipe.append(self.worker.fail())

    @precondition(lambda self: self.inbox.slots | self.leased)
    @rule(data=st.data(), is_of_this_run=st.booleans())
    def a_slot_that_is_not_the_workers_is_refused(
        self, data: st.DataObject, is_of_this_run: bool
    ) -> None:
        slot = data.draw(st.sampled_from(sorted(self.inbox.slots | self.leased)))
        run = self.inbox.run if is_of_this_run else 0
        self.check_refused(ready(run, *self.where_expected(), slot=slot))

    @precondition(lambda self: self.worker.free and (self.waiting or self.taken))
    @rule(data=st.data())
    def a_batch_that_has_come_is_refused(self, data: st.DataObject) -> None:
        where = data.draw(st.sampled_from([*self.waiting, *self.taken]))
        self.check_refused(ready(self.inbox.run, *where, slot=self.worker.free[0]))

    def check_refused(self, record: Record) -> None:
        expected = self.inbox.expected
        with pytest.raises(PipeBroken):
            self.inbox.put(record)
        assert self.inbox.expected == expected

    # ---- the supervisor

    @precondition(lambda self: self.pipe)
    @rule()
    def the_supervisor_hears_a_record(self) -> None:
        record = self.pipe.popleft()
        freed = self.inbox.put(record)
        if record.run != self.inbox.run:
            assert freed == ([record.slot] if record.kind == READY else [])
        else:
            where = (record.epoch, record.batch)
            older = self.waiting.get(where)
            assert freed == ([] if older is None else [older])
            self.waiting[where] = record.slot if record.kind == READY else None
        self.worker.free.extend(freed)

    @precondition(lambda self: self.pipe)
    @rule(is_repeated=st.booleans())
    def ctrl_c_cuts_the_supervisor_short(self, is_repeated: bool) -> None:
        """While it heard a record, and before it knew what comes next."""
        expected = self.inbox.expected
        self.the_supervisor_hears_a_record()
        self.inbox.expected = expected
        self.the_worker_is_replaced()
        if is_repeated and self.worker.free:
            self.the_worker_announces_a_batch()
            self.the_supervisor_hears_a_record()
        else:
            self.another_run_begins(epoch=0, first=0)

    @rule()
    def the_worker_is_replaced(self) -> None:
        self.pipe.clear()
        kept = self.leased | self.inbox.slots
        free = deque(slot for slot in range(SLOTS) if slot not in kept)
        self.worker = Worker(free, self.inbox.run, *self.where_expected())

    @rule(epoch=st.integers(0, 3), first=st.sampled_from(range(0, BATCHES, WORKERS)))
    def another_run_begins(self, epoch: int, first: int) -> None:
        freed = self.inbox.begin(self.inbox.run + 1, epoch, first)
        assert sorted(freed) == sorted(slot for slot in self.waiting.values() if slot is not None)
        self.waiting.clear()
        self.taken.clear()
        self.worker.free.extend(freed)
        self.worker.run, self.worker.epoch, self.worker.batch = self.inbox.run, epoch, first

    # ---- the consumer

    @precondition(lambda self: self.waiting)
    @rule(is_copied=st.booleans())
    def the_consumer_takes_the_next_batch(self, is_copied: bool) -> None:
        where = min(self.waiting)
        found, slot = self.inbox.take(where), self.waiting.pop(where)
        assert found is not None
        assert found.slot == slot
        assert isinstance(found.what, RowError if slot is None else Filled)
        assert self.inbox.take(where) is None
        assert not self.taken or where > self.taken[-1], "a batch comes at most once, in order"
        self.taken.append(where)
        if slot is not None and is_copied:
            self.worker.free.append(slot)
        elif slot is not None:
            self.leased.add(slot)

    @precondition(lambda self: self.leased)
    @rule()
    def a_lease_ends(self) -> None:
        self.worker.free.append(self.leased.pop())

    # ---- what always holds

    @invariant()
    def the_inbox_has_what_was_heard_and_not_taken(self) -> None:
        assert all(where in self.inbox for where in self.waiting)
        assert self.inbox.slots == {slot for slot in self.waiting.values() if slot is not None}

    @invariant()
    def every_slot_is_in_one_place(self) -> None:
        places = [*self.worker.free, *self.slots_in_the_pipe(), *self.inbox.slots, *self.leased]
        assert sorted(places) == [*range(SLOTS)]

    @invariant()
    def the_next_record_of_the_run_is_about_the_expected_batch(self) -> None:
        of_this_run = (record for record in self.pipe if record.run == self.inbox.run)
        following = next(of_this_run, self.worker)
        assert (following.epoch, following.batch) == self.where_expected()

    def where_expected(self) -> tuple[int, int]:
        epoch, batch = self.inbox.expected
        return (epoch, batch) if batch < BATCHES else (epoch + 1, 0)

    def slots_in_the_pipe(self) -> list[int]:
        return [record.slot for record in self.pipe if record.kind == READY]


test_everything_in_any_order = Life.TestCase
test_everything_in_any_order.settings = settings(
    max_examples=80, stateful_step_count=30, deadline=None
)
