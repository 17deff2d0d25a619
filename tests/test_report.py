"""A summary that fits a terminal, predictions that read back equal."""

from __future__ import annotations

import csv
import pathlib
import re

import numpy as np
import pytest

from headstart.features.dataset.examples import Example
from headstart.features.errors import UserError
from headstart.training.evaluation import report
from headstart.training.scoring import scores


def scored(classes: int, count: int = 200) -> scores.Scores:
    generator = np.random.default_rng(0)
    labels, probabilities = generator.integers(classes, size=count), generator.dirichlet(np.ones(classes), size=count)
    keys = [f"folder/{i}.jpg" for i in range(count)]
    return scores.score(labels, probabilities, keys, keys, [f"class {i}" for i in range(classes)])


# The summary.


def test_summary_of_two_classes() -> None:
    metrics = scored(2)
    text = report.summary(metrics, "validation", used_for_selection=True, groups_declared=True)
    accuracy = metrics.accuracy
    interval = f"[{100 * accuracy.low:.2f}, {100 * accuracy.high:.2f}]"
    lines = text.split("\n")
    assert lines[0].startswith("validation (used for selection): 200 examples in 200 groups")
    assert lines[1].split() == ["accuracy", f"{100 * accuracy.value:.2f}%", *interval.split(), "groups", "declared"]
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
    rows = [found for line in lines[:-4] for found in re.findall(r"class (\d+)  +\d+ +\S+ +(\d\S*)", line)]
    assert len(rows) == shown and len({name for name, _ in rows}) == shown
    columns = [rows[start::2] if shown > 10 else rows for start in (0, 1)]
    recalls = [float(recall) for column in columns[: 1 + (shown > 10)] for _, recall in column]
    assert recalls == sorted(recalls)  # the worst come first, down one column and then the other
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
    examples = [Example(key, f"{number:064x}"[::-1], (), "", group) for number, (key, group) in enumerate(zip(keys, groups))]
    report.write_predictions(str(path), examples, [0, 1, 2, 0], probabilities, names)
    with open(path, encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["key", "group", "content", "truth", "predicted", "p:x,y", "p:ねこ", "p:z"]
    assert [row[0] for row in rows] == keys and [row[1] for row in rows] == groups
    assert [row[2] for row in rows] == [f"{number}000000000000000" for number in range(4)]
    assert [row[3] for row in rows] == ["x,y", "ねこ", "z", "x,y"]
    assert [row[4] for row in rows] == [names[i] for i in probabilities.argmax(1)]
    np.testing.assert_allclose([[float(cell) for cell in row[5:]] for row in rows], probabilities, rtol=5e-9)
    assert list(tmp_path.iterdir()) == [path]


def test_predictions_keep_nine_digits_and_names_that_are_not_utf8(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "predictions.csv"
    report.write_predictions(
        str(path), [Example("\udcff.jpg", "ab", (), "", "g")], [0], [[0.123456789, 1.23456789e-9]], ["a", "b"]
    )
    assert path.read_bytes() == b"key,group,content,truth,predicted,p:a,p:b\n\xff.jpg,g,ab,a,a,0.123456789,1.23456789e-09\n"


def test_predictions_are_whole_or_not_there(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "predictions.csv"
    path.write_text("old")
    two = [Example(key, key, (), "") for key in "ab"]
    with pytest.raises(UserError, match=r"expected probabilities \[2, 2\]"):
        report.write_predictions(str(path), two, [0, 1], np.full((1, 2), 0.5), ["x", "y"])
    with pytest.raises(IndexError):
        report.write_predictions(str(path), two, [0, 9], np.full((2, 2), 0.5), ["x", "y"])
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
