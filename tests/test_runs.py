"""`headstart runs`: every run below a folder in one table."""

from __future__ import annotations

import csv
import io
import json
import pathlib
import shutil
from typing import Any

import pytest

from headstart.cli import main
from headstart.features.errors import UserError
from headstart.training.evaluation.evaluate import evaluate
from headstart.training.evaluation.evaluate_config import EvaluateConfig
from headstart.training.runs.listing import list_runs
from headstart.training.runs.run_folder import WORK_FOLDER


@pytest.fixture(scope="module")
def folder(run: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A run that was evaluated, two that say they are others, one that was not evaluated, one that is not complete."""
    root = tmp_path_factory.mktemp("runs")
    first = root / "deep" / "first"
    shutil.copytree(run, first)
    for split in ("test", "validation"):
        evaluate(EvaluateConfig(run=str(first), split=split))
    for name, accuracy, changes in (
        ("better", 1.0, {"finetune": {**NOTHING, "unfreeze_from": "block"}}),
        ("worse", 0.01, {"finetune": NOTHING, "dataset_digest": "f" * 64}),
    ):
        shutil.copytree(first, root / name)
        _change(root / name / "config.json", **changes)
        _change(root / name / "evaluation/test/metrics.json", accuracy={"value": accuracy, "low": None, "high": None})
    shutil.copytree(run, root / "unevaluated")
    shutil.copytree(run, root / "killed")
    (root / "killed" / "metrics.json").unlink()
    return root


NOTHING = {"unfreeze_from": "", "unfreeze_after": "", "unfreeze_last": 0, "unfreeze_all": False}


def _change(path: pathlib.Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_runs_stand_best_first(folder: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = list_runs(str(folder))
    assert [row.run for row in rows] == ["better", "deep/first", "unevaluated", "worse"]
    assert [row.technique for row in rows] == ["fine-tuned, from block", "linear head", "linear head", "augmented, frozen"]
    first, last = rows[1], rows[2]
    scores = json.loads((folder / "deep/first/evaluation/test/metrics.json").read_text())
    assert first.accuracy == scores["accuracy"]["value"] and first.low == scores["accuracy"]["low"] and first.examples == 12
    assert first.model_bytes == (folder / "deep/first/model.keras").stat().st_size and first.seconds > 0
    assert (last.accuracy, last.split, last.used_for_selection) == (None, None, None) and not first.used_for_selection
    assert main(["runs", str(folder)]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert len(lines) == 5 and "100.00%" in lines[1] and "not evaluated" in lines[3]
    assert lines[0].split()[:2] == ["run", "dataset"] and "store ffffffff" in lines[4] and f"store {first.data}" in lines[1]
    assert err.count("several datasets") == 1 and len(err.splitlines()) == 1


def test_a_mean_average_precision_stands_by_itself(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    shutil.copytree(folder / "deep" / "first", tmp_path / "one")
    shutil.copytree(folder / "worse", tmp_path / "several")
    _change(tmp_path / "several" / "config.json", label_delimiter="|")
    precision = {"value": 0.9999, "low": None, "high": None}
    _change(tmp_path / "several" / "evaluation/test/metrics.json", mean_average_precision=precision)
    _change(tmp_path / "one" / "evaluation/test/metrics.json", accuracy={**precision, "value": 0.5})
    assert [(row.run, row.accuracy) for row in list_runs(str(tmp_path))] == [("one", 0.5), ("several", 0.9999)]


def test_what_a_split_was_used_for_is_told(folder: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", str(folder / "deep"), "--split", "validation"]) == 0
    assert "1 of 1 runs were trained on this split or chosen by it" in capsys.readouterr().err


def test_programs_read_the_same(folder: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = list_runs(str(folder))
    assert main(["runs", str(folder), "--json"]) == 0
    assert [row["run"] for row in json.loads(capsys.readouterr().out)] == [row.run for row in rows]
    assert main(["runs", str(folder), "--csv"]) == 0
    read = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["accuracy"] for row in read] == ["" if row.accuracy is None else str(row.accuracy) for row in rows]


def test_a_folder_may_be_a_run(folder: pathlib.Path) -> None:
    assert [row.run for row in list_runs(str(folder / "deep/first"))] == ["."]


def test_a_training_that_was_killed_before_it_was_in_its_place_is_no_run(run: pathlib.Path, tmp_path: pathlib.Path) -> None:
    shutil.copytree(run, tmp_path / "runs" / "run")
    shutil.copytree(run, tmp_path / "runs" / "run" / WORK_FOLDER)
    assert [row.run for row in list_runs(str(tmp_path / "runs"))] == ["run"]
    assert [row.run for row in list_runs(str(tmp_path / "runs" / "run"))] == ["."]


def test_a_mistake_is_one_line(folder: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", str(folder), "--split"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_folder_without_runs_says_so(tmp_path: pathlib.Path) -> None:
    with pytest.raises(UserError, match="no run lies below"):
        list_runs(str(tmp_path))
