"""A host process that uses headstart: it hears no library's chatter, and keeps its own settings."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys

import pytest

import headstart
from tests.conftest import small_backbone

ROOT = pathlib.Path(__file__).resolve().parent.parent
SETTINGS = """
import logging, os, signal, sys, warnings

def settings():
    loggers = [logging.getLogger(name) for name in (None, "tensorflow", "absl", "apache_beam", "matplotlib")]
    levels = [(logger.level, list(logger.filters), list(logger.handlers)) for logger in loggers]
    signals = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    return levels, list(warnings.filters), signals
"""


def in_a_process(code: str, cwd: pathlib.Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TF_")}
    return subprocess.run(
        [sys.executable, "-c", SETTINGS + code],
        cwd=cwd, env={**environment, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=110,
    )  # fmt: skip


@pytest.mark.slow
def test_importing_any_module_changes_nothing(tmp_path: pathlib.Path) -> None:
    packages = ("features", "pipelines", "training", "headstart")
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts) for name in packages for path in (ROOT / name).glob("*.py")
    ]
    names = [name for name in sorted(modules) if name.partition(".")[2] not in ("__main__", "__init__", "jax_engine")]
    code = f"""
import importlib, tensorflow, keras, apache_beam, tensorflow_datasets, matplotlib.figure
import apache_beam.runners.portability.fn_api_runner.fn_runner
def all_of_it():
    return settings(), dict(os.environ)
before = all_of_it()
for name in {names!r}:
    importlib.import_module(name)
    assert all_of_it() == before, name
"""
    done = in_a_process(code, tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_functions_are_as_quiet_as_the_commands(photos: pathlib.Path, tmp_path: pathlib.Path) -> None:
    code = f"""
import numpy, scipy.sparse  # they come with the functions, and filter warnings of their own
before = settings()
from headstart import ExtractConfig, PredictConfig, TrainConfig, extract, predict, train
extract(ExtractConfig(input={str(photos)!r}, store="store", **{small_backbone()!r}))
train(TrainConfig(store="store", run="run", epochs=1))
found = predict(PredictConfig(run="run", images=[{str(photos / "test")!r}]))
next(found)
assert settings() == before
print(len(list(found)))
assert settings() == before
"""
    done = in_a_process(code, tmp_path)
    assert (done.returncode, done.stdout) == (0, "11\n"), done.stderr
    ours = ("extract: ", "engine ", "time ", "store: ", "split ", "class")
    assert [line for line in done.stderr.splitlines() if not line.startswith(ours)] == []


def test_a_store_that_grows_in_another_process_is_as_quiet(photos: pathlib.Path, tmp_path: pathlib.Path) -> None:
    images = pathlib.Path(shutil.copytree(photos / "test", tmp_path / "images"))
    code = """
from headstart import ExtractConfig, extract
extract(ExtractConfig(input="images", store="store", image_size="32", splits="train=1"))
"""
    for _ in range(2):  # the second time it copies, and the network is kept
        done = in_a_process(code, tmp_path)
        assert (done.returncode, done.stdout) == (0, ""), done.stderr
        ours = ("extract: ", "engine ", "time ", "store: ", "split ", "class")
        assert [line for line in done.stderr.splitlines() if not line.startswith(ours)] == []
        for path in list((photos / "validation").rglob("*.*")):
            shutil.copy(path, images / path.parent.name / f"more-{path.name}")
    assert "12 to copy" in done.stderr


def test_the_public_names_are_listed() -> None:
    assert set(headstart.__all__) <= set(dir(headstart))
