"""A dataset's table beside its dead letters: what is stored, and a copy that says the same."""

from __future__ import annotations

import os
import pathlib

import pytest

from headstart.features.dataset.dataset_table import DatasetTable, count_lines, split_counts, thin_lines
from headstart.features.dataset.dead_letter import DeadLetter, to_json_lines
from headstart.features.dataset.examples import Example, to_csv
from headstart.features.store.feature_store import FeatureStore

EXAMPLES = [
    Example("a/1.jpg", "1" * 64, ("a",), "train"),
    Example('a/2 ,".jpg', "2" * 64, ("a",), "train", "group"),
    Example("b/\udcff.jpg", "3" * 64, ("b",), "validation"),
    Example("b/4\n.jpg", "4" * 64, ("b",), "test"),
]


def table(folder: pathlib.Path, dead: list[str]) -> DatasetTable:
    folder.mkdir()
    letters = [DeadLetter(key, "", "a", "train", "decode", "cut short") for key in dead]
    (folder / "examples.csv").write_bytes(to_csv(EXAMPLES))
    (folder / "dead_letters.jsonl").write_bytes(to_json_lines(letters))
    return DatasetTable.in_folder(str(folder))


def test_splits_hold_what_is_stored(tmp_path: pathlib.Path) -> None:
    whole = table(tmp_path / "whole", [])
    assert whole.table == EXAMPLES and whole.splits == ["train", "validation", "test"]
    assert whole.examples("train") == EXAMPLES[:2] and whole.examples("none") == []


def test_what_could_not_be_stored_is_in_no_split(tmp_path: pathlib.Path) -> None:
    some = table(tmp_path / "some", ["a/1.jpg", "b/4\n.jpg", "never/surveyed.jpg"])
    assert some.table == EXAMPLES and [letter.key for letter in some.dead_letters][:2] == ["a/1.jpg", "b/4\n.jpg"]
    assert some.examples("train") == EXAMPLES[1:2] and some.examples("test") == []
    assert some.splits == ["train", "validation"]


def test_a_copy_says_the_same(tmp_path: pathlib.Path) -> None:
    some = table(tmp_path / "some", ["a/1.jpg"])
    (tmp_path / "copy").mkdir()
    some.copy_to(str(tmp_path / "copy"))
    copy = DatasetTable.in_folder(str(tmp_path / "copy"))
    assert copy.table == some.table and copy.dead_letters == some.dead_letters
    assert sorted(os.listdir(tmp_path / "copy")) == ["dead_letters.jsonl", "examples.csv"]


def test_a_store_and_a_run_have_the_same_table(store: pathlib.Path, run: pathlib.Path) -> None:
    opened, kept = FeatureStore.open(str(store)), DatasetTable.in_folder(str(run))
    assert kept.table == opened.dataset_table.table and kept.splits == sorted(opened.splits, key=kept.splits.index)
    for split in opened.splits:
        assert kept.examples(split) == opened.examples(split) and len(kept.examples(split)) == opened.count(split)


def test_a_table_that_is_not_there_names_its_path(tmp_path: pathlib.Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"examples\.csv"):
        DatasetTable.in_folder(str(tmp_path)).splits  # noqa: B018


def of_classes(counts: dict[str, tuple[int, int]]) -> list[Example]:
    """As many examples of each class in train and in test."""
    return [
        Example(f"{name}/{split}/{number}", "", (name,), split)
        for name, pair in counts.items()
        for split, count in zip(("train", "test"), pair)
        for number in range(count)
    ]


def test_classes_by_splits() -> None:
    counts = split_counts(of_classes({"cat": (8, 2), "dog": (1, 0)}), ["bird", "cat", "dog"])
    assert count_lines(counts, ["train", "test"]) == [
        "class      bird: 0 (train 0, test 0)",
        "class      cat: 10 (train 8, test 2)",
        "class      dog: 1 (train 1, test 0)",
    ]
    assert thin_lines(counts, ["train", "test"]) == [
        "warning: 1 of 3 classes have no image in train: 'bird' (0 of 0)",
        "warning: 2 of 3 classes have no image in test: 'bird' (0 of 0) to 'dog' (0 of 1)",
    ]
    assert thin_lines(counts, ["test"], 3) == [
        "warning: 3 of 3 classes have fewer than 3 images in test: 'bird' (0 of 0) to 'cat' (2 of 10)"
    ]
    assert thin_lines({"cat": counts["cat"]}, ["train", "test"], 2) == []


def test_many_classes_are_told_by_their_extremes() -> None:
    counts = split_counts(of_classes({f"c{i:02}": (i + 1, 2) for i in range(30)}), [f"c{i:02}" for i in range(30)])
    assert count_lines(counts, ["train", "test"]) == [
        "classes    30",
        "classes    in train: 1 (c00) to 30 (c29) images of each",
        "classes    in test: 2 (c00) to 2 (c29) images of each",
    ]
