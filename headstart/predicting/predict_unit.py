"""One work unit in, a part of the predictions and its marker out: read, decode, resize, backbone and head, a row."""

from __future__ import annotations

import functools
import hashlib
import io
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from headstart.features.engines.stopwatch import Stopwatch
from headstart.features.engines.stream import Unreadable
from headstart.features.errors import UserError
from headstart.features.places import place
from headstart.features.store.manifest import ShardEntry
from headstart.pipelines.units.markers import ShardMarker
from headstart.pipelines.units.unit_job import UnitJob
from headstart.pipelines.units.work_unit import UnitExample, WorkUnit
from headstart.pipelines.units.write_unit import UnitWork, WriteUnit, write_unit
from headstart.training.predicting.classify import Classifier
from headstart.training.predicting.prediction_rows import Rows, rows_of, write_csv, write_jsonl
from headstart.training.runs.run_folder import Run

PARTS = "predictions"  # below the output


@dataclass(frozen=True)
class PredictJob(UnitJob):
    """A prediction's job, whose units are parts of the predictions; store is the output, generation what decides its bytes.

    answers is the digest of what the run answers with: a worker whose run has another one was trained again since.
    """

    store: str
    generation: str
    token: str
    class_names: tuple[str, ...]
    max_dead: int
    run: str
    unsafe: bool
    answers: str
    form: str
    top_k: int
    with_features: bool

    @property
    def folder(self) -> str:
        """Where the parts go."""
        return place.join(self.store, PARTS)


class Row(NamedTuple):
    """An image's prediction, as its run's rows have it, and the feature that it comes from, float32 [*tap.shape]."""

    prediction: Any
    feature: np.ndarray


class PredictPart(WriteUnit):
    """A unit's name in, and out again when its part and its marker are written."""

    job: PredictJob

    def do(self, unit: WorkUnit) -> ShardMarker:
        """Writes the unit's part."""
        job = self.job
        loaded = _shared(job.run, job.unsafe, job.answers, job.top_k)

        def begin(watch: Stopwatch) -> UnitWork:
            return UnitWork(
                results=_rows(unit, loaded, watch),
                writer=lambda file: _PartWriter(file, unit, job, loaded.kind),
                computed=len(unit.examples),
                engine=loaded.classifier.engine.options.provenance,
            )

        return write_unit(unit, job, begin)


def answers_digest(run: Run, model: str) -> str:
    """sha256 of what decides a run's answers and what they are called: its model's digest, the classes, the thresholds."""
    metrics = run.metrics
    thresholds = [metrics.get(name) for name in ("operating_point", "thresholds")]
    return hashlib.sha256(json.dumps([model, run.class_names, *thresholds]).encode()).hexdigest()


class _Loaded(NamedTuple):
    """A run's model, and what its predictions are."""

    classifier: Classifier
    kind: Rows[Any]


_loading = threading.Lock()


def _shared(run: str, unsafe: bool, answers: str, top_k: int) -> _Loaded:
    """The run, loaded once a process."""
    with _loading:
        return _load(run, unsafe, answers, top_k)


@functools.lru_cache(1)
def _load(run: str, unsafe: bool, answers: str, top_k: int) -> _Loaded:
    opened = Run.open(run, unsafe)
    loaded = _Loaded(Classifier(opened), rows_of(opened, top_k))
    if answers_digest(opened, loaded.classifier.digest) != answers:
        raise UserError(
            "replaced", f"the run {run!r} was trained again since these predictions began: start them anew, in another folder"
        )
    return loaded


def _rows(unit: WorkUnit, loaded: _Loaded, watch: Stopwatch) -> Iterator[tuple[UnitExample, Row | Unreadable]]:
    examples = list(unit.examples)
    for example, answer in zip(examples, loaded.classifier.answers([each.path for each in examples], watch)):
        if isinstance(answer, Unreadable):
            yield example, answer
        else:
            yield example, Row(loaded.kind.of(example.key, answer.probabilities), answer.feature)


class _PartWriter:
    """Holds a unit's rows, and writes them as one table."""

    def __init__(self, file: BinaryIO, unit: WorkUnit, job: PredictJob, kind: Rows[Any]) -> None:
        self.file, self.unit, self.job, self.kind = file, unit, job, kind
        self.rows = list[Row]()

    @property
    def examples(self) -> int:
        """How many rows there are so far."""
        return len(self.rows)

    def write(self, example: UnitExample, result: Any) -> None:
        """Takes a row."""
        self.rows.append(result)

    def finish(self) -> ShardEntry:
        """Writes the table."""
        content = encoded(self.rows, self.job.form, self.kind, self.job.with_features)
        self.file.write(content)
        digest = hashlib.sha256(content).hexdigest()
        return ShardEntry(self.unit.shard, len(self.rows), len(content), 0, digest, self.unit.digest)


def encoded(rows: list[Row], form: str, kind: Rows[Any], with_features: bool) -> bytes:
    """Rows as a table.

    Args:
        rows: in order.
        form: parquet, csv or jsonl.
        kind: what the run's predictions are.
        with_features: whether `feature` is a column, a list of float32 in C order; of Parquet alone.
    """
    if form == "parquet":
        return _parquet(rows, kind, with_features)
    text = io.StringIO(newline="")
    predictions = [row.prediction for row in rows]
    if form == "csv":
        write_csv(predictions, kind, text)
    else:
        write_jsonl(predictions, text)
    return text.getvalue().encode("utf-8", "surrogateescape")


def _parquet(rows: list[Row], kind: Rows[Any], with_features: bool) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    found = [row.prediction for row in rows]
    keys = [each.key.encode("utf-8", "backslashreplace").decode() for each in found]
    columns = {"key": pa.array(keys, pa.string()), **kind.columns(found)}
    if with_features:
        columns["feature"] = pa.array([row.feature.ravel() for row in rows], pa.list_(pa.float32()))
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file)
    return file.getvalue()
