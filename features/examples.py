"""What the dataset is: the table of examples, and its division into splits. No TensorFlow, no pixels.

The division depends on contents and a seed: not on names, not on order. Whole groups move together, two copies of one
content are always one group, and an example that already has a split keeps it.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from features.errors import UserError

SPLIT_NAMES = {
    "train": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
}
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


def parse_splits(text: str) -> dict[str, float]:
    """'train=0.8,validation=0.1,test=0.1' to proportions.

    Raises:
        UserError: when they are not NAME=PROPORTION, positive, with a train among them, adding up to 1.
    """
    try:
        pairs = [part.split("=") for part in text.replace(" ", "").split(",")]
        proportions = {SPLIT_NAMES.get(name.lower(), name): float(value) for name, value in pairs}
    except ValueError:
        raise UserError(f"--splits is written train=0.8,validation=0.1,test=0.1, not {text!r}") from None
    for name in proportions:
        if not name.isidentifier():
            raise UserError(f"a split's name is made of letters, digits and _, not {name!r}")
    if (
        len(proportions) < len(pairs)
        or "train" not in proportions
        or not all(0 < value <= 1 for value in proportions.values())
    ):
        raise UserError(f"--splits needs a train split, each name once, each proportion above 0; received {text!r}")
    if abs(sum(proportions.values()) - 1) > 1e-6:
        raise UserError(
            f"the proportions of --splits must add up to 1, and those of {text!r} make {sum(proportions.values()):g}"
        )
    return proportions


def divide(
    examples: Sequence[Example], proportions: Mapping[str, float], seed: int, kept: Mapping[str, str] | None = None
) -> list[Example]:
    """Gives every example a split, whole groups at a time, each class in the given proportions.

    Groups are taken in the order of a hash of their contents and the seed; each goes where its classes lack most. A class
    with at least as many groups as there are splits has one in each of them.

    Args:
        examples: with their declared groups; splits are ignored.
        proportions: split to its share, adding up to 1.
        seed: another seed is another division.
        kept: content digest to the split it already has; the whole group follows.

    Returns:
        The same examples in the same order, with splits.
    """
    groups = _connected(examples)
    sizes = [Counter(label for index in group for label in examples[index].labels) for group in groups]
    chosen = [_kept_split(group, examples, kept or {}, proportions) for group in groups]
    totals: Counter[str] = Counter(label for example in examples for label in example.labels)
    lack = {split: {label: share * totals[label] for label in totals} for split, share in proportions.items()}
    for size, split in zip(sizes, chosen):
        if split:
            _take(lack[split], size)
    order = sorted(range(len(groups)), key=lambda g: (-max(sizes[g].values()), _group_hash(groups[g], examples, seed)))
    new = [g for g in order if not chosen[g]]
    for g in new:
        chosen[g] = max(proportions, key=lambda split: sum(n * lack[split][label] for label, n in sizes[g].items()))
        _take(lack[chosen[g]], sizes[g])
    _fill_missing(new, chosen, sizes, list(proportions))
    split_of = {index: chosen[g] for g, group in enumerate(groups) for index in group}
    return [Example(e.key, e.digest, e.labels, split_of[i], e.group) for i, e in enumerate(examples)]


def _take(lack: dict[str, float], size: Counter[str]) -> None:
    for label, count in size.items():
        lack[label] -= count


def _kept_split(
    group: list[int], examples: Sequence[Example], kept: Mapping[str, str], proportions: Mapping[str, float]
) -> str:
    """The split that most of a group has already, '' when none of it has one."""
    votes = Counter(kept[examples[i].digest] for i in group if kept.get(examples[i].digest) in proportions)
    return max(sorted(votes), key=votes.__getitem__) if votes else ""


def _group_hash(group: list[int], examples: Sequence[Example], seed: int) -> str:
    first = min(examples[index].digest for index in group)
    return hashlib.sha256(f"{seed}:{first}".encode()).hexdigest()


def _connected(examples: Sequence[Example]) -> list[list[int]]:
    """Indices of examples that must stay together: of one declared group, or of one content, or linked by such."""
    parent = list(range(len(examples)))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    first: dict[tuple[str, str], int] = {}
    for index, example in enumerate(examples):
        for name in (("content", example.digest), ("group", example.group)):
            if name[1]:
                parent[root(index)] = root(first.setdefault(name, index))
    members: dict[int, list[int]] = defaultdict(list)
    for index in range(len(examples)):
        members[root(index)].append(index)
    return list(members.values())


def _fill_missing(new: list[int], chosen: list[str], sizes: list[Counter[str]], splits: list[str]) -> None:
    """Moves newly placed groups into splits that a class misses although it has groups enough for all of them."""
    have: dict[str, Counter[str]] = defaultdict(Counter)  # class -> split -> groups
    for size, split in zip(sizes, chosen):
        for label in size:
            have[label][split] += 1
    for label in sorted(have):
        if have[label].total() < len(splits):
            continue
        for split in splits:
            if have[label][split] == 0:
                _move_one(label, split, splits, new, chosen, sizes, have)


def _move_one(
    label: str,
    split: str,
    splits: list[str],
    new: list[int],
    chosen: list[str],
    sizes: list[Counter[str]],
    have: dict[str, Counter[str]],
) -> None:
    """Moves the smallest, last placed group of a class, if no class loses by it a split that it is large enough for."""

    def is_spared(group: int) -> bool:
        return all(have[other][chosen[group]] > 1 or have[other].total() < len(splits) for other in sizes[group])

    movable = [g for g in new if label in sizes[g] and is_spared(g)]
    if not movable:
        return
    mover = min(reversed(movable), key=lambda g: sizes[g].total())
    for other in sizes[mover]:
        have[other][chosen[mover]] -= 1
        have[other][split] += 1
    chosen[mover] = split


def groups_across_splits(examples: Iterable[Example]) -> dict[str, set[str]]:
    """Declared groups that stand on more than one side, with their splits."""
    return _across((example.group, example.split) for example in examples if example.group)


def copies_across_splits(examples: Iterable[Example]) -> dict[str, set[str]]:
    """Contents that stand on more than one side, with their splits."""
    return _across((example.digest, example.split) for example in examples if example.digest)


def _across(pairs: Iterable[tuple[str, str]]) -> dict[str, set[str]]:
    splits: dict[str, set[str]] = defaultdict(set)
    for name, split in pairs:
        splits[name].add(split)
    return {name: found for name, found in sorted(splits.items()) if len(found) > 1}
