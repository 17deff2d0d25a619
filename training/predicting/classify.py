"""A run applied: image files or stored features in, class probabilities out. Evaluation and prediction go this way."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from headstart.features import files
from headstart.features.backbones.kept import Kept, kept_by
from headstart.features.backbones.source import CUSTOM
from headstart.features.batched import batched
from headstart.features.engines.factory import kept_engine
from headstart.features.engines.options import EngineOptions
from headstart.features.engines.stopwatch import Stopwatch
from headstart.features.engines.stream import ImageToRead, Unreadable, stream_features
from headstart.features.errors import UserError
from headstart.features.store.feature_store import FeatureStore
from headstart.training.runs.run_folder import MODEL, Run
from headstart.training.runs.shared_model import shared_model

FEATURES_AT_ONCE, FILES_AT_ONCE = 256, 32  # for the head


class Answer(NamedTuple):
    """A file's probabilities, float32 [classes], and the feature that they come from, float32 [*tap.shape]."""

    probabilities: np.ndarray
    feature: np.ndarray


class Classifier:
    """A run's model on engines: the backbone inside `model.keras`, as in extraction, and the head.

    A file gets what its stored feature would. Several threads may ask at once. Where the same model was used on this machine
    before and OpenVINO runs it, TensorFlow is not needed.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        kept, model = self._kept(), functools.partial(shared_model, run)
        self.engine = kept_engine(
            kept["backbone"], lambda: model().get_layer("backbone"), EngineOptions(), run.spec.model_dtype
        )
        self.head = kept_engine(kept["head"], lambda: model().get_layer("head"), EngineOptions(batch_size=FILES_AT_ONCE))

    @functools.cached_property
    def digest(self) -> str:
        """sha256 of the run's model."""
        return model_digest(self.run)

    def _kept(self) -> dict[str, Kept | None]:
        """What is kept of both parts of the model on this machine; nothing of one that may bring code along."""
        parts = ("backbone", "head")
        if self.run.unsafe or self.run.spec.backbone.startswith(f"{CUSTOM}:"):
            return dict.fromkeys(parts)
        found = {part: kept_by([self.digest, part]) for part in parts}
        self.run.check_same()
        return found

    def answers(self, paths: Iterable[str], watch: Stopwatch | None = None) -> Iterator[Answer | Unreadable]:
        """Each file's answer, in order; or why there is none. watch adds up what each step takes."""
        limit = self.run.config["max_pixels"]
        features = stream_features(map(ImageToRead, paths), self.run.spec, self.engine, limit, watch=watch)
        for rows in batched(features, FILES_AT_ONCE):
            readable = [row[0] for row in rows if not isinstance(row, Unreadable)]
            found = iter(self.head(np.stack(readable))[0] if readable else ())
            for row in rows:
                yield row if isinstance(row, Unreadable) else Answer(next(found), row[0])


def model_digest(run: Run) -> str:
    """sha256 of a run's model."""
    return files.sha256_file(os.path.join(run.path, MODEL))


def classify_files(run: Run, paths: Sequence[str]) -> Iterator[np.ndarray | Unreadable]:
    """Each file's probabilities, float32 [classes], in order; or why there are none."""
    for answer in answer_files(run, paths):
        yield answer if isinstance(answer, Unreadable) else answer.probabilities


def answer_files(run: Run, paths: Sequence[str]) -> Iterator[Answer | Unreadable]:
    """Each file's answer, in order; the model is loaded for the first of them."""
    yield from Classifier(run).answers(paths)


def classify_split(run: Run, store: FeatureStore, split: str) -> tuple[np.ndarray, np.ndarray]:
    """(labels int64 [N], probabilities float32 [N, classes]) of a split's stored features, in the store's order.

    Where images may have several labels, these are uint8 [N, classes], in the order of the run's classes.

    Raises:
        UserError: when the store's features or classes are not those of the run, naming both.
    """
    if store.spec != run.spec:
        raise UserError(
            "other-features",
            f"{store.path!r} holds other features than the run was trained on ({'; '.join(store.spec.differences(run.spec))})",
        )
    labels_as_run = class_ids(run, store.class_names)
    head = shared_model(run).get_layer("head")
    labels, answers = [], []
    for features, ids in store.dataset(split, FEATURES_AT_ONCE, tap=run.tap.name).as_numpy_iterator():
        answers.append(head.predict_on_batch(features.astype(np.float32)))
        labels.append(_as_run(ids, labels_as_run, len(run.class_names)))
    return np.concatenate(labels), np.concatenate(answers)


def _as_run(labels: np.ndarray, as_run: np.ndarray, classes: int) -> np.ndarray:
    """Labels by a run's ids of the classes, ids int64 [N] or rows uint8 [N, C], given each class's own id there, int64 [C]."""
    if labels.ndim == 1:
        return np.asarray(as_run[labels])
    rows = np.zeros((len(labels), classes), np.uint8)
    rows[:, as_run] = labels
    return rows


def class_ids(run: Run, names: Sequence[str]) -> np.ndarray:
    """The run's ids of the named classes, int64 [len(names)].

    Raises:
        UserError: for names that the run does not know.
    """
    known = {name: index for index, name in enumerate(run.class_names)}
    if unknown := [name for name in names if name not in known]:
        raise UserError(
            "other-dataset", f"the run knows the classes {', '.join(known)}; it was not trained on {', '.join(unknown[:5])}"
        )
    return np.array([known[name] for name in names], np.int64)
