"""Copies and near copies: neighbours and hashes in; pairs, clusters, and what they say of splits and labels out.

Two images are near copies when they lie half as far from each other as neighbours of either usually lie, in the space of
features: re-encoded, resized, cropped, mirrored, or the next frame. Where the images are at hand, pairs are taken from farther
away when their perceptual hashes agree, or when one picture fits into the other better than other neighbours do; and of few
images, whose usual distance says little, such a sign is asked for from all. All bounds are relative to the dataset, or to
chance: none is of one dataset.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from headstart.features.formatting import counted
from headstart.features.progress import Progress
from headstart.training.auditing.findings import Finding, Images
from headstart.training.auditing.neighbours import Neighbours
from headstart.training.auditing.overlap import overlap
from headstart.training.auditing.score import Score
from headstart.training.auditing.space import Floats, Ints
from headstart.training.auditing.thumbnails import Thumbnail, differing_bits
from headstart.training.plots.contact_sheet import Strip, Tile

NEAR, NEAR_BY_CROP, NEAR_BY_HASH = 0.5, 0.75, 0.9  # distance over the usual one
SAME_HASH = 6  # of 64 bits: of two unrelated pictures 32 differ, and fewer than 16 in one pair of 20,000
FEW = 200  # images: among these, two that are no copies may well lie half as far apart as others
FITS, USUAL_PAIRS = 0.9, 200  # a crop correlates by more than this, and than any of so many pairs of other neighbours
UNKNOWN = -1


class Pairs(NamedTuple):
    """P pairs of images that are copies, exact ones first, then the nearest first."""

    first: Ints  # [P]
    second: Ints
    exact: np.ndarray  # bool
    nearness: Floats  # distance over the usual distance of a neighbour; 0 for exact copies
    bits: Ints  # in which the hashes differ, or -1

    def where(self, chosen: np.ndarray) -> Pairs:
        """Some of them."""
        return Pairs(*(column[chosen] for column in self))


def find_pairs(digests: Sequence[str], neighbours: Neighbours, thumbnails: Sequence[Thumbnail | None]) -> Pairs:
    """Pairs of exact copies, by their bytes, and of near copies.

    Args:
        digests: of N contents.
        neighbours: in the softly whitened space.
        thumbnails: N, None where an image is not at hand.
    """
    exact, ratios = _exact(digests), neighbours.ratios()
    near = _candidates(digests, neighbours, ratios, thumbnails)
    seen = near.bits != UNKNOWN
    near_enough = (near.nearness < NEAR) & (~seen | (len(digests) >= FEW))
    kept = near_enough | (seen & (near.bits <= SAME_HASH))
    maybe = np.flatnonzero(~kept & (near.nearness < NEAR_BY_CROP))
    if len(maybe) and any(thumbnails):
        bound = max(FITS, _overlaps(thumbnails, *_ordinary(neighbours, ratios)).max(initial=0))
        kept[maybe] = _overlaps(thumbnails, near.first[maybe], near.second[maybe]) > bound
    near = near.where(kept)
    near = near.where(np.argsort(near.nearness, kind="stable"))
    zeros = np.zeros(len(exact))
    same = Pairs(exact[:, 0], exact[:, 1], np.ones(len(exact), bool), zeros, zeros.astype(np.int64))
    return Pairs(*(np.concatenate(columns) for columns in zip(same, near)))


def _candidates(
    digests: Sequence[str], neighbours: Neighbours, ratios: Floats, thumbnails: Sequence[Thumbnail | None]
) -> Pairs:
    """Every pair that is near enough for a hash to confirm it, and no exact copy; each once."""
    rows, columns = np.nonzero(ratios < NEAR_BY_HASH)
    others, near = neighbours.others[rows, columns], ratios[rows, columns]
    pairs, at = np.unique(np.sort(np.stack([rows, others], 1), 1), axis=0, return_index=True)
    differ = np.array([digests[one] != digests[other] for one, other in pairs.tolist()], np.bool_)
    (first, second), near = pairs[differ].reshape(-1, 2).T, near[at][differ]
    return Pairs(first, second, np.zeros(len(near), bool), near, _bits(thumbnails, first, second))


def _ordinary(neighbours: Neighbours, ratios: Floats) -> tuple[Ints, Ints]:
    """Pairs that are near and no copies: some images, each with the nearest that is too far away for a crop."""
    drawn = np.linspace(0, len(ratios) - 1, min(USUAL_PAIRS, len(ratios))).astype(np.int64)
    return drawn, neighbours.others[drawn, (ratios[drawn] >= NEAR_BY_CROP).argmax(1)]


def _exact(digests: Sequence[str]) -> Ints:
    """Each content's images, one after the other as pairs, [P, 2]."""
    same = defaultdict[str, list[int]](list)
    for number, digest in enumerate(digests):
        same[digest].append(number)
    return np.array([pair for some in same.values() for pair in pairwise(some)], np.int64).reshape(-1, 2)


def _bits(thumbnails: Sequence[Thumbnail | None], first: Ints, second: Ints) -> Ints:
    """In how many bits an image's hash differs from the other's, or from that of its mirror image; -1 where unknown."""
    found = np.full(len(first), UNKNOWN, np.int64)
    known = [number for number, pair in enumerate(zip(first, second)) if all(thumbnails[each] for each in pair)]
    seen = [(thumbnails[first[number]], thumbnails[second[number]]) for number in known]
    hashes = [(one.hashes[0], other.hashes) for one, other in seen if one and other]
    straight, mirrored = (differing_bits([one for one, _ in hashes], [both[way] for _, both in hashes]) for way in (0, 1))
    found[known] = np.minimum(straight, mirrored)
    return found


def _overlaps(thumbnails: Sequence[Thumbnail | None], first: Ints, second: Ints) -> Floats:
    """How well one picture of each pair fits into the other, [P]; -1 where one is not at hand."""
    progress, found = Progress("compare", len(first), "pairs"), list[float]()
    for pair in zip(first.tolist(), second.tolist()):
        one, other = (thumbnails[number] for number in pair)
        found.append(overlap(one.grey, other.grey) if one and other else -1.0)
        progress.update(len(found))
    progress.close()
    return np.array(found)


def clusters(count: int, pairs: Pairs) -> Ints:
    """The cluster of each of N images, [N]: copies of copies are in one."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(len(pairs.first)), (pairs.first, pairs.second)), shape=(count, count))
    return connected_components(graph, directed=False)[1].astype(np.int64)


def leaked(images: Images, pairs: Pairs) -> np.ndarray:
    """Which images of the split that is held out have a copy in another split, bool [N]."""
    found, across = np.zeros(len(images.examples), bool), images.held_out[pairs.first] != images.held_out[pairs.second]
    for side in (pairs.first, pairs.second):
        found[side[across]] = True
    return found & images.held_out


def leaks(images: Images, pairs: Pairs, score: Score | None) -> Finding:
    """Copies across splits.

    Args:
        images: N.
        pairs: all.
        score: of the split that is held out, with and without them.
    """
    own = pairs.where(images.splits[pairs.first] != images.splits[pairs.second])
    held, total = int(leaked(images, pairs).sum()), int(images.held_out.sum())
    share = held / total if total else 0.0
    words = f"{counted(len(own.first), 'pair')} of copies across splits ({int(own.exact.sum()):,} exact)"
    if held:
        words += f": {held:,} of {total:,} images of {images.held_out_split} ({share:.1%}) have one elsewhere"
    words += f". {score.words}" if score else ""
    return _of_pairs("leaks", images, own, share, words)


def duplicates(images: Images, pairs: Pairs) -> Finding:
    """Copies within a split: they count several times."""
    own = pairs.where(images.splits[pairs.first] == images.splits[pairs.second])
    again = len({*own.second.tolist()})
    held = int(images.held_out[own.second].sum())
    words = f"{counted(len(own.first), 'pair')} of copies within a split ({int(own.exact.sum()):,} exact): they count twice"
    return _of_pairs("duplicates", images, own, max(held, again / 10) / len(images.examples), words)


def conflicts(images: Images, pairs: Pairs) -> Finding:
    """Copies with different labels: one of the two is wrong."""
    kinds = images.kinds
    own = pairs.where(kinds[pairs.first] != kinds[pairs.second])
    touched = np.union1d(own.first, own.second).astype(np.int64)
    share = _share(images, touched)
    words = f"{counted(len(own.first), 'pair')} of copies with different labels ({int(own.exact.sum()):,} exact): one is wrong"
    return _of_pairs("conflicts", images, own, share, words)


def _share(images: Images, touched: Ints) -> float:
    """Of the images that are held out, or of all, whichever is larger, the share that is touched."""
    held = float(images.held_out[touched].sum() / max(1, images.held_out.sum()))
    return max(held, len(touched) / len(images.examples))


def _of_pairs(kind: str, images: Images, pairs: Pairs, share: float, words: str) -> Finding:
    rows, strips = [], []
    for one, other, exact, near, bits in zip(*(column.tolist() for column in pairs)):
        second = {f"other_{name}": value for name, value in images.named(other).items()}
        told = {"exact": exact, "nearness": round(near, 3), "hash_bits": "" if bits == UNKNOWN else bits}
        rows.append({**images.named(one), **second, **told})
        title = "same bytes" if exact else f"{near:.2f} of the usual distance"
        strips.append(Strip([Tile(each, _caption(images, each)) for each in (one, other)], title))
    return Finding(kind, len(rows), share if rows else 0.0, words, rows, strips)


def _caption(images: Images, number: int) -> str:
    example = images.examples[number]
    return f"{example.split}: {images.label(number)}\n{example.key}"
