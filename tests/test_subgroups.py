"""Accuracy by a value: counted by hand, the worst first, from keys and from tables; and what can't be compared is refused."""

from __future__ import annotations

import csv
import json
import pathlib
import re
import shutil
from collections.abc import Callable

import pytest

from headstart.cli import main
from headstart.features.dataset.examples import Example
from headstart.training.scoring.intervals import share_interval
from headstart.training.scoring.subgroups import subgroups, values_by
from tests.conftest import extracted, raises, write_photos

EXAMPLES = [Example(f"test/{name}/{number}.jpg", f"{name}{number}", (name,), "test") for name in "ab" for number in range(3)]


def test_the_worst_comes_first_with_its_interval() -> None:
    values = ["x", "x", "x", "y", "y", "z"]
    rows = subgroups(values, [True, False, True, True, True, False], list("123456"))
    assert [(row.value, row.count, row.groups) for row in rows] == [("z", 1, 1), ("x", 3, 3), ("y", 2, 2)]
    assert rows[1].accuracy.value == pytest.approx(2 / 3)
    assert (rows[1].accuracy.low, rows[1].accuracy.high) == pytest.approx(share_interval(2, 3))
    together = subgroups(values, [True, False, True, True, True, False], list("111456"))
    assert together[1].groups == 1 and together[1].accuracy.low < rows[1].accuracy.low


def test_values_that_keys_and_labels_hold() -> None:
    assert values_by("class", "", EXAMPLES, "") == list("aaabbb")
    assert values_by("folder", "", EXAMPLES, "") == ["test/a"] * 3 + ["test/b"] * 3
    with raises("bad-flag"):
        values_by("group", "", EXAMPLES, "")


def table(path: pathlib.Path, rows: list[list[str]]) -> str:
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter=";").writerows(rows)
    return str(path)


def test_a_column_is_joined_by_whichever_holds_the_keys(tmp_path: pathlib.Path) -> None:
    rows = [["site", "image", "camera"], ["s", "./test/c/9.jpg", "other"]]
    rows += [["s", f"./{example.key}", f"cam {number % 2}"] for number, example in enumerate(reversed(EXAMPLES))]
    found = values_by("camera", table(tmp_path / "t.csv", rows), EXAMPLES, "")
    assert found == ["cam 1", "cam 0"] * 3


def test_what_cannot_be_compared_is_refused(tmp_path: pathlib.Path) -> None:
    rows = [["path", "camera", "number"], *([example.key, "c", str(at)] for at, example in enumerate(EXAMPLES))]
    path = table(tmp_path / "t.csv", rows)
    with raises("unknown-name") as caught:
        values_by("camara", path, EXAMPLES, "")
    assert "Did you mean camera?" in str(caught.value)
    with raises("bad-flag") as caught:
        values_by("number", path, EXAMPLES, "")
    assert "each of the 6 examples has a value of its own" in str(caught.value)
    with raises("missing-input"):
        values_by("camera", str(tmp_path / "none.csv"), EXAMPLES, "")
    with raises("bad-input") as caught:
        values_by("camera", table(tmp_path / "few.csv", rows[:4]), EXAMPLES, "")
    assert "does not list 3 of the 6 examples, such as 'test/b/0.jpg'" in str(caught.value)
    with raises("bad-flag"):  # a folder has no columns
        values_by("camera", "", EXAMPLES, str(tmp_path))


def test_a_column_of_the_table_that_was_extracted(
    run: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str], one_line: Callable[[], str]
) -> None:
    photos = write_photos(tmp_path / "photos", {"test": {"anemone": 4, "fern": 4, "gentian": 4}}, seed=5)
    images = sorted(path.relative_to(tmp_path) for path in photos.rglob("*.*"))
    with open(tmp_path / "list.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "split", "camera", "group"])
        for number, path in enumerate(images):
            writer.writerow([path, path.parent.name, "test", f"cam-{number % 2}", f"roll-{number % 3}"])
    copy, store = pathlib.Path(shutil.copytree(run, tmp_path / "run")), extracted(tmp_path / "list.csv", tmp_path / "store")
    capsys.readouterr()
    assert main(["evaluate", str(copy), str(store), "--by", "camera", "--by", "class", "--by", "group"]) == 0
    told = capsys.readouterr().out
    assert re.search(r"by camera +count groups accuracy", told) and re.search(r"by group +count +accuracy", told)
    (folder,) = (copy / "evaluation").iterdir()
    found = json.loads((folder / "metrics.json").read_text())
    with open(folder / "predictions.csv", encoding="utf-8", newline="") as file:
        right = {row["key"]: row["predicted"] == row["truth"] for row in csv.DictReader(file)}
    for row in found["by"]["camera"]:
        own = [right[str(path)] for number, path in enumerate(images) if f"cam-{number % 2}" == row["value"]]
        assert (row["count"], row["accuracy"]["value"]) == (6, pytest.approx(sum(own) / 6))
        assert f"  {row['value']}  " in told
    assert [(row["count"], row["groups"]) for row in found["by"]["camera"]] == [(6, 3)] * 2
    assert [(row["count"], row["groups"]) for row in found["by"]["group"]] == [(4, 4)] * 3  # images, each for itself
    classes = {row["class"]: (row["count"], row["recall"], row["low"], row["high"]) for row in found["per_class"]}
    assert classes == {
        row["value"]: (row["count"], *(row["accuracy"][name] for name in ("value", "low", "high")))
        for row in found["by"]["class"]
    }
    assert main(["evaluate", str(copy), str(store), "--by", "lens"]) == 2
    assert "has no such column" in one_line()
    assert main(["evaluate", str(copy), "--by_table", "t.csv"]) == 2
    assert "belongs to --by COLUMN" in one_line()
