"""What the dataset is: images with their labels, splits and groups, as a table that is written and read back."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from headstart.features.dataset.columns import AT_ONCE, Columns, Digests, Few, Text

COLUMNS = ("key", "digest", "label", "split", "group")
LABEL_SEPARATOR = "\x1f"  # between the labels of an image that has several


@dataclass(frozen=True)
class Example:
    """One image: its key (path below the input), content digest, label names, split and declared group ('' for none)."""

    key: str
    digest: str
    labels: tuple[str, ...]
    split: str
    group: str = ""

    @property
    def content(self) -> str:
        """A short name of the content, 16 characters, the same for copies."""
        return self.digest[:16]


class Examples(Columns[Example]):
    """A table of examples."""

    row = Example
    kinds = {"key": Text, "digest": Digests, "labels": Few, "split": Few, "group": Text}  # noqa: RUF012

    @property
    def digests(self) -> np.ndarray:
        """The content digests, 32 bytes [N]."""
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

    def of_split(self, name: str) -> Examples:
        """The examples of a split, in their order."""
        names = self.splits.names
        return self.take(self.splits.codes == (names.index(name) if name in names else -1))

    def sample(self, limit: int) -> np.ndarray:
        """Rows of a random sample, int64 [limit at most], in their order: those of the least content digests.

        The first rows are such a sample of a store that was made at once, and not of one that has grown.
        """
        return np.sort(np.argsort(self.digests, kind="stable")[:limit])


def plan_order(table: Examples) -> np.ndarray:
    """The rows in the store's order, int64 [N]: by split, and by content digest, so that each shard is a random sample."""
    split_order = {name: number for number, name in enumerate(sorted(table.splits.names))}
    order = np.lexsort((table.digests, table.splits.numbered(split_order)))
    splits, digests = table.splits.codes[order], table.digests[order]
    begins = np.append(True, (splits[1:] != splits[:-1]) | (digests[1:] != digests[:-1]))[: len(order)]
    content = np.cumsum(begins)
    copies = np.flatnonzero(np.bincount(content)[content] > 1)
    keys = table.keys.take(order[copies]).values()
    order[copies] = order[copies[sorted(range(len(copies)), key=lambda i: (content[copies[i]], keys[i]))]]
    return order


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
        (key, digest, tuple(label.split(LABEL_SEPARATOR)) if label else (), *others) for key, digest, label, *others in rows
    )


def dataset_digest(examples: Iterable[Example], class_names: Sequence[str], several: bool = False) -> str:
    """sha256 of what the dataset is: keys, contents, labels, class names, splits, groups; whether labels may be several."""
    table, digest = Examples.of(examples), hashlib.sha256()
    order = plan_order(table)
    is_ordered = np.array_equal(order, np.arange(len(table)))  # as it is where an extraction asks: no second table
    for part in csv_parts(table if is_ordered else table.take(order)):
        digest.update(part)
    digest.update("\n".join(class_names).encode("utf-8", "surrogateescape"))
    digest.update(b"\nseveral labels" if several else b"")
    return digest.hexdigest()


def conflicts(examples: Iterable[Example]) -> Examples:
    """Examples of one content that carry different labels, content by content."""
    table = Examples.of(examples)
    copies = sorted(table.take(table.columns["digest"].copied()), key=lambda example: (example.digest, example.key))
    contents = [list(members) for _, members in groupby(copies, key=lambda example: example.digest)]
    return Examples.of(each for members in contents if len({e.labels for e in members}) > 1 for each in members)


def groups_across_splits(examples: Iterable[Example]) -> dict[str, set[str]]:
    """Declared groups that are in more than one split, with their splits."""
    table = Examples.of(examples)
    return _across(*table.groups.codes(), table.splits)


def drawn_together(examples: Iterable[Example]) -> list[str]:
    """For each example a name of what it stands or falls with where images are drawn or left out.

    That is its group or, without one, its own content; groups that have copies of one image are one.
    """
    names, ahead, first = list[str](), dict[str, str](), dict[str, str]()

    def root(name: str) -> str:
        while name in ahead:
            name = ahead[name]
        return name

    for digest, group in ((example.digest, example.group) for example in examples):
        names.append(group or digest)
        one, other = sorted((root(names[-1]), root(first.setdefault(digest, names[-1]))))
        if one != other:
            ahead[other] = one
    return [root(name) for name in names]


def copies_across_splits(examples: Iterable[Example]) -> dict[str, set[str]]:
    """Contents that are in more than one split, with their splits."""
    table = Examples.of(examples)
    copies = table.take(table.columns["digest"].copied())
    return _across(*Text.of(copies.columns["digest"].values()).codes(), copies.splits)


def _across(codes: np.ndarray, names: Sequence[str], splits: Few) -> dict[str, set[str]]:
    """The names that come with more than one split, and these; codes are each row's number among the names."""
    pairs = np.unique(codes * max(1, len(splits.names)) + splits.codes)
    code, split = np.divmod(pairs, max(1, len(splits.names)))
    several = code[1:][code[1:] == code[:-1]]
    across: dict[str, set[str]] = {name: set() for name in sorted({names[each] for each in several} - {""})}
    for row in np.flatnonzero(np.isin(code, several)):
        if names[code[row]]:
            across[names[code[row]]].add(splits.names[split[row]])
    return across
