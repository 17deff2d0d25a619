"""Images that are like no other: neighbours in, those out that are much farther from theirs than others are.

Source: the distance to the nearest neighbours in the features of a deep network, as in Sun et al., "Out-of-Distribution
Detection with Deep Nearest Neighbors", https://arxiv.org/abs/2204.06507
"""

from __future__ import annotations

import numpy as np

from headstart.training.auditing.findings import Finding, Images
from headstart.training.auditing.neighbours import Neighbours
from headstart.training.auditing.space import Floats
from headstart.training.plots.contact_sheet import Strip, Tile

NEAREST = 10
FAR = 3.0  # spreads above the median


def outlyingness(neighbours: Neighbours) -> Floats:
    """How far each image is from its 10 nearest, in spreads above the median, [N].

    The logarithm of the distance is taken, and the spread is that of the upper half: what is crowded does not count.

    Args:
        neighbours: in the plain space, by angle.
    """
    far = np.log(np.maximum(neighbours.distances[:, :NEAREST].mean(1).astype(np.float64), 1e-9))
    middle, upper = np.quantile(far, [0.5, 0.75])
    return (far - middle) / max(float(upper - middle) / 0.6745, 1e-9)  # the normal distribution's upper quartile


def outliers(images: Images, scores: Floats) -> Finding:
    """Images whose score is above 3."""
    numbers = np.flatnonzero(scores > FAR)
    numbers = numbers[np.argsort(-scores[numbers], kind="stable")]
    rows, strips = [], []
    for number in numbers.tolist():
        named = images.named(number)
        rows.append({**named, "spreads": round(float(scores[number]), 2)})
        strips.append(Strip([Tile(number, f"{named['label']}  {scores[number]:.1f}\n{named['key']}")]))
    held = float(images.held_out[numbers].sum() / max(1, images.held_out.sum()))
    words = f"{len(rows):,} images are like no other: of another kind, damaged or empty?"
    return Finding("outliers", len(rows), max(held, len(rows) / len(images.examples)), words, rows, strips)
