"""What the dataset is: images with their labels, splits and groups, as a table that is written and read back."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from headstart.features.dataset.columns import AT_ONCE, Columns, Digests, Few, Text

COLUMNS = ("key", "digest", "label", "split", "group")
LABEL_SEPARATOR = "\x1f"  # one label for now; a list by format


@dataclass(frozen=True)
class Example:
    """One image: its key (path below the input), content digest, label names, split and declared group ('' for none)."""

    key: str
    digest: str
    labels: tuple[str, ...]
    split: str
    group: str = ""


class Examples(Columns[Example]):
    """A table of examples."""

    row = Example
    kinds = {"key": Text, "digest": Digests, "labels": Few, "split": Few, "group": Text}  # noqa: RUF012

    @property
    def digests(self) -> np.ndarray:
        """The content digests, bytes [N]."""
        return self.columns["digest"].array

    @property
    def labels(self) -> Few:
        """The labels' names, a tuple a row."""
        return self.columns["labels"]

    @property
    def splits(self) -> Few:
        """The splits' names."""
        return self.columns["split"]

    @property
    def keys(self) -> Text:
        """The keys."""
        return self.columns["key"]

    @property
    def groups(self) -> Text:
        """The declared groups."""
        return self.columns["group"]


def plan_order(examples: Iterable[Example]) -> Examples:
    """The store's order: by split, and by content digest, so that every shard is a random sample of its split."""
    table = Examples.of(examples)
    split_order = {name: number for number, name in enumerate(sorted(table.splits.names))}
    order = np.lexsort((table.digests, table.splits.numbered(split_order)))
    table = table.take(order)
    splits, digests = table.splits.codes, table.digests
    begins = np.append(True, (splits[1:] != splits[:-1]) | (digests[1:] != digests[:-1]))[: len(table)]
    content = np.cumsum(begins)
    copies = np.flatnonzero(np.bincount(content)[content] > 1)
    keys = table.keys.take(copies).values()
    order = np.arange(len(table))
    order[copies] = copies[sorted(range(len(copies)), key=lambda i: (content[copies[i]], keys[i]))]
    return table.take(order) if len(copies) else table


def csv_parts(examples: Iterable[Example]) -> Iterator[bytes]:
    """The dataset table, in the order given, piece by piece; `from_csv` reads it back."""
    table = Examples.of(examples)
    text = io.StringIO(newline="")
    writer = csv.writer(text)  # its \r\n makes it quote names that hold either
    writer.writerow(COLUMNS)
    for start in range(0, len(table), AT_ONCE):
        part = [column.take(slice(start, start + AT_ONCE)).values() for column in table.columns.values()]
        part[2] = [LABEL_SEPARATOR.join(labels) for labels in part[2]]
        writer.writerows(zip(*part))
        yield text.getvalue().encode("utf-8", "surrogateescape")
        text.seek(0)
        text.truncate()
    yield text.getvalue().encode("utf-8", "surrogateescape")


def to_csv(examples: Iterable[Example]) -> bytes:
    """The dataset table, in the order given; `from_csv` reads it back."""
    return b"".join(csv_parts(examples))


def from_csv(content: bytes) -> Examples:
    """Reads what `to_csv` wrote."""
    rows = csv.reader(io.TextIOWrapper(io.BytesIO(content), "utf-8", "surrogateescape", newline=""))
    if next(rows, None) != list(COLUMNS):
        raise ValueError(f"the table has not the columns {', '.join(COLUMNS)}")
    return Examples.of_values(
        (key, digest, tuple(label.split(LABEL_SEPARATOR)), *others) for key, digest, label, *others in rows
    )


def dataset_digest(examples: Iterable[Example], class_names: Sequence[str]) -> str:
    """sha256 of what the dataset is: keys, contents, labels, class names, splits, groups."""
    digest = hashlib.sha256()
    for part in csv_parts(plan_order(examples)):
        digest.update(part)
    digest.update("\n".join(class_names).encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def conflicts(examples: Iterable[Example]) -> Examples:
    """Examples of one content that carry different labels, content by content."""
    table = Examples.of(examples)
    _, content = np.unique(table.digests, return_inverse=True)
    pairs = np.unique(np.stack([content, table.labels.codes]), axis=1)
    several = np.bincount(pairs[0], minlength=1) > 1
    return Examples.of(sorted(table.take(several[content]), key=lambda example: (example.digest, example.key)))
