"""doctor finds what is wrong with an installation, a machine, an environment, a database."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import resource
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastloader import cli
from fastloader.cli.doctor import frameworks, installation, resources
from fastloader.cli.doctor.database import check_database
from fastloader.cli.doctor.sample_images import SAMPLES, SHAPE
from fastloader.fields import _kernel

from .conftest import Either
from .support import simple_rows
from .tiers import full


def findings(check: Any) -> list[tuple[str, str, str]]:
    return [tuple(finding) for finding in check()]


@full
@pytest.mark.parametrize("either", ["postgres"], indirect=True)
def test_doctor_finds_this_machine_and_a_database_all_right(
    either: Either, capsys: pytest.CaptureFixture[str]
) -> None:
    code = cli.main(["doctor", either.table(simple_rows(5)), "--json"])
    found = {
        finding["what"]: finding for finding in json.loads(capsys.readouterr().out)["findings"]
    }
    assert {finding["status"] for finding in found.values()} <= {"ok", "warn"}, found
    assert code == 0
    for what in ("versions", "codecs", "loader", "shared memory", "cores", "memory", "database"):
        assert found[what]["status"] == "ok", found[what]
    assert "5 rows, labels: label" in found["database"]["words"]
    if importlib.util.find_spec("tensorflow"):
        assert "without a copy" in found["hand-over"]["words"]


def test_doctor_finds_a_kernel_of_another_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_kernel, "version", "0.0.9")
    (what, status, words), *_ = findings(installation.check_versions)
    assert (what, status) == ("versions", "fail")
    assert "its kernel was compiled for 0.0.9: reinstall it" in words


def test_doctor_looks_at_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTLOADER_WORKER", "2")
    ((_, status, words), rest) = findings(installation.check_environment)
    assert status == "warn"
    assert "FASTLOADER_WORKER is not an option" in words
    assert "did you mean FASTLOADER_WORKERS?" in words
    assert (rest[1], rest[2]) == ("ok", "no option is set by a variable")
    monkeypatch.setenv("FASTLOADER_SEED", "3")
    assert findings(installation.check_environment)[-1][2] == "FASTLOADER_SEED"
    monkeypatch.setenv("FASTLOADER_SIZE", "large")
    *_, (_, status, words) = findings(installation.check_environment)
    assert status == "fail"
    assert "FASTLOADER_SIZE" in words


def test_doctor_takes_no_option_of_the_environment_for_its_own_loader(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FASTLOADER_TABLE", "none")
    monkeypatch.setenv("FASTLOADER_SIZE", "large")
    ((_, status, _),) = findings(frameworks.check_loader)
    assert status == "ok"


def test_doctor_says_what_is_wrong_with_the_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ((_, status, words),) = findings(lambda: check_database(f"sqlite:///{tmp_path}/none.db"))
    assert status == "fail"
    assert "no such file" in words
    monkeypatch.setenv("FASTLOADER_URL", "postgresql://me:topsecret@127.0.0.1:1/photos")
    ((_, status, words),) = findings(lambda: check_database(None))
    assert status == "fail"
    assert "Connection refused" in words
    assert "topsecret" not in words


def test_doctor_says_how_an_empty_database_is_filled(either: Either, tmp_path: Path) -> None:
    ((_, status, words),) = findings(lambda: check_database(either.url))
    assert status == "fail"
    assert "fastloader ingest FOLDER URL" in words
    url = either.table([])
    found = findings(lambda: check_database(url))
    assert any("fastloader ingest FOLDER URL" in words for *_, words in found), found
    ((_, _, words),) = findings(lambda: check_database(str(tmp_path / "none.db")))
    assert "fastloader ingest FOLDER URL" in words


def test_what_brings_pillow_is_found() -> None:
    pytest.importorskip("matplotlib")
    assert "matplotlib" in installation.requiring_pillow()


def test_doctor_tells_when_two_packages_overwrite_each_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda _: "1.2.3")
    monkeypatch.setattr(frameworks, "report_of", lambda _: "no answer")
    monkeypatch.setattr(installation, "requiring_pillow", lambda: ["matplotlib", "tensorboard"])
    ((_, status, words),) = findings(installation.check_pillow)
    assert status == "fail"
    assert "pip uninstall pillow pillow-simd, then pip install 'fastloader[pillow]'" in words
    assert "matplotlib, tensorboard would install Pillow again" in words
    monkeypatch.setattr(installation, "requiring_pillow", list)
    ((_, _, words),) = findings(installation.check_pillow)
    assert "then pip install 'fastloader[pillow-simd]'" in words
    (_, status, words), *_ = findings(frameworks.check_tensorflow)
    assert status == "fail"
    assert "tensorflow-cpu" in words


def test_doctor_tells_when_the_kernel_makes_other_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installation, "COLOR", (0, 120, 40))
    (_, status, words), *_ = findings(installation.check_codecs)
    assert status == "fail"
    assert "JPEG: wrong pixels; PNG: wrong pixels; WebP: wrong pixels" in words
    monkeypatch.setattr(installation, "SAMPLES", {**SAMPLES, "WebP": b"RIFF"})
    (_, status, words), *_ = findings(installation.check_codecs)
    assert status == "fail"
    assert "WebP: wrong" not in words


def test_the_samples_are_what_they_are_said_to_be() -> None:
    pixels = np.zeros((3, *SHAPE), np.uint8)
    decoder = _kernel.Decoder(16, 16, max_pixels=256)
    assert decoder.decode(list(SAMPLES.values()), pixels) == []
    assert len({blob[:4] for blob in SAMPLES.values()}) == 3


def test_doctor_warns_of_few_descriptors_little_memory_one_core(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (64, 4096))
    assert findings(resources.check_descriptors) == [
        ("descriptors", "warn", "64 open files; raise it: ulimit -n 1024")
    ]
    monkeypatch.setattr(resources, "available_bytes", lambda: 300 << 20)
    (_, status, words), *_ = findings(resources.check_memory)
    assert status == "warn"
    assert words.startswith("315 MB may")
    monkeypatch.setattr(resources, "cores", lambda: 1)
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    (_, status, words), *_ = findings(resources.check_cores)
    assert status == "warn"
    assert "1 of 16" in words


def test_doctor_tells_when_there_is_no_shared_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> int:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "memfd_create", refused)
    ((_, status, words),) = findings(resources.check_shared_memory)
    assert status == "fail"
    assert "seccomp" in words


@full
def test_a_framework_that_cannot_be_imported_crashes_or_hangs_is_a_finding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('libcudart.so.13: cannot open')")
    (tmp_path / "jax.py").write_text("import os; os.kill(os.getpid(), 11)")
    (tmp_path / "tensorflow.py").write_text("import time; time.sleep(60)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: object())
    ((_, status, words),) = findings(frameworks.check_torch)
    assert (status, "libcudart.so.13" in words) == ("fail", True)
    ((_, status, words),) = findings(frameworks.check_jax)
    assert (status, "SIGSEGV" in words) == ("fail", True)
    monkeypatch.setattr(frameworks, "REPORT_TIMEOUT_S", 3.0)
    check = lambda: frameworks.check_framework("TensorFlow", "tensorflow")  # noqa: E731
    ((_, status, words),) = findings(check)
    assert (status, "no answer within 3 s" in words) == ("fail", True)


def test_a_check_that_fails_itself_is_a_finding(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(frameworks, "report_of", lambda _: "no answer")

    def broken() -> int:
        raise RuntimeError("unheard of")

    monkeypatch.setattr(resources, "available_bytes", broken)
    assert cli.main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert "fail  memory" in out
    assert "RuntimeError: unheard of" in out
    assert "ok    codecs" in out
    assert ("with sanitizers" in out) == _kernel.sanitized
