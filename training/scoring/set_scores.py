"""How good answers are that are sets of labels: labels and probabilities of some examples in, scores with intervals out.

In: `truth` uint8 [N, C], `probabilities` float [N, C], and the thresholds that were chosen elsewhere. Out: `SetScores`, floats
in it nan where a number is undefined; its JSON has None there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from headstart.training.scoring import set_measures
from headstart.training.scoring.bootstrap import (
    LOSS,
    NOTHING,
    RANKING,
    SHARE,
    bootstrap_rows,
    bounded_replicates,
    groups_with,
)
from headstart.training.scoring.intervals import MIN_GROUPS, Floats, accuracy_interval
from headstart.training.scoring.measures import ratio
from headstart.training.scoring.scores import MIN_EXAMPLES, Interval
from headstart.training.scoring.thresholds import decided

BOOTSTRAPPED = {"mean_average_precision": RANKING, "macro_f1": SHARE, "micro_f1": SHARE, "log_loss": LOSS}  # their scales


@dataclass(frozen=True)
class LabelScores:
    """One class: how many images have it, how well its probability ranks them, how well its threshold finds them."""

    name: str
    count: int
    threshold: float
    average_precision: Interval
    f1: Interval
    precision: float  # nan for a class never decided
    recall: float  # nan for a class that no image has

    @property
    def note(self) -> str:
        """'too few' under 10 images, else ''."""
        return "too few" if self.count < MIN_EXAMPLES else ""

    def to_json(self) -> dict[str, Any]:
        """As plain values, None where one is undefined."""
        shares = {name: None if math.isnan(share := getattr(self, name)) else share for name in ("precision", "recall")}
        found = {name: getattr(self, name).to_json() for name in ("average_precision", "f1")}
        return {"class": self.name, "count": self.count, "threshold": self.threshold, **found, **shares, "note": self.note}


@dataclass(frozen=True)
class SetScores:
    """All that is measured on one set of examples.

    Intervals are the bootstrap's over groups, left out where they would have no width, or where fewer than 5 groups tell: of a
    class those that have it, of means over classes those of the rarest, of others those with a mistake. That of the share of
    exact sets is a share's. Means over classes are over those that some image has.
    """

    examples: int
    groups: int
    mean_average_precision: Interval
    macro_f1: Interval
    micro_f1: Interval
    subset_accuracy: Interval  # the share of images all of whose labels were decided, and no other
    log_loss: Interval
    chance: float  # the mean average precision of an order that knows nothing: the mean share of images of a class
    labels_per_image: float
    per_class: list[LabelScores]
    bootstrap_replicates: int  # 0 below 5 groups
    telling_groups: int  # that have the rarest class

    def to_json(self) -> dict[str, Any]:
        """As plain values, None where a number is undefined."""
        plain = {name: value.to_json() if isinstance(value, Interval) else value for name, value in vars(self).items()}
        chance = {"value": None if math.isnan(self.chance) else self.chance}
        return {**plain, "chance": chance, "per_class": [each.to_json() for each in self.per_class]}


def score_sets(
    truth: ArrayLike,
    probabilities: ArrayLike,
    groups: Sequence[str],
    class_names: Sequence[str],
    thresholds: Floats,
    seed: int = 0,
) -> SetScores:
    """Measures everything.

    Args:
        truth: uint8 [N, C], N at least 1.
        probabilities: float [N, C], 0..1.
        groups: N names of groups, for the intervals.
        class_names: C names.
        thresholds: float [C]: from which probability on a label is decided.
        seed: of the bootstrap.

    Raises:
        UserError: no examples, shapes that disagree, or a probability outside 0..1 or not finite.
    """
    labels, scores = set_measures.checked_sets(truth, probabilities)
    answers = decided(scores, thresholds)
    precisions, f1s = set_measures.average_precisions(labels, scores), set_measures.f1s(labels, answers)
    micro, loss = set_measures.micro_f1(labels, answers), set_measures.log_loss(labels, scores)

    def rows(weights: Floats) -> Floats:
        each, every = precisions(weights), f1s(weights)
        means = map(set_measures.mean_over_defined, (each, every))
        return np.concatenate([np.stack([*means, micro(weights), loss(weights)]), each, every])  # [4 + 2 C, R]

    classes, group_count = len(class_names), len(set(groups))
    values, exact = set_measures.value(rows, len(labels)), (answers == labels).all(1)
    replicates = bounded_replicates(len(labels), classes)
    of_each, of_means = set_measures.telling_of(labels, groups)
    mistaken = groups_with(~exact, groups)
    telling = [of_means, of_means, mistaken, mistaken, *of_each, *of_each]
    scales = [*BOOTSTRAPPED.values(), *[RANKING] * classes, *[SHARE] * classes]
    ends = bootstrap_rows(rows, groups, seed, replicates, scales, telling) or [NOTHING] * len(values)
    found = [Interval(float(value), *own) for value, own in zip(values, ends)]
    counts, given, hits = labels.sum(0), answers.sum(0), (labels & answers).sum(0)  # [C] each
    precision, recall = ratio(hits, given), ratio(hits, counts)
    of_classes = found[len(BOOTSTRAPPED) :]
    return SetScores(
        examples=len(labels),
        groups=group_count,
        subset_accuracy=Interval(float(exact.mean()), *accuracy_interval(exact, groups)),
        chance=float(labels.mean(0)[counts > 0].mean()) if counts.any() else math.nan,
        labels_per_image=float(labels.sum(1).mean()),
        per_class=[
            LabelScores(
                name, int(counts[i]), float(thresholds[i]), of_classes[i], of_classes[classes + i],
                float(precision[i]), float(recall[i]),
            )
            for i, name in enumerate(class_names)
        ],
        bootstrap_replicates=replicates if group_count >= MIN_GROUPS else 0,
        telling_groups=of_means,
        **dict(zip(BOOTSTRAPPED, found)),
    )  # fmt: skip
