"""Operating points: chosen as one would by trying every threshold, frozen in a run, counted by hand where they are used."""

from __future__ import annotations

import csv
import json
import pathlib
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.cli import main
from headstart.commands.train import decision_lines
from headstart.training.runs.run_folder import Run
from headstart.training.scoring.goals import PAIRS, parse_goal
from headstart.training.scoring.operating_point import achieved, choose
from tests.conftest import raises, write_photos

GOALS = [f"{wanted}@{held}" for wanted, held in PAIRS]
EXAMPLES = st.lists(
    st.tuples(st.booleans(), st.sampled_from([0.0, 0.1, 0.25, 0.3, 0.5, 0.75, 0.9, 1.0])), min_size=1, max_size=25
)


def measured(name: str, truth: np.ndarray, taken: np.ndarray) -> float:
    """A measure by its definition; nan where it has none."""
    of, right = {
        "recall": (truth, taken),
        "sensitivity": (truth, taken),
        "precision": (taken, truth),
        "specificity": (~truth, ~taken),
    }[name]
    return float(right[of].mean()) if of.any() else float("nan")


@settings(max_examples=150, deadline=None)
@given(EXAMPLES, st.sampled_from(GOALS), st.sampled_from([0.3, 0.5, 0.9, 1.0]))
def test_no_other_threshold_is_better(examples: list[tuple[bool, float]], pair: str, least: float) -> None:
    truth, scores = np.array([each[0] for each in examples]), np.array([each[1] for each in examples])
    goal = parse_goal(f"{pair}={least}")
    point = choose(goal, "x", truth, scores)
    tried = []
    for threshold in sorted(set(scores)):
        taken = scores >= threshold
        wanted, held = (measured(name, truth, taken) for name in (goal.wanted, goal.held))
        if held >= least and wanted == wanted:
            tried.append((wanted, held))
    if not tried:
        assert np.isnan(point.threshold)
        return
    found = achieved(goal, truth, scores, point.threshold, [str(row) for row in range(len(truth))])
    assert (found[goal.wanted]["value"], found[goal.held]["value"]) == pytest.approx(max(tried))
    assert point.threshold == 0 or point.threshold not in scores  # between two probabilities
    assert point.best is not None and point.best >= least


def test_by_hand() -> None:
    truth = np.array([True, True, False, True, False, False])
    scores = np.array([0.9, 0.8, 0.7, 0.6, 0.4, 0.2])
    point = choose(parse_goal("recall@precision=0.75"), "x", truth, scores)
    assert point.threshold == pytest.approx(0.5) and point.goal == "recall@precision=0.75"
    found = achieved(parse_goal(point.goal), truth, scores, point.threshold, list("abcdef"))
    assert (found["recall"]["hits"], found["recall"]["trials"]) == (3, 3)
    assert (found["precision"]["hits"], found["precision"]["trials"]) == (3, 4)
    assert found["precision"]["low"] < 0.75 < found["precision"]["high"]
    assert choose(parse_goal("sensitivity@specificity=1"), "x", truth, scores).threshold == pytest.approx(0.75)
    none = choose(parse_goal("recall@precision=0.9"), "x", truth[::-1], scores)
    assert np.isnan(none.threshold) and none.best == pytest.approx(0.5)


# In a run.


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A store of two classes that look alike, with all three splits."""
    from tests.conftest import extracted

    folder = tmp_path_factory.mktemp("two")
    counts = {split: {"anemone": count, "fern": count} for split, count in (("train", 12), ("validation", 10), ("test", 10))}
    return extracted(write_photos(folder / "photos", counts), folder / "store")


@pytest.mark.slow
def test_frozen_by_validation_and_counted_on_test(
    two: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    asked = ["--operating_point", "recall@precision=0.8", "--epochs", "3"]
    assert main(["train", str(two), "--run", str(run), *asked]) == 0
    assert "recall@precision=0.8 of 'fern': probability" in capsys.readouterr().out
    kept = Run.open(str(run)).metrics["operating_point"]
    assert kept["positive_class"] == "fern" and kept["validation"]["precision"]["value"] >= 0.8
    for split in ("validation", "test"):
        assert main(["evaluate", str(run), "--split", split]) == 0
        assert "chosen by validation; recall" in capsys.readouterr().out
        folder = run / "evaluation" / split
        point = json.loads((folder / "metrics.json").read_text())["operating_point"]
        assert point["threshold"] == kept["threshold"]
        with open(folder / "predictions.csv", encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        taken = [row for row in rows if float(row["p:fern"]) >= kept["threshold"]]
        hits = sum(row["truth"] == "fern" for row in taken)
        assert (point["achieved"]["precision"]["hits"], point["achieved"]["precision"]["trials"]) == (hits, len(taken))
        assert (point["achieved"]["recall"]["hits"], point["achieved"]["recall"]["trials"]) == (hits, 10)
        if split == "validation":
            assert point["achieved"] == kept["validation"]


@pytest.mark.slow
def test_predictions_say_what_is_decided(
    two: pathlib.Path, run: pathlib.Path, photos: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    decided, image = tmp_path / "run", str(photos / "test" / "fern")
    assert main(["train", str(two), "--run", str(decided), "--operating_point", "recall@precision=0.5", "--epochs", "3"]) == 0
    metrics = json.loads((decided / "metrics.json").read_text())
    for threshold, decision in ((0.0, "fern"), (1.5, "anemone")):
        metrics["operating_point"]["threshold"] = threshold
        (decided / "metrics.json").write_text(json.dumps(metrics))
        capsys.readouterr()
        assert main(["predict", str(decided), image]) == 0
        rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
        assert {row["decision"] for row in rows} == {decision} and len(rows) == 4
    assert main(["predict", str(decided), image, "--output", str(tmp_path / "rows.jsonl")]) == 0
    assert {json.loads(line)["decision"] for line in (tmp_path / "rows.jsonl").read_text().splitlines()} == {"anemone"}
    capsys.readouterr()
    assert main(["predict", str(run), image]) == 0
    assert "decision" not in capsys.readouterr().out


@pytest.mark.slow
def test_one_of_several_classes_against_the_others(
    store: pathlib.Path, photos: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, flags = tmp_path / "run", ["--operating_point", "specificity@sensitivity=0.5", "--positive_class", "anemone"]
    assert main(["train", str(store), "--run", str(run), "--epochs", "8", *flags]) == 0
    assert Run.open(str(run)).metrics["operating_point"]["validation"]["specificity"]["trials"] == 8
    capsys.readouterr()
    assert main(["predict", str(run), str(photos / "test" / "gentian")]) == 0
    assert {row["decision"] for row in csv.DictReader(capsys.readouterr().out.splitlines())} <= {"anemone", "not anemone"}


def test_what_nothing_reaches_is_told_and_not_kept(two: pathlib.Path, run: pathlib.Path) -> None:
    point = {"goal": "recall@precision=0.99", "positive_class": "fern", "threshold": None, "best": 0.8, "validation": {}}
    calibration = {"temperature": 1.0, "why_not": "--no_calibrate"}
    told = decision_lines({"calibration": calibration, "operating_point": point})
    assert told[-1].startswith("warning: no threshold reaches recall@precision=0.99 for 'fern'") and "80.0%" in told[-1]


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--operating_point", "recal@precision=0.9"], "is one of recall@precision=0.95"),
        (["--operating_point", "recall@precision=95"], "above 0 and up to 1"),
        (["--operating_point", "recall@precision"], "above 0 and up to 1"),
        (["--positive_class", "fern"], "belongs to --operating_point"),
        (["--operating_point", "recall@precision=0.9"], "of 3 classes needs --positive_class NAME"),
        (["--operating_point", "recall@precision=0.9", "--positive_class", "ferm"], "is no class. Did you mean fern?"),
    ],
)
def test_refused(
    flags: list[str], told: str, store: pathlib.Path, tmp_path: pathlib.Path, one_line: Callable[[], str]
) -> None:
    assert main(["train", str(store), "--run", str(tmp_path / "run"), *flags]) == 2
    assert told in one_line()
    assert not (tmp_path / "run").exists()


def test_refused_without_a_validation_split(lopsided: pathlib.Path, tmp_path: pathlib.Path) -> None:
    from headstart.training.train import train
    from headstart.training.train_config import TrainConfig

    with raises("missing-split"):
        train(TrainConfig(store=str(lopsided), run=str(tmp_path / "run"), operating_point="recall@precision=0.9"))
