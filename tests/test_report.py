"""Plots that are PNGs with something on them, a summary that fits a terminal, predictions that read back equal."""

from __future__ import annotations

import csv
import pathlib
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from PIL import Image

from features.errors import UserError
from training import report, scores

NAMES = ["Hündchen", "ねこ", "$5_a$", "кот", "new\nline", "a very long class name that goes on and on"]


def pixels(path: pathlib.Path) -> np.ndarray:
    """The PNG's pixels, uint8 [H, W, 3], of which some must differ."""
    with Image.open(path) as image:
        assert image.format == "PNG"
        content = np.asarray(image.convert("RGB"))
    assert content.std() > 5
    return content


def has(content: np.ndarray, colour: str) -> bool:
    """Whether a '#rrggbb' is among the pixels."""
    return bool((content == [int(colour[i : i + 2], 16) for i in (1, 3, 5)]).all(axis=-1).any())


def history(epochs: int, validation: bool = True) -> dict[str, list[float]]:
    falling = [2.0 / (i + 1) for i in range(epochs)]
    series = {"loss": falling, "accuracy": [1 - value / 3 for value in falling]}
    if validation:
        series |= {"val_loss": [value + 0.02 * i for i, value in enumerate(falling)], "val_accuracy": series["accuracy"]}
    return series


def scored(classes: int, count: int = 200) -> dict[str, Any]:
    generator = np.random.default_rng(0)
    labels, probabilities = generator.integers(classes, size=count), generator.dirichlet(np.ones(classes), size=count)
    keys = [f"folder/{i}.jpg" for i in range(count)]
    return scores.score(labels, probabilities, keys, keys, [f"class {i}" for i in range(classes)])


# Plots.


@pytest.mark.parametrize(("epochs", "validation"), [(1, True), (1, False), (25, True), (40, False)])
def test_learning_curve(tmp_path: pathlib.Path, epochs: int, validation: bool) -> None:
    best = epochs if validation else None
    report.learning_curve(history(epochs, validation), str(tmp_path / "curve.png"), "a $title$", best)
    content = pixels(tmp_path / "curve.png")
    half = content.shape[1] // 2
    assert has(content[:, :half], report.TRAIN) and has(content[:, half:], report.TRAIN)
    assert has(content, report.VALIDATION) == validation


def test_a_history_without_accuracy_is_drawn_and_one_without_epochs_refused(tmp_path: pathlib.Path) -> None:
    report.learning_curve({"loss": [1.0, 0.5]}, str(tmp_path / "curve.png"), "loss only")
    pixels(tmp_path / "curve.png")
    with pytest.raises(UserError, match=r"at least 1 epoch, got the keys \['accuracy', 'loss'\]"):
        report.learning_curve({"loss": [], "accuracy": []}, str(tmp_path / "none.png"), "none")
    assert not (tmp_path / "none.png").exists()


@pytest.mark.parametrize("classes", [1, 2, 6, 40])
def test_confusion_matrix(tmp_path: pathlib.Path, classes: int) -> None:
    counts = np.random.default_rng(0).integers(0, 30, size=(classes, classes)) + 900 * np.eye(classes, dtype=int)
    counts[-1] = 0 if classes > 2 else counts[-1]  # a class without examples
    names = NAMES if classes == 6 else [f"class {i}" for i in range(classes)]
    report.confusion_matrix(counts, names, str(tmp_path / "matrix.png"))
    height, width, _ = pixels(tmp_path / "matrix.png").shape
    assert max(height, width) < 3000 and min(height, width) > 40 * classes


def test_confusion_matrix_of_the_wrong_size_is_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(UserError, match=r"matrix \[3, 3\], got shape \(2, 2\)"):
        report.confusion_matrix(np.eye(2, dtype=int), ["a", "b", "c"], str(tmp_path / "matrix.png"))


@pytest.mark.parametrize("count", [0, 1, 20])
def test_confused_pairs(tmp_path: pathlib.Path, count: int) -> None:
    pairs = [{"truth": NAMES[i % 6], "predicted": NAMES[(i + 1) % 6], "count": 30 - i} for i in range(count)]
    report.confused_pairs(pairs, str(tmp_path / "pairs.png"))
    assert has(pixels(tmp_path / "pairs.png"), report.TRAIN) == (count > 0)


def test_plots_are_the_same_bytes_twice_and_leave_settings_alone(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import matplotlib

    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)  # importing it would now fail
    matrix = np.array([[3, 1], [0, 4]])
    with matplotlib.rc_context({"font.size": 30, "lines.linewidth": 9}):
        report.confusion_matrix(matrix, ["a", "b"], str(tmp_path / "1.png"))
        assert matplotlib.rcParams["font.size"] == 30
    report.confusion_matrix(matrix, ["a", "b"], str(tmp_path / "2.png"))
    assert (tmp_path / "1.png").read_bytes() == (tmp_path / "2.png").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1.png", "2.png"]  # no temporary file


def test_matplotlib_loads_only_to_draw() -> None:
    root = pathlib.Path(__file__).parent.parent
    check = "import sys, training.report, training.scores; sys.exit('matplotlib' in sys.modules or 'scipy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], cwd=root, check=False).returncode == 0


def test_labels_are_short_and_say_what_cannot_be_drawn() -> None:
    assert report._label("кот") == "кот"
    assert report._label("a\x1b[31m\udcff") == "a?[31m?"
    assert report._label("\U0001f9ff") in ("\U0001f9ff", "\\U0001f9ff")  # drawn only where a font has it
    assert len(report._label("x" * 100)) == report.LONGEST_LABEL


# The summary.


def test_summary_of_two_classes() -> None:
    metrics = scored(2)
    text = report.summary(metrics, "validation", used_for_selection=True, groups_declared=True)
    accuracy = metrics["accuracy"]
    interval = f"[{100 * accuracy['low']:.2f}, {100 * accuracy['high']:.2f}]"
    lines = text.split("\n")
    assert lines[0].startswith("validation (used for selection): 200 examples in 200 groups")
    assert lines[1].split() == ["accuracy", f"{100 * accuracy['value']:.2f}%", *interval.split(), "groups", "declared"]
    assert "majority baseline" in text and "class 1" in text
    assert "top-5" not in text  # of two classes it says nothing
    assert sum(" taken for " in line for line in lines) == 3


def test_summary_says_when_groups_are_not_declared() -> None:
    text = report.summary(scored(3), "test", used_for_selection=False, groups_declared=False)
    assert "groups not declared: each distinct content is its own group" in text.split("\n")[1]
    assert "selection" not in text


@pytest.mark.parametrize("classes", [7, 15, 20, 300])
def test_summary_of_many_classes_fits_a_terminal(classes: int) -> None:
    lines = report.summary(scored(classes, 1000 if classes < 300 else 200), "test", False, True).split("\n")
    assert len(lines) <= 25 and max(map(len, lines)) <= 130
    shown = min(classes, 20)
    assert f"class {shown - 1} " in "\n".join(lines) and f"class {shown} " not in "\n".join(lines[:-3])
    assert ("and 280 more classes" in "\n".join(lines)) == (classes == 300)
    assert ("too few" in "\n".join(lines)) == (classes == 300)


def test_summary_of_one_example_with_names_that_would_move_the_cursor() -> None:
    metrics = scores.score([0], [[0.2, 0.8]], ["bad\x1b[2Jkey"], [""], ["new\nline", "ねこ"])
    text = report.summary(metrics, "test", False, False)
    assert "\x1b" not in text and "new?line taken for ねこ (80.0% against 20.0%)" in text
    assert "AUROC             undefined" in text
    text.encode()


def test_summary_without_mistakes() -> None:
    metrics = scores.score([0, 1], [[0.9, 0.1], [0.2, 0.8]], ["a", "b"], ["a", "b"], ["x", "y"])
    assert report.summary(metrics, "test", False, True).endswith("no mistakes")


# Predictions.


def test_predictions_read_back_equal(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "predictions.csv"
    probabilities = np.random.default_rng(0).dirichlet(np.ones(3), size=4).astype(np.float32)
    keys, groups, names = ['a,"b".jpg', "new\nline", "кот", " space "], ["", "g", "g", "ü"], ["x,y", "ねこ", "z"]
    report.write_predictions(str(path), keys, groups, [0, 1, 2, 0], probabilities, names)
    with open(path, encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["key", "group", "truth", "predicted", "p:x,y", "p:ねこ", "p:z"]
    assert [row[0] for row in rows] == keys and [row[1] for row in rows] == groups
    assert [row[2] for row in rows] == ["x,y", "ねこ", "z", "x,y"]
    assert [row[3] for row in rows] == [names[i] for i in probabilities.argmax(1)]
    np.testing.assert_allclose([[float(cell) for cell in row[4:]] for row in rows], probabilities, rtol=5e-6)
    assert list(tmp_path.iterdir()) == [path]


def test_predictions_keep_six_digits_and_names_that_are_not_utf8(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "predictions.csv"
    report.write_predictions(str(path), ["\udcff.jpg"], ["g"], [0], [[0.123456789, 1.23456789e-9]], ["a", "b"])
    assert path.read_bytes() == b"key,group,truth,predicted,p:a,p:b\n\xff.jpg,g,a,a,0.123457,1.23457e-09\n"


def test_predictions_are_whole_or_not_there(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "predictions.csv"
    path.write_text("old")
    with pytest.raises(UserError, match=r"expected probabilities \[2, 2\]"):
        report.write_predictions(str(path), ["a", "b"], ["", ""], [0, 1], np.full((1, 2), 0.5), ["x", "y"])
    with pytest.raises(IndexError):
        report.write_predictions(str(path), ["a", "b"], ["", ""], [0, 9], np.full((2, 2), 0.5), ["x", "y"])
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
