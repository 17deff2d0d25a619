"""headstart predict: a run and images in, a row for every file out, in the order given."""

from __future__ import annotations

import io
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from headstart.features import files
from headstart.features.engines.stream import Unreadable
from headstart.features.progress import Progress
from headstart.features.runtime import quietly_each
from headstart.training.predicting.classify import answer_files
from headstart.training.predicting.predict_config import PredictConfig
from headstart.training.predicting.prediction_rows import (
    Prediction,
    Rows,
    SetPrediction,
    rows_of,
    write_csv,
    write_jsonl,
)
from headstart.training.predicting.review import OF_ONE, OF_SEVERAL, Pool, write_review
from headstart.training.predicting.to_predict import ToPredict, to_predict
from headstart.training.runs.run_folder import Run
from headstart.training.tasks.checks import check_prediction


def predict(config: PredictConfig) -> Iterator[Prediction | SetPrediction]:
    """A prediction for every file, in the order given; a folder's images in the order of their names.

    Of a run on several labels an image, each is a `SetPrediction`.

    A path that does not exist, a folder that can't be listed and one without images have a row that says so.

    Raises:
        UserError: for a run that is not complete, or flags that it can't take.
    """
    return _predicted(config, None)


def _predicted(config: PredictConfig, pool: Pool | None) -> Iterator[Any]:
    """The same; every image that is classified goes into the pool too."""
    run = Run.open(config.run, config.unsafe)
    check_prediction(config, run.label_delimiter)
    named = to_predict(config.images, config.records)
    found = _predictions(run, named, rows_of(run, config.top_k), pool)
    return found if all(row.error for row in named) else quietly_each(found)


def _predictions(run: Run, rows: Sequence[ToPredict], kind: Rows[Any], pool: Pool | None) -> Iterator[Any]:
    answers = answer_files(run, [row.path for row in rows if not row.error])  # loads the model for the first of them
    progress, dead = Progress("predict", len(rows)), 0
    for done, row in enumerate(rows, 1):
        answer = None if row.error else next(answers)
        if answer is None or isinstance(answer, Unreadable):
            dead += 1
            yield kind.failed(row.key, row.error if answer is None else f"{answer.stage}: {answer.reason}")
        else:
            if pool:
                pool.add(row.path, *answer)
            yield kind.of(row.key, answer.probabilities)
        progress.update(done, dead)
    progress.close()


class Written(NamedTuple):
    """How many rows were written, how many of them have an error; and the rows themselves, when they went to the terminal."""

    images: int
    failed: int
    rows: list[Any]


def write_rows(config: PredictConfig) -> Written:
    """Writes a row for every file to the output, or to the terminal.

    With `review`, a list and a sheet of the images to label next are left beside the output.
    """
    count, run, rows = Counter[bool](), Run.open(config.run), list[Any]()
    kind = rows_of(run, config.top_k)
    pool = Pool(config.review, OF_SEVERAL if run.label_delimiter else OF_ONE) if config.review else None

    def counted() -> Iterator[Any]:
        for row in _predicted(config, pool):
            count[bool(row.error)] += 1
            if not config.output:
                rows.append(row)
            yield row

    if not config.output:
        write_csv(counted(), kind, sys.stdout)
        return Written(count.total(), count[True], rows)
    with files.atomic(config.output) as raw:
        text = io.TextIOWrapper(raw, encoding="utf-8", errors="surrogateescape", newline="")
        if config.output.endswith(".csv"):
            write_csv(counted(), kind, text)
        else:
            write_jsonl(counted(), text)
        text.flush()
        text.detach()
    if pool:
        write_review(run, pool.chosen(), os.path.dirname(config.output))
    return Written(count.total(), count[True], rows)
