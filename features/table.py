"""A dataset's table and dead letters beside each other in a folder: a store's, or the copy that a run keeps."""

from __future__ import annotations

import functools
import json
import os
import shutil
from dataclasses import dataclass

from features.examples import Example, from_csv

TABLE, DEAD_LETTERS = "examples.csv", "dead_letters.jsonl"


@dataclass(frozen=True)
class DatasetTable:
    """What the examples of a dataset are, and which of them could not be stored."""

    folder: str

    @functools.cached_property
    def table(self) -> list[Example]:
        """Every example that was planned and has a content, in the store's order."""
        with open(os.path.join(self.folder, TABLE), "rb") as file:
            return from_csv(file.read())

    @functools.cached_property
    def dead_letters(self) -> list[dict[str, str]]:
        """What could not be stored: key, stage, reason, label, split."""
        with open(os.path.join(self.folder, DEAD_LETTERS), encoding="utf-8", errors="surrogateescape") as file:
            return [json.loads(line) for line in file]

    def examples(self, split: str) -> list[Example]:
        """The stored examples of a split, in the store's order."""
        dead = {letter["key"] for letter in self.dead_letters}
        return [example for example in self.table if example.split == split and example.key not in dead]

    @property
    def splits(self) -> list[str]:
        """The names of the splits that hold examples."""
        return [split for split in dict.fromkeys(example.split for example in self.table) if self.examples(split)]

    def copy_to(self, folder: str) -> None:
        """Keeps a copy in another folder."""
        for name in (TABLE, DEAD_LETTERS):
            shutil.copyfile(os.path.join(self.folder, name), os.path.join(folder, name))
