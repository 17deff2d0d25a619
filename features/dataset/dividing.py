"""Examples in, the same examples divided into splits out. No TensorFlow, no pixels.

The division depends on contents, names of declared groups and a seed: not on names of files, not on order. Whole groups
move together, two copies of one content are always one group, and an example that already has a split keeps it.
"""

from __future__ import annotations

import hashlib
import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate, pairwise

import numpy as np

from headstart.features.dataset.columns import AT_ONCE, Digests, Few
from headstart.features.dataset.examples import Example, Examples
from headstart.features.dataset.splits import in_line
from headstart.features.dataset.stratifying import LabelCounts, stratify


@dataclass(frozen=True)
class _Units:
    """Examples that must stay together, as units that stand in a line; a unit's place does not change when it grows.

    of is each example's unit, and sizes each unit's examples. label_units and labels are the different pairs of a unit and the
    label of some of its examples, by unit, and label_counts of how many; strata are the units' most frequent labels, -1 for
    none. Labels are numbers of label_names.
    """

    of: np.ndarray  # int64 [N]
    sizes: np.ndarray  # int64 [U]
    label_units: np.ndarray  # int64 [pairs]
    labels: np.ndarray  # int64 [pairs]
    label_counts: np.ndarray  # int64 [pairs]
    strata: np.ndarray  # int64 [U]
    label_names: list[str]


def divide(
    examples: Iterable[Example],
    proportions: Mapping[str, float],
    seed: int,
    kept: Iterable[Example] = (),
    minimum: int = 1,
    several: bool = False,
    kept_elsewhere: Iterable[Example] = (),
) -> Examples:
    """Gives every example a split, whole groups at a time, each class in the given proportions.

    The groups of a class stand in a line, in the order of a hash of the seed and the declared group's name, or of the
    content's digest where none is declared. The line is cut at the cumulated proportions of images, train first and test
    last: when images come or go, a split changes only where a cut moves past, and then to the next one in the line. A
    mixed group stands in the line of its most frequent class.

    Where examples may have several labels there is no line of a class: `stratify` looks at all labels of a group at once.

    Args:
        examples: with their declared groups; splits are ignored.
        proportions: split to its share, adding up to 1.
        seed: another seed is another division.
        kept: examples whose contents have a split already; the whole group follows.
        minimum: images that a class has in each split at least, where it has images and groups enough.
        several: whether examples may have several labels, or none.
        kept_elsewhere: the same as kept, for groups of which nothing is kept.

    Returns:
        The same examples in the same order, with splits.
    """
    table, shares = Examples.of(examples), {name: Fraction(str(proportions[name])) for name in in_line(proportions)}
    digests, content = np.unique(table.digests, return_inverse=True)
    units = _units(table, digests, content, seed)
    chosen, elsewhere = (
        _kept_splits(units, _splits_of(digests, Examples.of(each), list(shares))[content], list(shares))
        for each in (kept, kept_elsewhere)
    )
    chosen = np.where(chosen < 0, elsewhere, chosen)
    is_new = chosen < 0
    if several:
        pairs = LabelCounts(units.label_units, units.labels, units.label_counts, len(units.label_names))
        chosen = stratify(units.sizes, pairs, chosen, list(map(float, shares.values())), minimum)
    else:
        _cut_lines(units, is_new, chosen, shares, minimum)
    if minimum:
        _fill_missing(units, is_new, chosen, len(shares))
    return table.replaced(split=Few(chosen[units.of].astype(np.int32), tuple(shares)))


def _units(table: Examples, digests: np.ndarray, content: np.ndarray, seed: int) -> _Units:
    """Finds the units, and their places in line: by the smallest hash of their groups' names, or else of their contents.

    Args:
        table: the examples.
        digests: the different contents' digests, 32 bytes [D].
        content: each example's number among them, int64 [N].
        seed: of the hashes.
    """
    group, names = table.groups.codes()
    of_content, of_group = linked(content, len(digests), group, names)
    declared = np.array([number for number, name in enumerate(names) if name], np.int64)
    alone = np.flatnonzero(~np.isin(of_content, of_group[declared]))
    group_names = (names[number].encode("utf-8", "surrogateescape") for number in declared)
    hashes = [_hashes(f"{seed}:group:", group_names), _hashes(f"{seed}:content:", _digits(digests[alone]))]
    owners = np.concatenate([of_group[declared], of_content[alone]])[np.argsort(np.concatenate(hashes))]
    found, first = np.unique(owners, return_index=True)
    place = np.zeros(len(digests) + len(names), np.int64)
    place[found[np.argsort(first)]] = np.arange(len(found))
    of = place[of_content[content]]
    sizes = np.bincount(of, minlength=len(found))
    return _Units(of, sizes, *_labels(table.labels, of, len(sizes)))


def linked(content: np.ndarray, contents: int, group: np.ndarray, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Which contents and groups belong together, as they share examples: a number for each content, and for each group.

    Args:
        content: each example's, int64 [N].
        contents: how many there are.
        group: each example's, int64 [N].
        names: of the groups; what is in one without a name is not in one.
    """
    has_group = np.array([bool(name) for name in names], bool)[group]
    if not has_group.any():
        return np.arange(contents), contents + np.arange(len(names))
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    edges = (content[has_group], contents + group[has_group])
    graph = coo_matrix((np.ones(len(edges[0]), bool), edges), (contents + len(names),) * 2)
    component = connected_components(graph, directed=False)[1]
    return component[:contents], component[contents:]


def _hashes(prefix: str, names: Iterable[bytes]) -> np.ndarray:
    """sha256 of each name with the prefix before it, bytes [names]."""
    start = hashlib.sha256(prefix.encode())

    def digest(name: bytes) -> bytes:
        whole = start.copy()
        whole.update(name)
        return whole.digest()

    return np.fromiter(map(digest, names), "S32")


def _digits(digests: np.ndarray) -> Iterator[bytes]:
    """Digests' digits, not all of them as objects at one time."""
    for start in range(0, len(digests), AT_ONCE):
        yield from (value.encode() for value in Digests(digests[start : start + AT_ONCE]).values())


def _labels(labels: Few, of: np.ndarray, units: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, list[str]]:
    """The fields of units that are about labels, from those of the examples, each example's unit, and how many there are."""
    names = sorted({name for each in labels.counts() for name in each})
    ids = {name: number for number, name in enumerate(names)}
    numbers = [[ids[name] for name in each] if ids.keys() >= set(each) else [] for each in labels.names]
    lengths = np.array([len(each) for each in numbers] or [0])[labels.codes]
    row = np.repeat(np.arange(len(of)), lengths)
    within = np.arange(len(row)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    table = np.zeros((len(numbers) or 1, max(map(len, numbers), default=0) or 1), np.int64)
    for code, each in enumerate(numbers):
        table[code, : len(each)] = each
    pairs, counts = np.unique(of[row] * max(1, len(names)) + table[labels.codes[row], within], return_counts=True)
    unit, label = np.divmod(pairs, max(1, len(names)))
    order = np.lexsort((label, -counts, unit))
    having, first = np.unique(unit[order], return_index=True)
    strata = np.full(units, -1)
    strata[having] = label[order][first]
    return unit, label, counts, strata, names


def _splits_of(digests: np.ndarray, kept: Examples, splits: Sequence[str]) -> np.ndarray:
    """The number of the split that each content has already, int64 [D]; -1 where it has none of these."""
    known, last = np.unique(kept.digests[::-1], return_index=True)
    numbers = {name: number for number, name in enumerate(splits)}
    split = kept.splits.numbered({name: numbers.get(name, -1) for name in kept.splits.names})[::-1][last]
    at = np.minimum(np.searchsorted(known, digests), len(known) - 1)
    return np.where(known[at] == digests, split[at], -1) if len(known) else np.full(len(digests), -1)


def _kept_splits(units: _Units, splits: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """The number of the split that most of each unit has already, int64 [U]; -1 where none of it has one.

    Args:
        units: with their examples.
        splits: what each example has, -1 for none.
        names: of the splits.
    """
    by_name = np.argsort(names)  # of as many votes, the first by name
    votes, has_one = np.zeros((len(units.sizes), len(names)), np.int64), splits >= 0
    np.add.at(votes, (units.of[has_one], np.argsort(by_name)[splits[has_one]]), 1)
    return np.where(votes.any(axis=1), by_name[votes.argmax(axis=1)], -1)


def _cut_lines(units: _Units, is_new: np.ndarray, chosen: np.ndarray, shares: Mapping[str, Fraction], minimum: int) -> None:
    """Chooses for new units, each class's line cut on its own."""
    held = np.zeros((len(units.label_names), len(shares)), np.int64)
    np.add.at(held, (units.strata[~is_new], chosen[~is_new]), units.sizes[~is_new])
    for stratum, line in _lines(units.strata, is_new):
        chosen[line] = _cut(units.sizes[line], shares, held[stratum].tolist(), minimum)


def _lines(strata: np.ndarray, is_new: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Each stratum that has new units, and these in order."""
    new = np.flatnonzero(is_new)
    new = new[np.argsort(strata[new], kind="stable")]
    for line in np.split(new, np.flatnonzero(np.diff(strata[new])) + 1) if len(new) else ():
        yield int(strata[line[0]]), line


def _cut(sizes: np.ndarray, shares: Mapping[str, Fraction], held: Sequence[int], minimum: int) -> np.ndarray:
    """Cuts one class's units, in order, where their middles pass the ends of what each split still lacks.

    Units that are larger than any split but train may be stand before all others, the smallest of them last.

    Args:
        sizes: of units without a split, in order.
        shares: split to its share, in the order of the line.
        held: the images that each split holds already.
        minimum: images of the class for each split, where they suffice.

    Returns:
        The number of each unit's split.
    """
    total = sum(held) + int(sizes.sum())
    most = math.ceil(max((share * total for name, share in shares.items() if name != "train"), default=total))
    large, loose = np.flatnonzero(sizes > most), np.flatnonzero(sizes <= most)
    large = large[np.argsort(-sizes[large], kind="stable")]
    to_train = int(sizes[large].sum())
    taken = [count + to_train * (name == "train") for name, count in zip(shares, held)]
    ends = list(accumulate(max(share * total - count, Fraction(0)) for share, count in zip(shares.values(), taken)))
    bounds = np.append(0, np.cumsum(sizes[loose]))
    middles = bounds[:-1] + bounds[1:]  # twice
    passed = [math.floor(2 * end * int(bounds[-1]) / (ends[-1] or 1)) for end in ends[:-1]]
    cuts = [len(large) + int(cut) for cut in np.searchsorted(middles, passed, "right")]
    ordered = np.concatenate([large, loose])
    bounds = np.append(0, np.cumsum(sizes[ordered]))
    for least in range(min(minimum, total // len(shares)), 0, -1):
        if moved := _with_least(cuts, bounds, [max(0, least - count) for count in held]):
            cuts = moved
            break
    numbers = np.empty(len(sizes), np.int64)
    for number, (start, stop) in enumerate(pairwise([0, *cuts, len(ordered)])):
        numbers[ordered[start:stop]] = number
    return numbers


def _with_least(cuts: Sequence[int], bounds: np.ndarray, least: Sequence[int]) -> list[int]:
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


def _fill_missing(units: _Units, is_new: np.ndarray, chosen: np.ndarray, splits: int) -> None:
    """Moves new units into splits that a class still misses, as one does that has no line of its own to be cut."""
    have = np.zeros((len(units.label_names), splits), np.int64)  # units
    np.add.at(have, (units.labels, chosen[units.label_units]), 1)

    def labels_of(unit: int) -> np.ndarray:
        start, stop = np.searchsorted(units.label_units, (unit, unit + 1))
        return units.labels[start:stop]

    def is_spared(unit: int) -> bool:
        return all(have[other, chosen[unit]] > 1 or have[other].sum() < splits for other in labels_of(unit))

    for label in range(len(units.label_names)):
        for split in range(splits):
            if have[label, split] or have[label].sum() < splits:
                continue
            movable = [unit for unit in units.label_units[units.labels == label] if is_new[unit] and is_spared(unit)]
            if not movable:
                continue
            mover = min(reversed(movable), key=units.sizes.__getitem__)
            others = labels_of(mover)
            have[others, chosen[mover]] -= 1
            have[others, split] += 1
            chosen[mover] = split
