"""Examples in, the same examples divided into splits out. No TensorFlow, no pixels.

The division depends on contents, names of declared groups and a seed: not on names of files, not on order. Whole groups
move together, two copies of one content are always one group, and an example that already has a split keeps it.
"""

from __future__ import annotations

import hashlib
import math
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import accumulate, pairwise
from typing import Any

from headstart.features.dataset.examples import Example
from headstart.features.errors import UserError

SPLIT_NAMES = {
    "train": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
}


def in_line(splits: Iterable[str]) -> list[str]:
    """Train and test at the ends, so that no image goes from one to the other where a split lies between."""
    return sorted(splits, key=lambda split: {"train": -1, "test": 1}.get(split, 0))


def parse_splits(text: str) -> dict[str, float]:
    """'train=0.8,validation=0.1,test=0.1' to proportions.

    Raises:
        UserError: when they are not NAME=PROPORTION, positive, with a train among them, adding up to 1.
    """
    try:
        pairs = [part.split("=") for part in text.replace(" ", "").split(",")]
        proportions = {SPLIT_NAMES.get(name.lower(), name): float(value) for name, value in pairs}
    except ValueError:
        raise UserError("bad-flag", f"--splits is written train=0.8,validation=0.1,test=0.1, not {text!r}") from None
    for name in proportions:
        if not name.isidentifier():
            raise UserError("bad-flag", f"a split's name is made of letters, digits and _, not {name!r}")
    if (
        len(proportions) < len(pairs)
        or "train" not in proportions
        or not all(0 < value <= 1 for value in proportions.values())
    ):
        raise UserError(
            "bad-flag", f"--splits needs a train split, each name once, each proportion above 0; received {text!r}"
        )
    if abs(sum(proportions.values()) - 1) > 1e-6:
        raise UserError(
            "bad-flag",
            f"the proportions of --splits must add up to 1, and those of {text!r} make {sum(proportions.values()):g}",
        )
    return proportions


@dataclass(frozen=True)
class Division:
    """How a dataset came by its splits: ready-made with the input, or divided in these proportions, as `divide` does it."""

    ready_made: bool
    splits: dict[str, float] = field(default_factory=dict)
    seed: int = 0
    min_per_split: int = 1

    def to_json(self) -> dict[str, Any]:
        """What the manifest says of it; of ready-made splits no more than that."""
        return {"ready_made": True} if self.ready_made else dict(vars(self))


@dataclass(frozen=True, eq=False)
class _Unit:
    """Examples that must stay together, by index; its position in the line does not change when it grows."""

    members: list[int]
    labels: Counter[str]
    position: str

    @property
    def size(self) -> int:
        return len(self.members)

    @property
    def stratum(self) -> str:
        return min(self.labels, key=lambda label: (-self.labels[label], label))


def divide(
    examples: Sequence[Example],
    proportions: Mapping[str, float],
    seed: int,
    kept: Mapping[str, str] | None = None,
    minimum: int = 1,
) -> list[Example]:
    """Gives every example a split, whole groups at a time, each class in the given proportions.

    The groups of a class stand in a line, in the order of a hash of the seed and the declared group's name, or of the
    content's digest where none is declared. The line is cut at the cumulated proportions of images, train first and test
    last: when images come or go, a split changes only where a cut moves past, and then to the next one in the line. A
    mixed group stands in the line of its most frequent class.

    Args:
        examples: with their declared groups; splits are ignored.
        proportions: split to its share, adding up to 1.
        seed: another seed is another division.
        kept: content digest to the split it already has; the whole group follows.
        minimum: images that a class has in each split at least, where it has images and groups enough.

    Returns:
        The same examples in the same order, with splits.
    """
    units = sorted((_unit(members, examples, seed) for members in _connected(examples)), key=lambda unit: unit.position)
    shares = {name: Fraction(str(proportions[name])) for name in in_line(proportions)}
    chosen = {unit: split for unit in units if (split := _kept_split(unit, examples, kept or {}, shares))}
    new = [unit for unit in units if unit not in chosen]
    held, lines = defaultdict[str, Counter[str]](Counter), defaultdict[str, list[_Unit]](list)
    for unit, split in chosen.items():
        held[unit.stratum][split] += unit.size
    for unit in new:
        lines[unit.stratum].append(unit)
    for stratum, line in lines.items():
        chosen |= _cut(line, shares, held[stratum], minimum)
    if minimum:
        _fill_missing(new, chosen, list(shares))
    split_of = {index: split for unit, split in chosen.items() for index in unit.members}
    return [Example(e.key, e.digest, e.labels, split_of[i], e.group) for i, e in enumerate(examples)]


def _unit(members: list[int], examples: Sequence[Example], seed: int) -> _Unit:
    names = {f"{seed}:group:{examples[i].group}" for i in members if examples[i].group}
    names = names or {f"{seed}:content:{examples[i].digest}" for i in members}
    position = min(hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest() for name in names)
    return _Unit(members, Counter(label for i in members for label in examples[i].labels), position)


def _kept_split(unit: _Unit, examples: Sequence[Example], kept: Mapping[str, str], shares: Mapping[str, Fraction]) -> str:
    """The split that most of a unit has already, '' when none of it has one."""
    votes = Counter(kept[examples[i].digest] for i in unit.members if kept.get(examples[i].digest) in shares)
    return max(sorted(votes), key=votes.__getitem__) if votes else ""


def _cut(line: list[_Unit], shares: Mapping[str, Fraction], held: Counter[str], minimum: int) -> dict[_Unit, str]:
    """Cuts one class's units, in order, where their middles pass the ends of what each split still lacks.

    Units that are larger than any split but train may be stand before all others, the smallest of them last.

    Args:
        line: units without a split, in order.
        shares: split to its share, in the order of the line.
        held: split to the images that it holds already.
        minimum: images of the class for each split, where they suffice.
    """
    total = held.total() + sum(unit.size for unit in line)
    most = math.ceil(max((share * total for name, share in shares.items() if name != "train"), default=total))
    large = sorted((unit for unit in line if unit.size > most), key=lambda unit: (-unit.size, unit.position))
    loose = [unit for unit in line if unit.size <= most]
    taken = held + Counter(train=sum(unit.size for unit in large))
    deficit = [max(share * total - taken[name], Fraction(0)) for name, share in shares.items()]
    ends = list(accumulate(deficit))
    bounds = list(accumulate((unit.size for unit in loose), initial=0))
    middles = [a + b for a, b in pairwise(bounds)]  # twice
    cuts = [len(large) + bisect_right(middles, 2 * end * bounds[-1] / (ends[-1] or 1)) for end in ends[:-1]]
    ordered = large + loose
    bounds = list(accumulate((unit.size for unit in ordered), initial=0))
    for least in range(min(minimum, total // len(shares)), 0, -1):
        if moved := _with_least(cuts, bounds, [max(0, least - held[name]) for name in shares]):
            cuts = moved
            break
    edges = [0, *cuts, len(ordered)]
    return {unit: name for name, (a, b) in zip(shares, pairwise(edges)) for unit in ordered[a:b]}


def _with_least(cuts: list[int], bounds: list[int], least: list[int]) -> list[int]:
    """The cuts, moved as little as gives each split its least number of images; [] where no cuts do.

    Args:
        cuts: how many units stand before each cut.
        bounds: images before each unit, and all of them.
        least: images for each split.
    """
    edges = [0, *cuts, len(bounds) - 1]
    for i in reversed(range(1, len(edges) - 1)):
        edges[i] = max(0, min(edges[i], bisect_right(bounds, bounds[edges[i + 1]] - least[i]) - 1))
    for i in range(1, len(edges) - 1):
        edges[i] = max(edges[i], bisect_left(bounds, bounds[edges[i - 1]] + least[i - 1]))
        if edges[i] >= len(bounds):
            return []
    enough = all(bounds[b] - bounds[a] >= wanted for (a, b), wanted in zip(pairwise(edges), least))
    return edges[1:-1] if enough else []


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


def _fill_missing(new: Sequence[_Unit], chosen: dict[_Unit, str], splits: Sequence[str]) -> None:
    """Moves new units into splits that a class still misses, as one does that has no line of its own to be cut."""
    have: dict[str, Counter[str]] = defaultdict(Counter)  # class -> split -> units
    for unit, split in chosen.items():
        for label in unit.labels:
            have[label][split] += 1

    def is_spared(unit: _Unit) -> bool:
        return all(have[other][chosen[unit]] > 1 or have[other].total() < len(splits) for other in unit.labels)

    for label in sorted(have):
        for split in splits:
            if have[label][split] or have[label].total() < len(splits):
                continue
            movable = [unit for unit in new if label in unit.labels and is_spared(unit)]
            if not movable:
                continue
            mover = min(reversed(movable), key=lambda unit: unit.size)
            for other in mover.labels:
                have[other][chosen[mover]] -= 1
                have[other][split] += 1
            chosen[mover] = split


def groups_across_splits(examples: Iterable[Example]) -> dict[str, set[str]]:
    """Declared groups that are in more than one split, with their splits."""
    return _across((example.group, example.split) for example in examples if example.group)


def copies_across_splits(examples: Iterable[Example]) -> dict[str, set[str]]:
    """Contents that are in more than one split, with their splits."""
    return _across((example.digest, example.split) for example in examples if example.digest)


def _across(pairs: Iterable[tuple[str, str]]) -> dict[str, set[str]]:
    splits: dict[str, set[str]] = defaultdict(set)
    for name, split in pairs:
        splits[name].add(split)
    return {name: found for name, found in sorted(splits.items()) if len(found) > 1}
