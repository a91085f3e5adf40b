"""A state of a loader with other batches is refused, and the error says what is different."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from fastloader import FastLoader, StateError

from .support import simple_rows, table

OPTIONS: dict[str, Any] = {
    "size": (16, 16), "batch_size": 8, "workers": 2, "shuffle": True, "shuffle_block": 3, "seed": 5,
}  # fmt: skip
BATCHES = 13


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 4}, "saved with batch_size=8, and this loader has batch_size=4"),
        ({"seed": 6}, "saved with seed=5, and this loader has seed=6"),
        ({"shuffle": False}, "saved with shuffle=True, and this loader has shuffle=False"),
        ({"shuffle_block": 1}, "saved with shuffle_block=3, and"),
        ({"drop_remainder": True}, "saved with drop_remainder=False"),
        ({"shard": (0, 2)}, r"saved with shard=\[0, 1\], and this loader has shard=\[0, 2\]"),
        ({"query": "SELECT * FROM images"}, "saved with from='images', and .* from='SELECT"),
        ({"query": "SELECT * FROM images WHERE id > 3"}, "saved with from="),
    ],
)
def test_a_state_of_other_batches_is_refused_with_the_difference(
    small: str, change: dict[str, Any], message: str
) -> None:
    with FastLoader(small, **OPTIONS) as loader:
        state = loader.state_dict()
    with (
        FastLoader(small, **{**OPTIONS, **change}) as loader,
        pytest.raises(StateError, match=message),
    ):
        loader.load_state_dict(state)


def test_what_does_not_change_the_batches_may_change(small: str) -> None:
    with FastLoader(small, **OPTIONS) as loader:
        state = loader.state_dict()
    change = {"size": (8, 8), "workers": 1, "slots": 3, "with_keys": False, "on_error": "skip"}
    with FastLoader(small, **{**OPTIONS, **change}) as loader:
        loader.load_state_dict(state)
        assert len([*loader]) == BATCHES


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("DELETE FROM images WHERE id = 30", "had 100 rows when the state was saved, and has 99"),
        ("INSERT INTO images SELECT 1, image_data, label FROM images WHERE id = 3", "has 101 now"),
        ("UPDATE images SET id = 31 WHERE id = 30", "has other keys now than when the state was"),
    ],
)
def test_a_table_that_has_changed_is_noticed(small: str, sql: str, message: str) -> None:
    with FastLoader(small, **OPTIONS) as loader:
        state = loader.state_dict()
    connection = sqlite3.connect(small)
    with connection:
        connection.execute(sql)
    connection.close()
    with FastLoader(small, **OPTIONS) as loader, pytest.raises(StateError, match=message):
        loader.load_state_dict(state)


def test_another_file_with_the_same_keys_is_noticed_and_the_same_file_elsewhere_is_not(
    small: str, tmp_path: Path
) -> None:
    with FastLoader(small, **OPTIONS) as loader:
        state = loader.state_dict()
    (tmp_path / "elsewhere").mkdir()
    for name in ("other.db", "elsewhere/small.db"):
        table(tmp_path / name, simple_rows(100, gap=3))
    with FastLoader(tmp_path / "elsewhere" / "small.db", **OPTIONS) as loader:
        loader.load_state_dict(state)
    with (
        FastLoader(tmp_path / "other.db", **OPTIONS) as loader,
        pytest.raises(StateError, match="database='small.db', and .* database='other.db'"),
    ):
        loader.load_state_dict(state)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ({"batch": 13}, "the state is damaged: batch 13, but an epoch has 13 batches"),
        ({"batch": -1}, "damaged: batch -1"),
        ({"epoch": "1"}, "damaged: epoch '1'"),
        (
            {"format": 3},
            "has format 3, and this version of fastloader reads formats 1 and 2: load it",
        ),
        ({"plan": None}, "this is not the state of a loader"),
    ],
)
def test_what_is_no_state_is_refused(small: str, damage: dict[str, Any], message: str) -> None:
    with FastLoader(small, **OPTIONS) as loader:
        with pytest.raises(StateError, match=message):
            loader.load_state_dict({**loader.state_dict(), **damage})
        with pytest.raises(StateError, match="this is not the state of a loader"):
            loader.load_state_dict({})
        assert len([*loader]) == BATCHES
