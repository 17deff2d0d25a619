"""headstart predict --output DIR: images in, their predictions in parts out, by one Beam pipeline. Any runner takes it.

1. the run; every image that is named     training/predicting/to_predict.py
2. units of equal size, by name alone; what earlier starts finished is kept
3. one Beam pipeline, a part a unit       headstart/predicting/predict_unit.py
4. dead letters; and last the summary, which says that all of it is there
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from headstart.features import files
from headstart.features.dataset.columns import Digests, Few, Text, each
from headstart.features.dataset.dead_letter import DeadLetter, to_json_lines
from headstart.features.errors import UserError
from headstart.features.places import place
from headstart.features.places.claim import CLAIMS, check_claim, claimed
from headstart.features.runtime import quiet
from headstart.features.store.generations import names_below
from headstart.features.store.manifest import WORK_FOLDER
from headstart.pipelines.begin import take_over
from headstart.pipelines.units.markers import ShardMarker, markers_of, read_marker
from headstart.pipelines.units.run_units import run_units
from headstart.pipelines.units.stored_features import nothing_stored
from headstart.pipelines.units.work_unit import UnitExamples, WorkUnit
from headstart.predicting.predict_unit import PARTS, PredictJob, PredictPart, answers_digest
from headstart.training.predicting.classify import model_digest
from headstart.training.predicting.predict_config import PredictConfig
from headstart.training.predicting.to_predict import to_predict
from headstart.training.runs.run_folder import Run
from headstart.training.tasks.checks import check_prediction

SUMMARY, DEAD_LETTERS = "summary.json", "dead_letters.jsonl"


@dataclass(frozen=True)
class Predicted:
    """Predictions of many images: their folder, how many images were named, and how many of them failed."""

    folder: str
    images: int
    failed: int


@dataclass(frozen=True)
class _Plan:
    """What is to be done; see `run_units.UnitPlan`."""

    job: PredictJob
    units: list[WorkUnit]
    done: Mapping[str, ShardMarker]
    lost: Sequence[DeadLetter]
    model_sha256: str  # what the run answers with, as it was when this was planned

    @property
    def to_do(self) -> list[WorkUnit]:
        return [unit for unit in self.units if unit.shard not in self.done]

    @property
    def settled(self) -> int:
        return len(self.lost)

    @property
    def planned(self) -> int:
        return self.settled + sum(len(unit.examples) for unit in self.units)


@quiet()
def predict_files(config: PredictConfig) -> Predicted:
    """Predicts every image that is named, and leaves a table in parts, dead letters and a summary in a folder.

    Killed at any moment and called again, it goes on, and ends with the same bytes.

    Args:
        config: what `headstart predict` takes, its output a folder.

    Raises:
        UserError: for a run that is not complete, a folder that holds something else or other predictions, or one that
            another prediction is writing to.
    """
    run, output = Run.open(config.run, config.unsafe), place.absolute(config.output)
    check_prediction(config, run.label_delimiter)
    check_output(config.output)
    with claimed(output, "prediction", "--output") as claim:
        plan = _planned(config, run, output, claim.token)
        if place.exists(place.join(output, SUMMARY)):
            predicted = _finished(config, plan.job)
        else:
            _begin(config, plan)
            run_units(plan, PredictPart(plan.job), "predict", config.pipeline_options)
            predicted = _finish(config, run, plan)
        place.remove_folder(place.join(output, WORK_FOLDER))  # of a start that was killed once it was done, too
    return predicted


def check_output(path: str) -> None:
    """Raises UserError when a folder holds something else than predictions, finished or not."""
    held = place.names_in(path, "--output") - {CLAIMS}
    if held and not held & {SUMMARY, PARTS, WORK_FOLDER}:
        raise UserError("output-taken", f"--output {path!r} holds something else than predictions: give a new or empty folder")


def _planned(config: PredictConfig, run: Run, output: str, token: str) -> _Plan:
    images, lost, examples = _named(config)
    model = model_digest(run)
    answers = answers_digest(run, model)
    decides = json.dumps([answers, images, config.format, config.top_k, config.with_features])
    fingerprint = hashlib.sha256(decides.encode()).hexdigest()
    units = _units(examples, config, run, fingerprint)
    job = PredictJob(
        store=output,
        generation=hashlib.sha256(json.dumps([fingerprint, *(unit.digest for unit in units)]).encode()).hexdigest()[:16],
        token=token,
        class_names=tuple(run.class_names),
        max_dead=len(lost) + len(examples),  # each has its dead letter, and the rest goes on
        run=place.absolute(config.run),
        unsafe=config.unsafe,
        answers=answers,
        form=config.format,
        top_k=config.top_k,
        with_features=config.with_features,
    )
    return _Plan(job, units, markers_of(job, units), lost, model)


def _named(config: PredictConfig) -> tuple[str, list[DeadLetter], UnitExamples]:
    """What is named, in order: a digest of all of it, names that give no image, and the images."""
    named, digest = to_predict(config.images, config.records), hashlib.sha256()
    paths = Text.of(row.path and place.absolute(row.path) for row in named)
    for row, path in zip(named, each(paths)):  # of a table they are known by names below it: others may be called the same
        digest.update(json.dumps([row.key, path, row.error]).encode())
    lost = [DeadLetter(row.key, "", "", "", *row.error.split(": ", 1)) for row in named.take(named.is_lost)]
    count = len(named) - len(lost)
    examples = UnitExamples(
        key=named.columns["key"].take(~named.is_lost),
        path=paths.take(~named.is_lost),
        digest=Digests(np.zeros(count, "S32")),
        labels=Few(np.zeros(count, np.int32), ((),)),
        stored_at=nothing_stored(count),
    )
    return digest.hexdigest(), lost, examples


def _units(examples: UnitExamples, config: PredictConfig, run: Run, fingerprint: str) -> list[WorkUnit]:
    """Cuts images, in their order, into units of about equal size."""
    parts = -(-len(examples) // config.images_per_file)
    bounds = [len(examples) * part // parts for part in range(parts + 1)] if parts else []
    units = []
    for part, ends in enumerate(pairwise(bounds)):
        name = f"part-{part:05}-of-{parts:05}.{config.format}"
        units.append(WorkUnit(name, "", fingerprint, examples.take(slice(*ends)), run.config["max_pixels"]))
    return units


def _begin(config: PredictConfig, plan: _Plan) -> None:
    """Takes over what earlier starts finished.

    Raises:
        UserError: when that is of other predictions: what took long to compute is not thrown away unasked.
    """
    job = plan.job
    others = names_below(place.join(job.store, WORK_FOLDER)) - {job.generation}
    if others and any(place.entries(job.folder)):
        raise UserError(
            "output-taken",
            f"--output {config.output!r} holds unfinished predictions of another run, of other images or in another form: "
            f"run the command that began them, delete the folder, or give a new one",
        )
    for name in others:
        place.remove_folder(place.join(job.store, WORK_FOLDER, name))
    take_over(job, plan.done)


def _finished(config: PredictConfig, job: PredictJob) -> Predicted:
    """What the folder holds, if it is what is asked for."""
    summary = place.read_json(place.join(job.store, SUMMARY))
    if summary["job"] != job.generation:
        raise UserError(
            "output-taken",
            f"--output {config.output!r} holds predictions of another run, of other images or in another form: "
            f"give a new folder",
        )
    return Predicted(config.output, summary["images"], summary["failed"])


def _finish(config: PredictConfig, run: Run, plan: _Plan) -> Predicted:
    """Dead letters, then the summary, when every part is there."""
    job = plan.job
    found = place.at_once(lambda unit: plan.done.get(unit.shard) or read_marker(job.work, unit), plan.units, job.work)
    if missing := [unit.shard for unit, marker in zip(plan.units, found) if not marker]:
        raise UserError("worker-failed", f"{missing[0]} was not finished ({len(missing)} in all): run the same command again")
    markers = list(filter(None, found))
    letters = sorted([*plan.lost, *(each for marker in markers for each in marker.dead_letters)], key=lambda each: each.key)
    predicted = Predicted(config.output, plan.planned, len(letters))
    summary: dict[str, Any] = {
        "job": job.generation,
        "run": run.home,
        "model_sha256": plan.model_sha256,
        "format": job.form,
        "top_k": job.top_k,
        "images": predicted.images,
        "failed": predicted.failed,
        "dead_by_stage": dict(sorted(Counter(letter.stage for letter in letters).items())),
        "files": [
            {"name": f"{PARTS}/{each.shard.name}", "rows": each.shard.examples, "sha256": each.shard.sha256}
            for each in markers
        ],
    }
    check_claim(job.store, job.token)
    place.write(place.join(job.store, DEAD_LETTERS), to_json_lines(letters))
    place.write(place.join(job.store, SUMMARY), files.json_bytes(summary))
    return predicted
