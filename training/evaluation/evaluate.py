"""headstart evaluate: a run and a split, or any labelled images, in; figures with intervals, plots and predictions out."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from headstart.features import files
from headstart.features.dataset.examples import Example, dataset_digest
from headstart.features.dataset.sources import ImageFile, image_root, read_source
from headstart.features.engines.stream import Unreadable
from headstart.features.errors import UserError
from headstart.features.progress import Progress
from headstart.features.runtime import quietly
from headstart.features.store.feature_store import WORK_FOLDER, FeatureStore
from headstart.features.store.manifest import MANIFEST
from headstart.training.evaluation import report
from headstart.training.evaluation.classify import class_ids, classify_files, classify_split
from headstart.training.evaluation.evaluate_config import EvaluateConfig
from headstart.training.evaluation.plots.confused_pairs import confused_pairs
from headstart.training.evaluation.plots.confusion_matrix import confusion_matrix
from headstart.training.evaluation.scores import Scores, score
from headstart.training.runs.run_folder import EVALUATION, STORE, Run

MAX_CLASSES_IN_A_MATRIX = 40


@dataclass(frozen=True)
class UnreadableImage:
    """An image that could not be classified, and why: the stage is `read` or `decode`."""

    key: str
    stage: str
    reason: str


@dataclass(frozen=True)
class _Answers:
    """What is to be scored: examples in order, the run's answers, and what stands beside the score."""

    name: str
    split: str
    examples: list[Example]
    labels: np.ndarray  # int64 [N]
    probabilities: np.ndarray  # float32 [N, classes]
    groups_declared: bool
    unreadable: list[UnreadableImage]
    dataset_digest: str


@dataclass(frozen=True)
class Evaluation:
    """A run measured on some examples.

    Args:
        scores: what came of it.
        folder: where metrics.json, predictions.csv and a plot are.
        split: the split's name, or 'all'.
        input: the store, folder or table, as an absolute path.
        used_for_selection: most of the contents were trained on or chosen by, so that the scores flatter the run.
        seen_in_training: how many of them.
        groups_declared: someone said which examples belong together.
        unreadable: images that there is no score of.
        dataset_digest, split_digest, spec_fingerprint: of what was measured.
    """

    scores: Scores
    folder: str
    split: str
    input: str
    used_for_selection: bool
    seen_in_training: int
    groups_declared: bool
    unreadable: list[UnreadableImage]
    dataset_digest: str
    split_digest: str
    spec_fingerprint: str

    def to_json(self) -> dict[str, Any]:
        """What metrics.json holds."""
        beside = {name: value for name, value in vars(self).items() if name != "scores"}
        return {**self.scores.to_json(), **beside, "unreadable": [vars(image) for image in self.unreadable]}


@quietly
def evaluate(config: EvaluateConfig) -> Evaluation:
    """Measures a run and writes RUN/evaluation/NAME: metrics.json, predictions.csv and a plot.

    Args:
        config: what `headstart evaluate` takes.

    Raises:
        UserError: for a split that does not exist (listing those that do), or other classes or features than the run's.
    """
    run = Run.open(config.run, config.unsafe)
    path = config.input or _data_source(run)
    found = (_of_store if _is_store(path) else _of_images)(run, path, config.split)
    keys = [example.key for example in found.examples]
    groups = [example.group or example.digest for example in found.examples]
    known = run.seen()
    seen = sum(example.digest[:16] in known for example in found.examples)
    evaluation = Evaluation(
        scores=score(found.labels, found.probabilities, keys, groups, run.class_names, config.seed),
        folder=os.path.join(run.path, EVALUATION, found.name),
        split=found.split,
        input=os.path.abspath(path),
        used_for_selection=2 * seen > len(found.examples),
        seen_in_training=seen,
        groups_declared=found.groups_declared,
        unreadable=found.unreadable,
        dataset_digest=found.dataset_digest,
        split_digest=_split_digest(found.examples),
        spec_fingerprint=run.spec.fingerprint,
    )
    _write(evaluation, found, keys, run.class_names)
    return evaluation


def _data_source(run: Run) -> str:
    """Where the run's own splits are.

    Raises:
        UserError: when they have moved.
    """
    path, beside = run.data_source, os.path.join(run.path, STORE)
    if os.path.exists(path):
        return path
    if run.config.get("store") and _is_store(beside):  # a run that `headstart fit` made has moved with its store in it
        return beside
    what = "store" if run.config.get("store") else "images"
    raise UserError(
        "missing-input",
        f"the {what} that {run.path!r} was trained on {'is' if what == 'store' else 'are'} no longer at {path!r}: name the "
        f"new place, headstart evaluate {run.path} {what.upper()}",
    )


def _is_store(path: str) -> bool:
    return os.path.exists(os.path.join(path, MANIFEST)) or os.path.isdir(os.path.join(path, WORK_FOLDER))


def _of_store(run: Run, path: str, asked: str) -> _Answers:
    store = FeatureStore.open(path)
    split = asked or "test"
    if split not in store.splits:
        raise UserError(
            "missing-split", f"{store.path!r} has no split {split!r}; it has {', '.join(store.splits)}: name one with --split"
        )
    labels, probabilities = classify_split(run, store, split)
    own = store.manifest.dataset_digest == run.config["dataset_digest"]
    name = split if own else _other_name(store.path, store.manifest.dataset_digest, split)
    return _Answers(
        name,
        split,
        store.examples(split),
        labels,
        probabilities,
        store.manifest.groups_declared,
        [],
        store.manifest.dataset_digest,
    )


@dataclass(frozen=True)
class _Images:
    """Image files to measure on."""

    chosen: Sequence[ImageFile]
    split: str
    has_groups: bool
    digests: Mapping[str, str]  # by key, where they are of the run's own dataset


def _own_images(run: Run, split: str) -> _Images:
    """A split of the dataset that the run was trained on, from its images."""
    splits, root = run.table.splits, image_root(run.config["input"])
    if split not in splits:
        raise UserError(
            "missing-split",
            f"{run.config['input']!r} has no split {split!r}; it has {', '.join(splits)}: name one with --split",
        )
    chosen = [
        ImageFile(example.key, os.path.join(root, example.key), example.labels, split, example.group)
        for example in run.table.examples(split)
    ]
    digests = {example.key: example.digest for example in run.table.examples(split)}
    return _Images(chosen, split, run.config["groups_declared"], digests)


def _other_images(path: str, asked: str) -> _Images:
    """All of another folder or table, or one of its splits."""
    if not os.path.exists(path):
        raise UserError(
            "missing-input", f"the input {path!r} does not exist: give a folder or table of images, or a feature store"
        )
    source = read_source(path, least_classes=1)
    for note in source.notes:
        print(note, file=sys.stderr)
    splits = sorted({image.split for image in source.images})
    split = (asked or "test") if source.has_splits else ""
    if (source.has_splits or asked) and (asked or split) not in splits:
        held = ", ".join(splits) if source.has_splits else "no splits; leave --split out and all of it is used"
        raise UserError("missing-split", f"{path!r} has no split {asked or split!r}; it has {held}")
    return _Images([image for image in source.images if image.split == split], split, source.has_groups, {})


def _of_images(run: Run, path: str, asked: str) -> _Answers:
    """A folder or table of images, the run's own or another."""
    own = not run.config.get("store") and os.path.abspath(path) == run.config["input"]
    images = _own_images(run, asked or "test") if own else _other_images(path, asked)
    names = sorted({image.labels[0] for image in images.chosen})
    ids = dict(zip(names, class_ids(run, names)))
    examples, rows, labels, unreadable = [], [], [], []
    progress = Progress("evaluate", len(images.chosen))
    for image, answer in zip(images.chosen, classify_files(run, [image.path for image in images.chosen])):
        if isinstance(answer, Unreadable):
            unreadable.append(UnreadableImage(image.key, answer.stage, answer.reason))
        else:
            examples.append(Example(image.key, files.sha256_file(image.path), image.labels, image.split, image.group))
            rows.append(answer)
            labels.append(ids[image.labels[0]])
        progress.update(len(rows) + len(unreadable), len(unreadable))
    progress.close()
    if own and (changed := [example.key for example in examples if example.digest != images.digests[example.key]]):
        raise UserError(
            "changed-images",
            f"{len(changed)} images in {path!r} are not what they were when the run was made (such as {changed[0]!r}): give "
            f"another folder as INPUT, or train again",
        )
    if not rows:
        raise UserError(
            "changed-images",
            f"none of the {len(images.chosen)} images in {path!r} can be read; the first: {vars(unreadable[0])}",
        )
    digest = run.config["dataset_digest"] if own else dataset_digest(examples, run.class_names)
    return _Answers(
        images.split if own else _other_name(path, digest, images.split),
        images.split or "all",
        examples,
        np.array(labels),
        np.stack(rows),
        images.has_groups,
        unreadable,
        digest,
    )


def _other_name(path: str, digest: str, split: str) -> str:
    """The folder of an evaluation on something else than the run's own store: no two of them meet."""
    return "-".join(part for part in (os.path.basename(os.path.abspath(path)), digest[:8], split) if part)


def _split_digest(examples: Sequence[Example]) -> str:
    rows = sorted(f"{example.key}\0{example.digest}\0{example.labels}" for example in examples)
    return hashlib.sha256("\n".join(rows).encode("utf-8", "surrogateescape")).hexdigest()


def _write(evaluation: Evaluation, found: _Answers, keys: Sequence[str], class_names: Sequence[str]) -> None:
    folder, scores = evaluation.folder, evaluation.scores
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    groups = [example.group for example in found.examples]
    report.write_predictions(
        os.path.join(folder, "predictions.csv"), keys, groups, found.labels, found.probabilities, class_names
    )
    if len(class_names) <= MAX_CLASSES_IN_A_MATRIX:
        confusion_matrix(scores.confusion, class_names, os.path.join(folder, "confusion_matrix.png"))
    else:
        confused_pairs(scores.most_confused, os.path.join(folder, "most_confused.png"))
    files.write_json(os.path.join(folder, "metrics.json"), evaluation.to_json())
