"""A dataset's table and dead letters: a store's, or the copy that a run keeps.

And the lines that say of it how many images each class has in each split, and where they are too few.
"""

from __future__ import annotations

import functools
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from headstart.features import files
from headstart.features.dataset.columns import Text
from headstart.features.dataset.dead_letter import DeadLetter, from_json_lines, to_json_lines
from headstart.features.dataset.examples import Example, Examples, from_csv, to_csv
from headstart.features.dataset.splits import in_line

TABLE, DEAD_LETTERS = "examples.csv", "dead_letters.jsonl"
CONFLICTS = "conflicts.csv"  # examples of one content with several labels; there when there are some
CLASSES_SHOWN = 10


@dataclass(frozen=True)
class DatasetTable:
    """What the examples of a dataset are, and which of them could not be stored.

    read gives the contents of all files of a name: one, or one from each generation of a store.
    """

    read: Callable[[str], Sequence[bytes]]

    @classmethod
    def in_folder(cls, folder: str) -> DatasetTable:
        """The copy that a run keeps."""
        return cls(lambda name: [files.read_bytes(os.path.join(folder, name))])

    @functools.cached_property
    def table(self) -> Examples:
        """Every example that was planned and has a content, in the store's order."""
        return Examples.joined([from_csv(content) for content in self.read(TABLE)])

    @functools.cached_property
    def dead_letters(self) -> list[DeadLetter]:
        """What could not be stored."""
        return [letter for content in self.read(DEAD_LETTERS) for letter in from_json_lines(content)]

    @functools.cached_property
    def stored(self) -> Examples:
        """Every example that is no dead letter, in the store's order."""
        table, dead = self.table, Text.of([letter.key for letter in self.dead_letters])
        return table.take(table.keys.where_in(dead) < 0)

    def examples(self, split: str) -> Examples:
        """The stored examples of a split, in the store's order."""
        return self.stored.of_split(split)

    @property
    def splits(self) -> list[str]:
        """The names of the splits that hold examples."""
        return list(self.stored.splits.counts())

    def copy_to(self, folder: str) -> None:
        """Keeps a copy in another folder."""
        files.write_bytes(os.path.join(folder, TABLE), to_csv(self.table))
        files.write_bytes(os.path.join(folder, DEAD_LETTERS), to_json_lines(self.dead_letters))


def split_counts(examples: Iterable[Example], class_names: Sequence[str]) -> dict[str, Counter[str]]:
    """Class to split to its number of images."""
    counts: dict[str, Counter[str]] = {name: Counter() for name in class_names}
    table = Examples.of(examples)
    for split in table.splits.counts():
        for labels, count in table.of_split(split).labels.counts().items():
            for label in labels:
                counts[label][split] += count
    return counts


def count_lines(counts: dict[str, Counter[str]], splits: Sequence[str]) -> list[str]:
    """A line for each class, or for each split its smallest and its largest class where there are many."""
    splits = in_line(splits)
    if len(counts) <= CLASSES_SHOWN:
        each = {name: ", ".join(f"{split} {count[split]:,}" for split in splits) for name, count in counts.items()}
        return [f"class      {name}: {count.total():,} ({each[name]})" for name, count in counts.items()]
    lines = [f"classes    {len(counts):,}"]
    for split in splits:
        ordered = sorted(counts, key=lambda name: counts[name][split])
        (few, name), (many, other) = ((counts[name][split], name) for name in (ordered[0], ordered[-1]))
        lines.append(f"classes    in {split}: {few:,} ({name}) to {many:,} ({other}) images of each")
    return lines


def label_lines(examples: Iterable[Example]) -> list[str]:
    """How many labels images have that may have several."""
    counts = Examples.of(examples).labels.counts()
    total, labels = sum(counts.values()), sum(len(each) * count for each, count in counts.items())
    return [f"labels     {labels / max(1, total):.2f} an image, of several; {counts.get((), 0):,} images have none"]


def thin_lines(counts: dict[str, Counter[str]], splits: Sequence[str], least: int = 1) -> list[str]:
    """A warning for each split in which classes have no image, or fewer than the least asked for."""
    lines = []
    for split in in_line(splits):
        thin = sorted((count[split], count.total(), name) for name, count in counts.items() if count[split] < max(1, least))
        if thin:
            few = "no image" if least <= 1 else f"fewer than {least} images"
            (found, total, name), (more, all_of_it, other) = thin[0], thin[-1]
            such = f"{name!r} ({found} of {total})" + (f" to {other!r} ({more} of {all_of_it})" if len(thin) > 1 else "")
            lines.append(f"warning: {len(thin):,} of {len(counts):,} classes have {few} in {split}: {such}")
    return lines
