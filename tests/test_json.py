"""`--json`: every command's result for programs, and nothing else on stdout."""

from __future__ import annotations

import json
import math
import pathlib
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from headstart.cli import COMMANDS, main
from headstart.commands.outcome import plain

COMMON = {  # by command: flags, and names that its JSON has
    "info {store}": {"store", "spec", "splits", "totals", "class_names"},
    "verify {store}": {"store", "faults", "totals"},
    "clean {store} --grace 0": {"store", "removed", "kept"},
    "compact {store}": {"store", "generations_before"},
    "probe {store} --run {new}": {"probes", "advice"},
    "train {store} --run {new} --epochs 1": {"run", "accuracy", "calibration", "agreement"},
    "evaluate {run}": {"accuracy", "per_class", "operating_point"},
    "compare {evaluated} {evaluated} --split validation": {"difference", "parts", "better"},
    "backbones MobileNetV2 --image_size 32": {"backbone", "layers", "ends"},
    "export {run} --format keras --output {new}": {"format", "bytes", "compared"},
}


@pytest.fixture
def places(store: pathlib.Path, run_copy: pathlib.Path, tmp_path: pathlib.Path) -> dict[str, pathlib.Path]:
    return {"store": store, "run": run_copy, "evaluated": run_copy, "new": tmp_path / "new"}


def result_of(words: list[str], capsys: pytest.CaptureFixture[str]) -> Any:
    assert main([*words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.slow
@pytest.mark.parametrize("line", COMMON)
def test_the_result_of_a_command(line: str, places: dict[str, pathlib.Path], capsys: pytest.CaptureFixture[str]) -> None:
    if "{evaluated}" in line:
        main(["evaluate", str(places["run"]), "--split", "validation"])
        capsys.readouterr()
    found = result_of(line.format(**places).split(), capsys)
    assert COMMON[line] <= set(found), sorted(found)


def test_lists(places: dict[str, pathlib.Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert {row["name"] for row in result_of(["backbones"], capsys)} >= {"VGG16", "EfficientNetLite0"}
    assert {row["name"] for row in result_of(["doctor"], capsys)} >= {"keras", "memory", "engine"}
    (row,) = result_of(["runs", str(places["run"].parent)], capsys)
    assert row["backbone"] and row["accuracy"] is None  # not evaluated


@pytest.mark.slow
def test_a_process_says_nothing_else(places: dict[str, pathlib.Path], photos: pathlib.Path) -> None:
    flags = ["--backbone", "MobileNetV2", "--weights", "random:1", "--image_size", "32", "--store", str(places["new"])]
    done = subprocess.run(
        [sys.executable, "-m", "headstart", "extract", str(photos), *flags, "--json"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["totals"]["stored"] == sum(found["splits"].values()) > 0 and found["totals"]["dead"] == 0
    assert "images stored" in done.stderr


def test_a_mistake_is_still_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "nowhere", "--json"]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.startswith("headstart info: error: ")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_takes_it(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([name, "--help"])
    assert "--json" in capsys.readouterr().out


@dataclass
class Thing:
    share: float
    names: tuple[str, ...]
    values: Any


def test_plain_values() -> None:
    thing = Thing(math.nan, ("a",), {1: np.float32([0.5, np.inf]), "x": pathlib.PurePosixPath("p"), "n": np.int64(3)})
    assert plain([thing]) == [{"share": None, "names": ["a"], "values": {"1": [0.5, None], "x": "p", "n": 3}}]
    json.dumps(plain(thing))
