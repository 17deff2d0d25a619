"""Names that look like groups, such as patient12_003: keys in; the pattern, and which groups lie across splits, out.

A pattern is told only where images of one name are also nearer to each other than to others of their class.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from headstart.training.auditing.findings import Finding, Images
from headstart.training.auditing.space import Floats, Ints
from headstart.training.plots.contact_sheet import Strip, Tile

PATTERNS = (  # what `headstart extract --group_by` takes; the first that suits is told
    r"([^/]*?[A-Za-z]+[-_]?\d+)[-_. ][^/]+$",  # patient12_003.png
    r"([^/]*[^/\d])[-_. ]\d+\.\w+$",  # anna_003.png
    r"([^/]+)/[^/]+$",  # anna/003.png
)
MOST_COMPARED = 5000
NEARER, SURELY = 0.05, 4.0  # share of the distance, and standard errors
SHOWN, IN_A_STRIP = 12, 6


class Named(NamedTuple):
    """A pattern and the groups that it finds, N names."""

    pattern: str
    groups: list[str]


def find_groups(images: Images, points: Floats, seed: int = 0) -> Named | None:
    """The first pattern that suits: it finds a group in every key, most groups have several images, and these are alike.

    Args:
        images: N.
        points: float32 [N, K] of length 1, where near copies are near.
        seed: of which images are compared.
    """
    kinds, classes = images.kinds, int((images.counts(np.ones(len(images.examples), bool)) > 0).sum())
    for pattern in PATTERNS:
        found = [re.search(pattern, example.key) for example in images.examples]
        groups = [match.group(1) for match in found if match]
        if len(groups) == len(found) and _are_groups(groups, classes) and _are_alike(groups, kinds, points, seed):
            return Named(pattern, groups)
    return None


def _are_groups(groups: Sequence[str], classes: int) -> bool:
    """Whether names are neither one for each image, nor one for each class or a few."""
    sizes = Counter(groups)
    together = sum(size for size in sizes.values() if size > 1)
    return 2 * together > len(groups) and len(sizes) > max(5, 3 * classes) and max(sizes.values()) * 4 < len(groups)


def _are_alike(groups: Sequence[str], labels: Ints, points: Floats, seed: int) -> bool:
    """Whether images lie nearer to one of their group than to one that is labelled alike and in another group."""
    generator, mates, classes = (
        np.random.default_rng(seed),
        defaultdict[str, list[int]](list),
        defaultdict[int, list[int]](list),
    )
    for number, (group, label) in enumerate(zip(groups, labels.tolist())):
        mates[group].append(number)
        classes[label].append(number)
    gains, far = list[float](), list[float]()
    for number in generator.permutation(len(groups))[:MOST_COMPARED].tolist():
        own = mates[groups[number]]
        stranger = classes[int(labels[number])][generator.integers(len(classes[int(labels[number])]))]
        mate = own[generator.integers(len(own))]
        if mate != number and groups[stranger] != groups[number]:
            near, distance = (float(np.linalg.norm(points[number] - points[other])) for other in (mate, stranger))
            gains.append(distance - near)
            far.append(distance)
    if len(gains) < 10:
        return False
    mean, error = float(np.mean(gains)), float(np.std(gains)) / len(gains) ** 0.5
    return mean > NEARER * float(np.mean(far)) and mean > SURELY * error


def undeclared_groups(images: Images, found: Named | None) -> Finding:
    """Groups that names tell of and nobody declared; those across splits first."""
    members = defaultdict[str, list[int]](list)
    for number, group in enumerate(found.groups if found else ()):
        members[group].append(number)
    splits = {group: sorted({images.examples[number].split for number in some}) for group, some in members.items()}
    ordered = sorted(members, key=lambda group: (-len(splits[group]), -len(members[group]), group))
    across = [group for group in ordered if len(splits[group]) > 1]
    rows = [{"group": group, "images": len(members[group]), "splits": " ".join(splits[group])} for group in ordered]
    strips = [
        Strip([Tile(n, f"{images.examples[n].split}\n{images.examples[n].key}") for n in members[group][:IN_A_STRIP]], group)
        for group in ordered[:SHOWN]
    ]
    held = [number for group in across for number in members[group] if images.held_out[number]]
    share = len(held) / max(1, int(images.held_out.sum()))
    words = f"names look like {len(rows):,} groups, {len(across):,} of them across splits"
    words += f", with {share:.1%} of {images.held_out_split}" if images.held_out_split else ""
    words += f": if they are, extract again with --group_by {found.pattern!r}" if found else ""
    figures = {"pattern": found.pattern, "across_splits": len(across)} if found else {}
    return Finding("groups", len(rows), share, words, rows, strips, figures)
