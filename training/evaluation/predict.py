"""headstart predict: a run and images in, a row for every file out, in the order given."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from headstart.features import files
from headstart.features.engines.stream import Unreadable
from headstart.features.progress import Progress
from headstart.features.runtime import quietly_each
from headstart.training.evaluation.classify import answer_files
from headstart.training.evaluation.operating_point import OperatingPoint
from headstart.training.evaluation.predict_config import PredictConfig
from headstart.training.evaluation.review import Pool, write_review
from headstart.training.evaluation.to_predict import ToPredict, to_predict
from headstart.training.runs.run_folder import Run


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


def predict(config: PredictConfig) -> Iterator[Prediction]:
    """A prediction for every file, in the order given; a folder's images in the order of their names.

    A path that does not exist, a folder that can't be listed and one without images have a row that says so.

    Raises:
        UserError: for a run that is not complete.
    """
    return _predicted(config, None)


def _predicted(config: PredictConfig, pool: Pool | None) -> Iterator[Prediction]:
    """The same; every image that is classified goes into the pool too."""
    run, rows = Run.open(config.run, config.unsafe), to_predict(config.images)
    found = _predictions(run, rows, config.top_k, pool)
    return found if all(row.error for row in rows) else quietly_each(found)


def _predictions(run: Run, rows: Sequence[ToPredict], top_k: int, pool: Pool | None) -> Iterator[Prediction]:
    answers = answer_files(run, [row.path for row in rows if not row.error])  # loads the model for the first of them
    progress, dead, named = Progress("predict", len(rows)), 0, naming(run, top_k)
    for done, row in enumerate(rows, 1):
        answer = None if row.error else next(answers)
        if answer is None or isinstance(answer, Unreadable):
            dead += 1
            yield Prediction(row.key, error=row.error if answer is None else f"{answer.stage}: {answer.reason}")
        else:
            if pool:
                pool.add(row.path, *answer)
            yield named(row.key, answer.probabilities)
        progress.update(done, dead)
    progress.close()


def naming(run: Run, top_k: int) -> Callable[[str, np.ndarray], Prediction]:
    """What makes a prediction of a file's name and its probabilities, float32 [classes]."""
    decide = _decider(run)

    def named(key: str, answer: np.ndarray) -> Prediction:
        best = (-answer).argsort(kind="stable")[:top_k]
        names, shares = tuple(run.class_names[i] for i in best), tuple(float(answer[i]) for i in best)
        return Prediction(key, names, shares, decision=decide(answer))

    return named


def _decider(run: Run) -> Callable[[np.ndarray], str]:
    """What a run's threshold makes of an image's probabilities, float [classes]."""
    point = OperatingPoint.of_run(run)
    if point is None:
        return lambda answer: ""
    name, number = point.positive_class, run.class_names.index(point.positive_class)
    other = run.class_names[1 - number] if len(run.class_names) == 2 else f"not {name}"
    return lambda answer: name if answer[number] >= point.threshold else other


def write_csv(predictions: Iterable[Prediction], top_k: int, file: Any, decides: bool = False) -> None:
    """key, class_1, probability_1, ..., decision where a run has a threshold, error."""
    writer = csv.writer(file, lineterminator="\n")
    ranked = [f"{name}_{rank}" for rank in range(1, top_k + 1) for name in ("class", "probability")]
    writer.writerow(["key", *ranked, *["decision"] * decides, "error"])
    for prediction in predictions:
        pairs = [
            f"{value}" for pair in zip(prediction.classes, map("{:.6g}".format, prediction.probabilities)) for value in pair
        ]
        decision = [prediction.decision] * decides
        writer.writerow([prediction.key, *pairs, *[""] * (2 * top_k - len(pairs)), *decision, prediction.error])


def write_jsonl(predictions: Iterable[Prediction], file: Any) -> None:
    """One object a line: key, classes, probabilities; decision and error where there is one."""
    for prediction in predictions:
        row = {key: value for key, value in vars(prediction).items() if key not in ("error", "decision") or value}
        file.write(json.dumps(row, ensure_ascii=False) + "\n")


class Written(NamedTuple):
    """How many rows were written, how many of them have an error; and the rows themselves, when they went to the terminal."""

    images: int
    failed: int
    rows: list[Prediction]


def write_rows(config: PredictConfig) -> Written:
    """Writes a row for every file to the output, or to the terminal.

    With `review`, a list and a sheet of the images to label next are left beside the output.
    """
    count, run, rows = Counter[bool](), Run.open(config.run), list[Prediction]()
    top_k, decides = min(config.top_k, len(run.class_names)), OperatingPoint.of_run(run) is not None
    pool = Pool(config.review) if config.review else None

    def counted() -> Iterator[Prediction]:
        for row in _predicted(config, pool):
            count[bool(row.error)] += 1
            if not config.output:
                rows.append(row)
            yield row

    if not config.output:
        write_csv(counted(), top_k, sys.stdout, decides)
        return Written(count.total(), count[True], rows)
    with files.atomic(config.output) as raw:
        text = io.TextIOWrapper(raw, encoding="utf-8", errors="surrogateescape", newline="")
        if config.output.endswith(".csv"):
            write_csv(counted(), top_k, text, decides)
        else:
            write_jsonl(counted(), text)
        text.flush()
        text.detach()
    if pool:
        write_review(run, pool.chosen(), os.path.dirname(config.output))
    return Written(count.total(), count[True], rows)
