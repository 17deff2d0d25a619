"""The images of a dataset found again, wherever a table says that they lie; what differs is refused, naming it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from headstart.features.dataset.dataset_table import DatasetTable
from headstart.features.dataset.examples import Example, to_csv
from headstart.features.dataset.sources import SourceOptions
from headstart.features.errors import UserError
from headstart.features.files import sha256_file
from headstart.training.finetuning.same_images import find_images


@pytest.fixture
def absolute(tmp_path: Path) -> tuple[DatasetTable, str]:
    """Two files that a CSV elsewhere names by absolute paths, and the dataset that was made of them."""
    folders = [tmp_path / "images", tmp_path / "dataset", tmp_path / "lists"]
    for folder in folders:
        folder.mkdir()
    rows = []
    for label in ("cat", "dog"):
        path = str(folders[0] / f"{label}.jpg")
        Path(path).write_text(label)
        rows.append(Example(path, sha256_file(path), (label,), "train"))
    (folders[1] / "examples.csv").write_bytes(to_csv(rows))
    (folders[1] / "dead_letters.jsonl").touch()
    lines = ["path,label", *(f"{row.key},{row.labels[0]}" for row in rows)]
    (folders[2] / "list.csv").write_text("\n".join(lines))
    return DatasetTable.in_folder(str(folders[1])), str(folders[2] / "list.csv")


def test_absolute_paths_of_a_table(absolute: tuple[DatasetTable, str]) -> None:
    table, source = absolute
    found = find_images(table, ["cat", "dog"], source, SourceOptions(), ["train"])["train"]
    assert [os.path.basename(file.path) for file in found.files] == ["cat.jpg", "dog.jpg"]
    assert [sha256_file(file.path) for file in found.files] == [file.digest for file in found.files]
    assert found.labels.tolist() == [0, 1]


def test_a_changed_image_is_refused(absolute: tuple[DatasetTable, str]) -> None:
    table, source = absolute
    Path(table.table[0].key).write_text("another")
    with pytest.raises(UserError, match=r"1 images are not what they were .*cat\.jpg"):
        find_images(table, ["cat", "dog"], source, SourceOptions(), ["train"])
