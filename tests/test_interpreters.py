"""Programs whose sys.executable is not Python: frozen ones, and those that embed Python."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from fastloader import ConfigError, FastLoader
from fastloader.worker import survey

from .support import simple_rows, survey_processes, table, wait_until, worker_processes


@pytest.fixture
def path(tmp_path: Path) -> str:
    return table(tmp_path / "t.db", simple_rows(20))


def test_a_frozen_program_is_not_started_again(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    with pytest.raises(ConfigError, match="this program is frozen: .*Pass workers=0"):
        FastLoader(path, workers=2)
    assert not survey_processes() + worker_processes()
    with FastLoader(path, workers=0, size=(8, 8)) as loader:
        assert len(list(loader)) == 1


@pytest.mark.parametrize(
    ("executable", "words"),
    [
        ("", "sys.executable is empty, as in programs that embed Python"),
        (None, "sys.executable is empty"),
        ("/no/such/python", "sys.executable is '/no/such/python', which cannot be run"),
    ],
)
def test_without_an_interpreter(
    path: str, monkeypatch: pytest.MonkeyPatch, executable: str | None, words: str
) -> None:
    monkeypatch.setattr(sys, "executable", executable)
    with pytest.raises(ConfigError, match=f"{words}.*Pass workers=0"):
        FastLoader(path, workers=2)


def test_a_program_that_is_no_python_is_waited_for_only_so_long(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "embeds-python"
    program.write_text("#!/bin/sh\necho I am an editor\nexec sleep 600\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    monkeypatch.setattr(survey, "START_TIMEOUT_S", 1.0)
    with pytest.raises(ConfigError, match="(?s)has said nothing for 1 s.*I am an editor"):
        FastLoader(path, workers=2)
    wait_until(lambda: not survey_processes() + worker_processes())
