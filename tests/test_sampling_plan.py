"""Sampling is a pure function: which rows come how often, whoever asks for which of them."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastloader import Balanced, ClassBatch, ConfigError, PlanError, Sampling, Weighted
from fastloader.options.config import make_config
from fastloader.options.sampling import parse_sampling
from fastloader.plan.order import Order, Uniform, mixed, permuted
from fastloader.plan.plan import Plan
from fastloader.plan.sampling import OfClasses, OfWeights, cumulative, grouped, order_of_classes

seeds = st.integers(0, 2**64 - 1)
epochs = st.integers(0, 2**62)
class_lists = st.lists(st.integers(0, 6), min_size=1, max_size=80).map(np.array)

BALANCED_OF_12 = [11, 8, 6, 10, 2, 11, 11, 5, 9, 10, 11, 7]
WEIGHTED_OF_12 = [4, 10, 10, 7, 11, 11, 8, 10, 11, 9, 2, 10]
SYSTEMATIC_OF_12 = [10, 3, 7, 1, 8, 9, 5, 11, 6, 9, 7, 11]


def of_classes(
    classes: np.ndarray, sampling: Sampling | None = None, rows: int | None = None, seed: int = 0
) -> OfClasses:
    order = order_of_classes(
        sampling or Balanced(), *grouped(classes), seed=seed, rows=rows or len(classes), where="t"
    )
    assert isinstance(order, OfClasses)
    return order


def of_weights(
    weights: list[float], rows: int | None = None, seed: int = 0, *, replacement: bool = True
) -> OfWeights:
    ends = cumulative(np.array(weights, float))
    return OfWeights(ends, seed, rows or len(weights), Weighted("w", replacement=replacement))


@st.composite
def orders(draw: st.DrawFn) -> Order:
    """One of any kind, of a small table."""
    seed, rows = draw(seeds), draw(st.integers(1, 150))
    kind = draw(st.sampled_from(["uniform", "balanced", "classes", "weights", "systematic"]))
    if kind == "uniform":
        shuffle, block = draw(st.booleans()), draw(st.integers(1, 9))
        return Uniform(draw(st.integers(1, 90)), shuffle, block, seed, rows)
    if kind.startswith(("balanced", "classes")):
        classes = draw(class_lists)
        sampling: Sampling = Balanced()
        if kind == "classes":
            most = min(rows, len(set(classes.tolist())))
            some = draw(st.integers(1, most))
            sampling = ClassBatch(some, draw(st.integers(1, max(1, rows // some))))
        return of_classes(classes, sampling, rows, seed)
    weights = draw(st.lists(st.floats(0, 1e6), min_size=1, max_size=60).filter(sum))
    return of_weights(weights, rows, seed, replacement=kind == "weights")


def rows_of(order: Order, epoch: int = 0) -> list[int]:
    return order(epoch, np.arange(order.rows)).positions.tolist()


# ---- of any kind ---------------------------------------------------------------------------------


@given(orders(), epochs, st.data())
def test_a_row_does_not_depend_on_the_others_that_are_asked_for(
    order: Order, epoch: int, data: st.DataObject
) -> None:
    whole = order(epoch, np.arange(order.rows))
    some = data.draw(st.lists(st.integers(0, order.rows - 1), max_size=20).map(np.array))
    some = some.astype(np.int64)
    part = order(epoch, some)
    assert part.positions.tolist() == whole.positions[some].tolist()
    if whole.draws is None:
        assert part.draws is None
    else:
        assert part.draws is not None
        assert part.draws.tolist() == whole.draws[some].tolist()


@given(orders(), epochs)
def test_a_row_that_comes_twice_has_another_draw(order: Order, epoch: int) -> None:
    found = order(epoch, np.arange(order.rows))
    draws = np.zeros(order.rows, np.uint64) if found.draws is None else found.draws
    pairs = list(zip(found.positions.tolist(), draws.tolist(), strict=True))
    assert len(set(pairs)) == len(pairs)


@given(orders(), epochs, st.data())
def test_the_rest_of_an_epoch_comes_once_with_other_batches_and_shards(
    order: Order, epoch: int, data: st.DataObject
) -> None:
    """What elastic resuming is, from any step on, twice in the same epoch."""
    expected = rows_of(order, epoch)
    delivered, first_row = [], 0
    for turn in range(3):
        size, shards = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 5))
        drop, workers = data.draw(st.booleans()), data.draw(st.integers(1, 4))
        plans = [Plan(order, size, drop, (index, shards), first_row) for index in range(shards)]
        steps = len(plans[0])
        assert {len(plan) for plan in plans} == {steps}
        batches = {}
        for plan in plans:
            for worker in range(workers):
                its = plan.batches_of(worker, workers)
                for batch, rows in zip(its, plan.read(epoch, its), strict=True):
                    batches[batch, plan.shard[0]] = rows.positions.tolist()
        assert len(batches) == steps * shards
        if order.rows - first_row >= shards:
            assert all(1 <= len(rows) <= size for rows in batches.values())
        until = data.draw(st.integers(0, steps)) if turn < 2 else steps
        for step in range(until):
            delivered += [row for shard in range(shards) for row in batches[step, shard]]
        assert delivered == expected[: len(delivered)]
        if until == steps:  # the epoch has ended
            left_out = len(expected) - len(delivered)
            dropped = drop or (size == 1 and shards > 1)
            assert left_out < (size * shards if dropped else shards)
            return
        first_row = plans[0].before(until)
        assert first_row == len(delivered)


def test_orders_never_change() -> None:
    """A state of a long training would resume with other rows."""
    classes = np.array([0] * 8 + [1] * 3 + [2])
    assert rows_of(of_classes(classes, seed=7), 3) == BALANCED_OF_12
    weights = [*range(12)]
    assert rows_of(of_weights(weights, seed=7), 3) == WEIGHTED_OF_12
    assert rows_of(of_weights(weights, seed=7, replacement=False), 3) == SYSTEMATIC_OF_12


@given(orders())
def test_epochs_and_seeds_differ(order: Order) -> None:
    if isinstance(order, Uniform) or order.rows < 40 or len(set(rows_of(order))) < 5:
        return
    found = {tuple(rows_of(order, epoch)) for epoch in (0, 1, 2, 2**40)}
    assert len(found) == 4


# ---- classes -------------------------------------------------------------------------------------


@given(class_lists, seeds, st.integers(0, 2**40), st.integers(1, 300))
def test_every_class_comes_once_in_each_round(
    classes: np.ndarray, seed: int, epoch: int, rows: int
) -> None:
    order = of_classes(classes, rows=rows, seed=seed)
    found = classes[rows_of(order, epoch)].tolist()
    count = len(set(classes.tolist()))
    begin = -(epoch * rows) % count  # the first round that begins in this epoch
    for start in range(begin, rows - count + 1, count):
        assert len(set(found[start : start + count])) == count
    counts = Counter(found)
    each = [counts[name] for name in set(classes.tolist())]
    assert max(each) - min(each) <= 2


@given(class_lists, seeds, st.integers(1, 60))
def test_rows_of_a_class_come_once_before_any_comes_again_across_epochs(
    classes: np.ndarray, seed: int, rows: int
) -> None:
    order = of_classes(classes, rows=rows, seed=seed)
    found = [row for epoch in range(5) for row in rows_of(order, epoch)]
    for name in set(classes.tolist()):
        members = set(np.flatnonzero(classes == name).tolist())
        its = [row for row in found if row in members]
        for start in range(0, len(its), len(members)):
            cycle = its[start : start + len(members)]
            assert len(set(cycle)) == len(cycle)


@given(class_lists, seeds, st.integers(0, 2**40), st.integers(1, 4), st.integers(1, 5))
def test_batches_of_classes_have_different_classes_and_rows(
    classes: np.ndarray, seed: int, epoch: int, some: int, each: int
) -> None:
    count = len(set(classes.tolist()))
    sampling = ClassBatch(min(some, count), each)
    size = sampling.batch_size
    order = of_classes(classes, sampling, rows=5 * size - 1, seed=seed)
    assert order.rows == 4 * size  # whole batches alone
    found = rows_of(order, epoch)
    for batch in zip(*[iter(found)] * size, strict=True):
        groups = [batch[i : i + each] for i in range(0, size, each)]
        names = [set(classes[list(group)].tolist()) for group in groups]
        assert all(len(name) == 1 for name in names)
        assert len(set.union(*names)) == sampling.classes
        for group, (name,) in zip(groups, names, strict=True):
            there = int((classes == name).sum())
            most = Counter(group).most_common(1)[0][1]
            assert most == -(-each // there) if there < each else most == 1


def test_all_rows_and_classes_of_class_batches_come_in_the_long_run() -> None:
    classes = np.repeat(np.arange(7), [1, 2, 3, 5, 8, 13, 21])
    order = of_classes(classes, ClassBatch(3, 4), rows=1200)
    found = rows_of(order)
    assert set(found) == {*range(len(classes))}
    counts = Counter(classes[found].tolist())
    assert min(counts.values()) > 0.8 * 1200 / 7


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
def test_all_orders_of_a_class_are_equally_likely(n: int) -> None:
    trials = 200 * math.factorial(n)
    keys = mixed(np.arange(1, trials + 1, dtype=np.uint64))
    columns = [permuted(np.full(trials, i), np.full(trials, n), keys).tolist() for i in range(n)]
    counts = Counter(zip(*columns, strict=True))
    assert set(counts) == set(itertools.permutations(range(n)))
    assert abs(chi_squared([*counts.values()])) < 4


@given(st.integers(1, 3000), seeds)
def test_a_permutation_of_its_own_has_every_number_once(size: int, key: int) -> None:
    found = permuted(np.arange(size), np.full(size, size), np.full(size, key, np.uint64))
    assert sorted(found.tolist()) == [*range(size)]


def test_rows_of_a_class_come_equally_often_at_each_place() -> None:
    classes = np.zeros(30, int)
    counts = np.zeros((30, 30), int)
    for seed in range(1000):
        for place, row in enumerate(rows_of(of_classes(classes, seed=seed))):
            counts[place, row] += 1
    assert abs(chi_squared(counts.ravel().tolist())) < 5


def test_too_few_classes_are_an_error_in_words() -> None:
    with pytest.raises(PlanError, match=r"t: sampling=ClassBatch.*needs 3 classes.*has 2"):
        of_classes(np.array([0, 1, 1]), ClassBatch(3, 1))


# ---- weights -------------------------------------------------------------------------------------


def chi_squared(counts: list[int], shares: list[float] | None = None) -> float:
    """Return how far counts are above what the shares give, in standard deviations."""
    total = sum(counts)
    expected = [total / len(counts)] * len(counts) if shares is None else shares
    squares = sum((c - e) ** 2 / e for c, e in zip(counts, expected, strict=True))
    freedom = max(1, len(counts) - 1)
    return (squares - freedom) / math.sqrt(2 * freedom)


def test_draws_with_replacement_have_the_distribution_of_the_weights() -> None:
    """Of 300 epochs, chi-squared has the mean and the variance of its own distribution."""
    weights = [0.1, 1, 2, 0, 3.5, 10, 0.4, 7]
    positive = [i for i, weight in enumerate(weights) if weight]
    shares = np.array([weights[i] for i in positive]) / sum(weights) * 20_000
    found = []
    for seed in range(300):
        counts = np.bincount(rows_of(of_weights(weights, 20_000, seed), seed), minlength=8)
        assert counts[3] == 0
        found.append((((counts[positive] - shares) ** 2) / shares).sum())
    freedom = len(positive) - 1
    assert abs(np.mean(found) - freedom) < 4 * math.sqrt(2 * freedom / 300)
    assert 0.6 < np.var(found) / (2 * freedom) < 1.5


def test_draws_with_replacement_are_independent() -> None:
    """Of pairs of rows that follow each other, and of the same place in two epochs."""
    order = of_weights([1, 2, 3, 4], 40_000)
    one, other = rows_of(order, 0), rows_of(order, 1)
    share = np.array([1, 2, 3, 4]) / 10
    for pairs in (itertools.pairwise(one), zip(one, other, strict=True)):
        found = Counter(pairs)
        counts = [found[a, b] for a in range(4) for b in range(4)]
        expected = (np.outer(share, share).ravel() * sum(counts)).tolist()
        assert abs(chi_squared(counts, expected)) < 4


@given(
    st.lists(st.integers(0, 50), min_size=1, max_size=60).filter(sum), st.integers(1, 400), seeds,
    st.integers(0, 2**40),
)  # fmt: skip
def test_without_replacement_a_row_comes_as_often_as_its_share_up_or_down(
    weights: list[int], rows: int, seed: int, epoch: int
) -> None:
    order = of_weights([*map(float, weights)], rows, seed, replacement=False)
    counts = np.bincount(rows_of(order, epoch), minlength=len(weights))
    for count, weight in zip(counts.tolist(), weights, strict=True):
        whole, rest = divmod(weight * rows, sum(weights))
        assert whole <= count <= whole + (rest > 0)


def test_without_replacement_the_mean_is_the_share() -> None:
    weights = [1.0, 2.5, 0.3, 7.2]
    order = of_weights(weights, 10, replacement=False)
    counts = np.array([np.bincount(rows_of(order, epoch), minlength=4) for epoch in range(1500)])
    assert np.allclose(counts.mean(0), np.array(weights) / 11 * 10, atol=0.08)


def test_equal_weights_without_replacement_are_a_shuffle() -> None:
    order = of_weights([0.1] * 1000, replacement=False)
    assert sorted(rows_of(order)) == [*range(1000)]
    assert rows_of(order) != [*range(1000)]


def test_weights_that_cannot_be_drawn_by_are_an_error_in_words() -> None:
    with pytest.raises(PlanError, match="all weights are 0"):
        cumulative(np.zeros(3))
    with pytest.raises(PlanError, match="too large for a float64"):
        cumulative(np.full(3, 1e308))


# ---- epochs of another length --------------------------------------------------------------------


@given(st.integers(1, 60), st.booleans(), st.integers(1, 9), seeds, st.integers(1, 150))
def test_epochs_of_another_length_go_on_where_the_last_one_ended(
    table_rows: int, shuffle: bool, block: int, seed: int, rows: int
) -> None:  # fmt: skip
    order = Uniform(table_rows, shuffle, block, seed, rows)
    plain = Uniform(table_rows, shuffle, block, seed)
    found = [row for epoch in range(7) for row in rows_of(order, epoch)]
    turns = -(-len(found) // table_rows)
    expected = [row for turn in range(turns) for row in rows_of(plain, turn)]
    assert found == expected[: len(found)]


# ---- what users write ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sampling",
    [Balanced(), Balanced("a b"), Weighted("w"), Weighted("it's", replacement=False),
     ClassBatch(8, 4), ClassBatch(1, 1, "c")],
)  # fmt: skip
def test_a_sampling_is_what_its_text_says(sampling: Sampling) -> None:
    assert parse_sampling(repr(sampling)) == sampling
    environ = {"FASTLOADER_SAMPLING": repr(sampling), "FASTLOADER_URL": "x.db"}
    expected = sampling if sampling.column else sampling.of("label")
    assert make_config({}, environ).sampling == expected


@pytest.mark.parametrize(
    "wrong",
    ["uniform", "Weighted()", "Balanced(len)", "os.system('true')", "Balanced(**{'column': 'a'})",
     "(" * 500, 3, ["balanced"]],
)  # fmt: skip
def test_a_sampling_that_is_none_is_an_error_in_words(wrong: object) -> None:
    with pytest.raises(ConfigError, match='sampling=.* must be "balanced", Balanced'):
        make_config({"url": "x.db", "sampling": wrong}, {})


def test_options_that_cannot_go_together_are_an_error_in_words() -> None:
    def error(**options: object) -> str:
        with pytest.raises(ConfigError) as caught:
            make_config({"url": "x.db", **options}, {})
        return str(caught.value)

    assert make_config({"url": "x.db", "sampling": ClassBatch(8, 4)}, {}).batch_size == 32
    assert "batches have 32 rows: leave out batch_size" in error(
        sampling=ClassBatch(8, 4), batch_size=64
    )
    assert "from 1 to 1000000" in error(sampling=ClassBatch(10_000, 1000))
    assert "chooses single rows. Leave out shuffle_block" in error(
        sampling="balanced", shuffle_block=4
    )
    assert "there is no label: name the column" in error(sampling="balanced", label=None)
    assert "there are several labels" in error(sampling="balanced", label=["a", "b"])
    config = make_config({"url": "x.db", "sampling": "balanced", "label": "a:int32"}, {})
    assert config.sampling == Balanced("a")
    for wrong in (0, "4", True, 1.5):
        with pytest.raises(ConfigError, match="sampling: each=.* must be an integer from 1"):
            ClassBatch(2, wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="replacement=1 must be True or False"):
        Weighted("w", replacement=1)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="column='' must be the name of a column"):
        Balanced("")
    with pytest.raises(ConfigError, match="Weighted needs the column of the weights"):
        Weighted(None)  # type: ignore[arg-type]
