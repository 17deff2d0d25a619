"""The notebook's experiment, tiny and whole: four techniques on held-out images, a table on the terminal and on disk."""

from __future__ import annotations

import csv
import pathlib
from collections.abc import Callable

import pytest

from headstart.cli import main
from headstart.features.store.feature_store import FeatureStore
from tests.conftest import stand_in

FLAGS = ["--image_size", "32", "--views", "2", "--epochs", "1", "--seeds", "1"]


@pytest.mark.slow
def test_four_techniques_side_by_side(
    photos: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "notebook"
    base = stand_in(tmp_path / "base.keras", rescales=True)
    assert main(["notebook", str(photos), "--folder", str(folder), "--backbone", str(base), *FLAGS]) == 0
    told = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in told[3:7]] == ["1", "1v", "2", "2f"]
    with open(folder / "notebook.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert all(float(row["low"]) <= float(row["seed_0"]) == float(row["accuracy"]) <= float(row["high"]) for row in rows)
    seconds = {row["technique"]: float(row["seconds"]) for row in rows}
    assert seconds["1"] < seconds["2"] < seconds["2f"]
    table = FeatureStore.open(str(folder / "maps")).dataset_table  # the score is on what was held out
    assert {example.key.split("/")[-3] for example in table.examples("test")} == {"test"}
    assert {example.key.split("/")[-3] for example in [*table.examples("train"), *table.examples("validation")]} == {"train"}
    assert len(table.examples("train")) + len(table.examples("validation")) == 36


def test_an_input_without_splits_is_refused(flat: pathlib.Path, tmp_path: pathlib.Path, one_line: Callable[[], str]) -> None:
    assert main(["notebook", str(flat), "--folder", str(tmp_path / "n"), *FLAGS]) == 2
    assert "has the splits (none); expected train and validation" in one_line()
