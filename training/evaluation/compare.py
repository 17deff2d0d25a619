"""headstart compare: two runs' predictions of the same images in; the difference, its interval and where they part out."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from headstart.features import files
from headstart.features.errors import UserError
from headstart.features.places.mirror import push_files
from headstart.training.evaluation.compare_config import LESS_IS_BETTER, CompareConfig
from headstart.training.evaluation.comparisons import PairedDifference, against_best, mcnemar
from headstart.training.evaluation.predictions import Predictions
from headstart.training.runs.run_folder import METRICS, Run

COMPARISON = "compared.csv"  # in the second run's evaluation: the images that the two answer differently


@dataclass(frozen=True)
class ClassComparison:
    """One class: its images, the recall of both, and of the images on which one alone is right how many each has."""

    name: str
    count: int
    recall: float
    other: float
    better: int
    worse: int

    @property
    def p(self) -> float:
        """McNemar's exact test that both find it equally well."""
        return mcnemar(self.better, self.worse)


@dataclass(frozen=True)
class Comparison:
    """Two runs on the same images; difference is the second's accuracy less the first's, drop how much worse its metric is."""

    examples: int
    accuracy: float
    other: float
    difference: PairedDifference
    drop: float
    better: int
    worse: int
    classes: list[ClassComparison]
    table: str

    @property
    def p(self) -> float:
        """McNemar's exact test that both are equally accurate; it takes each image for itself."""
        return mcnemar(self.better, self.worse)


def compare(config: CompareConfig) -> Comparison:
    """Compares two runs, and leaves a table of the images that they answer differently beside the second's predictions.

    Args:
        config: what `headstart compare` takes.

    Raises:
        UserError: for a run that is not complete or was not evaluated, or evaluations of other images or labels.
    """
    first, second = (Predictions.of_run(Run.open(path), config.split) for path in (config.baseline, config.run))
    if [(row["key"], row["truth"]) for row in first.rows] != [(row["key"], row["truth"]) for row in second.rows]:
        raise UserError(
            "other-dataset",
            f"{config.baseline!r} and {config.run!r} were not evaluated on the same images with the same labels "
            f"({len(first.rows)} and {len(second.rows)}): evaluate both on one folder, headstart evaluate RUN FOLDER",
        )
    groups = [row["group"] or row["key"] for row in first.rows]
    hits = [np.array([row["predicted"] == row["truth"] for row in each.rows]) for each in (first, second)]
    better, worse = hits[1] & ~hits[0], hits[0] & ~hits[1]
    truths = np.array([row["truth"] for row in first.rows], object)
    classes = []
    for name in sorted(set(truths)):
        own = truths == name
        recall, other = (float(each[own].mean()) for each in hits)
        counts = int(better[own].sum()), int(worse[own].sum())
        classes.append(ClassComparison(name, int(own.sum()), recall, other, *counts))
    table = os.path.join(second.folder, COMPARISON)
    files.write_bytes(table, _csv(first.rows, second.rows))
    push_files(table)
    return Comparison(
        len(first.rows),
        float(hits[0].mean()),
        float(hits[1].mean()),
        against_best(hits, groups, config.seed)[1],
        _drop(config, first, second, [float(each.mean()) for each in hits]),
        int(better.sum()),
        int(worse.sum()),
        classes,
        table,
    )


def _drop(config: CompareConfig, first: Predictions, second: Predictions, accuracies: Sequence[float]) -> float:
    """By how much the second run is worse, by the metric that was asked for."""
    before, after = accuracies
    if config.metric != "accuracy":
        before, after = (
            files.read_json(os.path.join(each.folder, METRICS))[config.metric]["value"] for each in (first, second)
        )
    return after - before if config.metric in LESS_IS_BETTER else before - after


def _csv(first: Sequence[dict[str, str]], second: Sequence[dict[str, str]]) -> bytes:
    """key, truth, what each predicted and with which probability, of the images that the two answer differently."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("key", "truth", "predicted_a", "probability_a", "predicted_b", "probability_b"))
    for one, other in zip(first, second):
        if one["predicted"] != other["predicted"]:
            answers = [value for row in (one, other) for value in (row["predicted"], row[f"p:{row['predicted']}"])]
            writer.writerow((one["key"], one["truth"], *answers))
    return text.getvalue().encode("utf-8", "surrogateescape")
