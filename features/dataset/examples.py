"""What the dataset is: images with their labels, splits and groups, as a table that is written and read back."""

from __future__ import annotations

import csv
import hashlib
import io
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

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


def plan_order(examples: Iterable[Example]) -> list[Example]:
    """The store's order: by content digest, so that every shard is a random sample of its split."""
    return sorted(examples, key=lambda example: (example.split, example.digest, example.key))


def to_csv(examples: Iterable[Example]) -> bytes:
    """The dataset table, in the order given; `from_csv` reads it back."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)  # its \r\n makes it quote names that hold either
    writer.writerow(COLUMNS)
    for example in examples:
        labels = LABEL_SEPARATOR.join(example.labels)
        writer.writerow((example.key, example.digest, labels, example.split, example.group))
    return text.getvalue().encode("utf-8", "surrogateescape")


def from_csv(content: bytes) -> list[Example]:
    """Reads what `to_csv` wrote."""
    rows = csv.DictReader(io.StringIO(content.decode("utf-8", "surrogateescape"), newline=""))
    return [
        Example(row["key"], row["digest"], tuple(row["label"].split(LABEL_SEPARATOR)), row["split"], row["group"])
        for row in rows
    ]


def dataset_digest(examples: Iterable[Example], class_names: Sequence[str]) -> str:
    """sha256 of what the dataset is: keys, contents, labels, class names, splits, groups."""
    digest = hashlib.sha256(to_csv(plan_order(examples)))
    digest.update("\n".join(class_names).encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def conflicts(examples: Iterable[Example]) -> list[Example]:
    """Examples of one content that carry different labels, content by content."""
    labels: dict[str, set[tuple[str, ...]]] = defaultdict(set)
    for example in (examples := list(examples)):
        labels[example.digest].add(example.labels)
    return sorted((e for e in examples if len(labels[e.digest]) > 1), key=lambda e: (e.digest, e.key))
