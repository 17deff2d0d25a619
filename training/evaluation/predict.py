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
from typing import Any

import numpy as np

from headstart.features import files
from headstart.features.dataset.folder import image_files
from headstart.features.engines.stream import Unreadable
from headstart.features.places import place
from headstart.features.progress import Progress
from headstart.features.runtime import quietly_each
from headstart.training.evaluation.classify import answer_files
from headstart.training.evaluation.operating_point import OperatingPoint
from headstart.training.evaluation.predict_config import PredictConfig
from headstart.training.evaluation.review import Pool, write_review
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
    run, rows = Run.open(config.run, config.unsafe), _rows(config.images)
    found = _predictions(run, rows, config.top_k, pool)
    return found if all(row.error for row in rows) else quietly_each(found)


def _predictions(run: Run, rows: Sequence[Prediction], top_k: int, pool: Pool | None) -> Iterator[Prediction]:
    answers = answer_files(run, [row.key for row in rows if not row.error])  # loads the model for the first of them
    progress, dead, decide = Progress("predict", len(rows)), 0, _decider(run)
    for done, row in enumerate(rows, 1):
        answer = None if row.error else next(answers)
        if isinstance(answer, Unreadable):
            row = Prediction(row.key, error=f"{answer.stage}: {answer.reason}")
        elif answer is not None:
            each = answer.probabilities
            best = (-each).argsort(kind="stable")[:top_k]
            names, shares = tuple(run.class_names[i] for i in best), tuple(float(each[i]) for i in best)
            row = Prediction(row.key, names, shares, decision=decide(each))
            if pool:
                pool.add(row.key, *answer)
        dead += bool(row.error)
        yield row
        progress.update(done, dead)
    progress.close()


def _decider(run: Run) -> Callable[[np.ndarray], str]:
    """What a run's threshold makes of an image's probabilities, float [classes]."""
    point = OperatingPoint.of_run(run)
    if point is None:
        return lambda answer: ""
    name, number = point.positive_class, run.class_names.index(point.positive_class)
    other = run.class_names[1 - number] if len(run.class_names) == 2 else f"not {name}"
    return lambda answer: name if answer[number] >= point.threshold else other


def _rows(given: Sequence[str]) -> list[Prediction]:
    """A row to fill in for every image, and one with its error for each path that gives none."""
    return [row for path in given for row in (_in_folder(path) if place.is_folder(path) else [_of_file(path)])]


def _of_file(path: str) -> Prediction:
    return Prediction(path, error="" if place.exists(path) else "read: it does not exist")


def _in_folder(path: str) -> list[Prediction]:
    images, others, unlisted = image_files(path)
    if others:
        print(f"{path}: {len(others)} files are no images and are left out, such as {others[0]}", file=sys.stderr)
    rows = [Prediction(image) for image in images]
    rows += [Prediction(error.filename, error=f"read: the folder can't be listed: {error.strerror}") for error in unlisted]
    return rows or [Prediction(path, error="read: the folder holds no images")]


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


def write_rows(config: PredictConfig) -> tuple[int, int]:
    """Writes a row for every file to the output, or to the terminal: how many there are, and how many of them failed.

    With `review`, a list and a sheet of the images to label next are left beside the output.
    """
    count, run = Counter[bool](), Run.open(config.run)
    top_k, decides = min(config.top_k, len(run.class_names)), OperatingPoint.of_run(run) is not None
    pool = Pool(config.review) if config.review else None

    def counted() -> Iterator[Prediction]:
        for row in _predicted(config, pool):
            count[bool(row.error)] += 1
            yield row

    if not config.output:
        write_csv(counted(), top_k, sys.stdout, decides)
        return count.total(), count[True]
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
    return count.total(), count[True]
