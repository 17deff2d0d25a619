"""What a run says of an image, and its row in a table: of one label the likeliest classes, of several those decided."""

from __future__ import annotations

import csv
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from headstart.features.dataset.labels import in_a_cell
from headstart.training.runs.run_folder import Run
from headstart.training.scoring.operating_point import OperatingPoint
from headstart.training.scoring.thresholds import decided, thresholds_of

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Prediction:
    """One file: its path as given, its most probable classes with their probabilities, or why there are none.

    decision is what it is taken for by the run's threshold: the class that was looked for, or the other, `not NAME` where
    there are several; '' where the run has no threshold.
    """

    key: str
    classes: tuple[str, ...] = ()
    probabilities: tuple[float, ...] = ()
    error: str = ""
    decision: str = ""


@dataclass(frozen=True)
class SetPrediction:
    """One file, by a run on several labels an image: its path as given, and the labels that it has, or why nobody knows.

    labels are the classes whose probability is their threshold or more; probabilities are those of all classes.
    """

    key: str
    labels: tuple[str, ...] = ()
    probabilities: Mapping[str, float] = field(default_factory=dict)
    error: str = ""


Found = TypeVar("Found", Prediction, SetPrediction)


class Rows(ABC, Generic[Found]):
    """What a run's predictions are, and what they look like in a table."""

    header: Sequence[str]  # of CSV, without key and error

    @abstractmethod
    def of(self, key: str, answer: np.ndarray) -> Found:
        """The prediction of a file's name and its probabilities, float32 [classes]."""

    @abstractmethod
    def failed(self, key: str, error: str) -> Found:
        """That of a file without any."""

    @abstractmethod
    def cells(self, prediction: Found) -> list[str]:
        """A row of CSV, without key and error."""

    @abstractmethod
    def columns(self, predictions: Sequence[Found]) -> dict[str, pa.Array]:
        """Columns of Parquet, without the key; no prediction is of a file that failed."""


class ClassRows(Rows[Prediction]):
    """Of one label an image: the most probable classes, and a decision where the run has a threshold for one of them."""

    def __init__(self, run: Run, top_k: int) -> None:
        self.class_names, self.top_k = run.class_names, min(top_k, len(run.class_names))
        point = OperatingPoint.of_run(run)
        self.decides, self.decide = point is not None, _decider(run.class_names, point)
        ranked = [f"{name}_{rank}" for rank in range(1, self.top_k + 1) for name in ("class", "probability")]
        self.header = [*ranked, *["decision"] * self.decides]

    def of(self, key: str, answer: np.ndarray) -> Prediction:
        """The prediction of a file's name and its probabilities, float32 [classes]."""
        best = (-answer).argsort(kind="stable")[: self.top_k]
        names, shares = tuple(self.class_names[i] for i in best), tuple(float(answer[i]) for i in best)
        return Prediction(key, names, shares, decision=self.decide(answer))

    def failed(self, key: str, error: str) -> Prediction:
        """That of a file without any."""
        return Prediction(key, error=error)

    def cells(self, prediction: Prediction) -> list[str]:
        """class_1, probability_1, ..., and the decision."""
        shares = map("{:.6g}".format, prediction.probabilities)
        pairs = [f"{value}" for pair in zip(prediction.classes, shares) for value in pair]
        return [*pairs, *[""] * (2 * self.top_k - len(pairs)), *[prediction.decision] * self.decides]

    def columns(self, predictions: Sequence[Prediction]) -> dict[str, pa.Array]:
        """class_1, probability_1, ..., and the decision."""
        import pyarrow as pa

        columns = {}
        for rank in range(self.top_k):
            columns[f"class_{rank + 1}"] = pa.array([each.classes[rank] for each in predictions], pa.string())
            columns[f"probability_{rank + 1}"] = pa.array([each.probabilities[rank] for each in predictions], pa.float32())
        if self.decides:
            columns["decision"] = pa.array([each.decision for each in predictions], pa.string())
        return columns


def _decider(class_names: Sequence[str], point: OperatingPoint | None) -> Callable[[np.ndarray], str]:
    """What a run's threshold makes of an image's probabilities, float [classes]."""
    if point is None:
        return lambda answer: ""
    name, number, threshold = point.positive_class, class_names.index(point.positive_class), point.threshold
    other = class_names[1 - number] if len(class_names) == 2 else f"not {name}"
    return lambda answer: name if answer[number] >= threshold else other


class SetRows(Rows[SetPrediction]):
    """Of several labels: those that the classes' thresholds decide, and the probability of each class."""

    def __init__(self, run: Run) -> None:
        self.class_names, self.delimiter, self.thresholds = run.class_names, run.label_delimiter, thresholds_of(run.metrics)
        self.header = ["labels", *(f"p:{name}" for name in self.class_names)]

    def of(self, key: str, answer: np.ndarray) -> SetPrediction:
        """The prediction of a file's name and its probabilities, float32 [classes]."""
        labels = tuple(name for name, has in zip(self.class_names, decided(answer, self.thresholds)) if has)
        return SetPrediction(key, labels, dict(zip(self.class_names, map(float, answer))))

    def failed(self, key: str, error: str) -> SetPrediction:
        """That of a file without any."""
        return SetPrediction(key, error=error)

    def cells(self, prediction: SetPrediction) -> list[str]:
        """labels, parted as where the run learned; p:NAME for each class."""
        shares = [f"{prediction.probabilities[name]:.6g}" if prediction.probabilities else "" for name in self.class_names]
        return [in_a_cell(prediction.labels, self.delimiter), *shares]

    def columns(self, predictions: Sequence[SetPrediction]) -> dict[str, pa.Array]:
        """labels, a list; p:NAME for each class."""
        import pyarrow as pa

        labels = pa.array([list(each.labels) for each in predictions], pa.list_(pa.string()))
        shares = {
            f"p:{name}": pa.array([each.probabilities[name] for each in predictions], pa.float32())
            for name in self.class_names
        }
        return {"labels": labels, **shares}


def rows_of(run: Run, top_k: int) -> Rows[Any]:
    """What a run's predictions are.

    Args:
        run: the one that predicts.
        top_k: of one label an image, how many classes are told.
    """
    return SetRows(run) if run.label_delimiter else ClassRows(run, top_k)


def write_csv(predictions: Iterable[Any], rows: Rows[Any], file: Any) -> None:
    """key, what the rows have, error."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["key", *rows.header, "error"])
    writer.writerows([each.key, *rows.cells(each), each.error] for each in predictions)


def write_jsonl(predictions: Iterable[Any], file: Any) -> None:
    """One object a line: a prediction's fields; error, and of one label decision, where there is one."""
    for prediction in predictions:
        row = {key: value for key, value in vars(prediction).items() if key not in ("error", "decision") or value}
        file.write(json.dumps(row, ensure_ascii=False) + "\n")
