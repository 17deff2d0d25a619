"""What a run's probabilities decide, one class or a set of them: what an export must not change, and what its card tells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np

from headstart.features.formatting import printable, shortened
from headstart.training.comparing.compare_config import SET_METRICS
from headstart.training.runs.run_folder import Run
from headstart.training.scoring.intervals import Floats
from headstart.training.scoring.measures import EVERY
from headstart.training.scoring.operating_point import OperatingPoint
from headstart.training.scoring.thresholds import decided, thresholds_of

MANY = 20  # classes shown one by one


class Kind(Protocol):
    """What is asked of every image.

    answer names what is decided; metrics are those of an evaluation in the order told, baseline the last of them, which is
    what knowing nothing would give, with its words; limit is the first line of a card's limits.
    """

    answer: ClassVar[str]
    metrics: ClassVar[tuple[str, ...]]
    baseline: ClassVar[tuple[str, str]]
    limit: ClassVar[str]

    def same(self, expected: Floats, received: Floats) -> np.ndarray:
        """Which images get the same answer, bool [N], by probabilities float [N, C]."""
        ...

    def clear(self, expected: Floats, received: Floats, margin: float) -> np.ndarray:
        """Which of them get another one although the expected probabilities are further than margin from deciding it."""
        ...

    def summary(self, class_names: Sequence[str]) -> str:
        """What a model answers, in words."""
        ...

    def facts(self) -> dict[str, Any]:
        """What export.json says of how to decide."""
        ...

    def lines(self) -> list[str]:
        """The same in a card."""
        ...


@dataclass(frozen=True)
class OneClass:
    """The class of the largest probability, or of one class where its threshold says so."""

    answer: ClassVar = "class"
    metrics: ClassVar = tuple(EVERY)
    baseline: ClassVar = ("majority_accuracy", "accuracy of always guessing the largest class")
    limit: ClassVar = (
        "- Every image gets one of the classes, also one that shows none of them: probabilities are of these classes only."
    )
    point: Mapping[str, Any] | None = None

    def same(self, expected: Floats, received: Floats) -> np.ndarray:
        """Those with the same class of the largest probability."""
        return expected.argmax(1) == received.argmax(1)

    def clear(self, expected: Floats, received: Floats, margin: float) -> np.ndarray:
        """Those with another, where the two largest probabilities lie further apart than margin."""
        ordered = np.sort(expected, axis=1)
        return (ordered[:, -1] - ordered[:, -2] > margin) & ~self.same(expected, received)

    def summary(self, class_names: Sequence[str]) -> str:
        """One of the classes."""
        return f"one of {_quoted(class_names)} for every image, with probabilities"

    def facts(self) -> dict[str, Any]:
        """The operating point, None where there is none."""
        return {"operating_point": self.point}

    def lines(self) -> list[str]:
        """The operating point's threshold."""
        if self.point is None:
            return []
        name, threshold = printable(self.point["positive_class"]), f"{self.point['threshold']:.6g}"
        return [f"- `{name}` where its probability is at least {threshold}: chosen on validation for {self.point['goal']}"]


@dataclass(frozen=True)
class SetOfClasses:
    """Each class whose probability is its threshold or more."""

    answer: ClassVar = "labels"
    metrics: ClassVar[tuple[str, ...]] = SET_METRICS
    baseline: ClassVar = ("chance", "mean average precision of an order that knows nothing")
    limit: ClassVar = (
        "- An image may get several classes or none; one that shows something else should get none, which nothing guarantees: "
        "probabilities are of these classes only, each for itself, and do not sum to 1."
    )
    chosen: Sequence[Mapping[str, Any]]  # a training's thresholds, as its metrics.json has them
    out_of_fold: bool = False  # by images of the training split, each left out in its turn, and not by validation

    @property
    def thresholds(self) -> Floats:
        """Float64 [C]."""
        return thresholds_of({"thresholds": self.chosen})

    def same(self, expected: Floats, received: Floats) -> np.ndarray:
        """Those with the same labels."""
        return (decided(expected, self.thresholds) == decided(received, self.thresholds)).all(1)

    def clear(self, expected: Floats, received: Floats, margin: float) -> np.ndarray:
        """Those with another label, whose probability lies further from its threshold than margin."""
        other = decided(expected, self.thresholds) != decided(received, self.thresholds)
        return (other & (np.abs(expected - self.thresholds) > margin)).any(1)

    def summary(self, class_names: Sequence[str]) -> str:
        """Any of the classes."""
        return f"any of {_quoted(class_names)} for every image, or none, with a probability of each"

    def facts(self) -> dict[str, Any]:
        """Each class's threshold, and what it was chosen by."""
        return {"thresholds": [dict(each) for each in self.chosen]}

    def lines(self) -> list[str]:
        """Each class's threshold."""
        shown = [
            f"`{printable(each['name'])}` {each['threshold']:.6g}" + (" (not chosen)" if each["f1"] is None else "")
            for each in self.chosen
        ]
        where = "out of fold" if self.out_of_fold else "on validation"
        return [
            f"- an image has each class whose probability is its threshold or more. They were chosen {where} for the "
            f"largest F1, and `export.json` has all of them: {shortened(shown, MANY)}"
        ]


def kind_of(run: Run) -> Kind:
    """What is asked of a run's images."""
    if run.label_delimiter:
        metrics = run.metrics
        return SetOfClasses(metrics["thresholds"], bool(metrics["calibration"].get("out_of_fold")))
    point = OperatingPoint.of_run(run)
    return OneClass(point.to_json() if point else None)


def _quoted(names: Sequence[str]) -> str:
    return shortened([f"`{printable(name)}`" for name in names], MANY)
