"""Several rankers of the same images, each of which may have several labels: which are worse than the best of them.

As `comparisons` does it for accuracies, one bound holds for all pairs together: here of the mean average precision.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

from headstart.training.scoring.bootstrap import bounded_replicates
from headstart.training.scoring.comparisons import PERCENTILE, PairedDifference
from headstart.training.scoring.intervals import MIN_GROUPS, Floats, numbered, resampled_groups, student
from headstart.training.scoring.set_measures import Truth, mean_average_precision, value


def sets_against_best(truth: Truth, scores: Sequence[Floats], groups: Sequence[str], seed: int = 0) -> list[PairedDifference]:
    """Each ranker's mean average precision less that of the first, with intervals that hold for all pairs of them together.

    Args:
        truth: uint8 [N, C].
        scores: K arrays, float [N, C]: how likely each label of each image is; the first is the best.
        groups: N names; examples of one name are drawn together.
        seed: of the draws.

    Returns:
        K differences, the first of them 0. Below 5 groups there are no intervals: (nan, nan).

    Source: Westfall and Young, "Resampling-Based Multiple Testing": the largest of all pairs' deviations, in standard errors
    """
    measures = [mean_average_precision(truth, each) for each in scores]
    found = np.array([float(value(measure, len(truth))) for measure in measures])  # [K]
    gaps, members = found - found[0], numbered(groups, len(truth))
    count = int(members.max()) + 1
    if count < MIN_GROUPS:
        return [PairedDifference(float(gap), math.nan, math.nan) for gap in gaps]
    replicates = bounded_replicates(len(truth), truth.shape[1] * len(scores))
    blocks = [weights[members] for weights in resampled_groups(count, seed, replicates, len(truth))]
    drawn = np.stack([np.concatenate([measure(weights) for weights in blocks]) for measure in measures])  # [K, R]
    drawn = drawn[:, ~np.isnan(drawn).any(0)]
    strays = drawn[:, None] - drawn[None] - (found[:, None] - found)[..., None]  # [K, K, R]
    errors = np.sqrt(np.square(strays).mean(-1))  # [K, K]
    largest = np.abs(np.divide(strays, errors[..., None], out=np.zeros_like(strays), where=errors[..., None] > 1e-12)).max(
        (0, 1)
    )
    half = float(np.percentile(largest, PERCENTILE)) * student(count - 1) / NormalDist().inv_cdf(0.975) * errors[:, 0]
    return [
        PairedDifference(float(gap), max(-1.0, float(gap - own)), min(1.0, float(gap + own))) for gap, own in zip(gaps, half)
    ]
