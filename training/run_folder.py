"""A run's folder: where training leaves its model and what evaluation and prediction read back.

run/
  config.json         the training's configuration, the spec and tap, class names, digests
  model.keras         uint8 images in, probabilities out
  history.csv, learning_curve.png, logs/
  examples.csv, dead_letters.jsonl        the dataset that it was trained on, as its store has it
  augmented.png       fine-tuning with augmentation: what the network saw
  checkpoint.npz      of a training that was interrupted: the same command goes on from it
  metrics.json        written last: without it the run is not complete
  evaluation/NAME/    what `headstart evaluate` found
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from features import files
from features.errors import UserError
from features.spec import FeatureSpec, Tap
from features.table import DatasetTable

if TYPE_CHECKING:
    import keras

CONFIG, MODEL, METRICS, HISTORY = "config.json", "model.keras", "metrics.json", "history.csv"
CURVE, LOGS, EVALUATION, SEEN = "learning_curve.png", "logs", "evaluation", "seen.txt"
CHECKPOINT, GRID = "checkpoint.npz", "augmented.png"
STORE, WORK_FOLDER = "store", ".partial"  # `headstart fit` keeps its store in the run


@dataclass(frozen=True)
class Run:
    """A complete run, opened."""

    path: str
    config: dict[str, Any]
    unsafe: bool = False

    @classmethod
    def open(cls, path: str, unsafe: bool = False) -> Run:
        """Opens a complete run.

        Args:
            path: its folder.
            unsafe: run Python code that its model brings along in Lambda layers.

        Raises:
            UserError: when there is none, or when its training did not end.
        """
        if not os.path.isfile(os.path.join(path, CONFIG)) and not os.path.isdir(os.path.join(path, WORK_FOLDER)):
            raise UserError(f"there is no run at {path!r}: make one with `headstart train STORE --run {path}`")
        if not os.path.isfile(os.path.join(path, METRICS)):
            raise UserError(f"the run {path!r} is not complete: run the command that makes it again")
        return cls(path, files.read_json(os.path.join(path, CONFIG)), unsafe)

    @property
    def spec(self) -> FeatureSpec:
        """What the model's features are."""
        return FeatureSpec.from_json(self.config["spec"])

    @property
    def tap(self) -> Tap:
        """Which of them its head takes."""
        return Tap(**self.config["tap"])

    @property
    def class_names(self) -> list[str]:
        """Class names, in the order of the model's outputs."""
        return self.config["class_names"]

    @property
    def table(self) -> DatasetTable:
        """The dataset that it was trained on."""
        return DatasetTable(self.path)

    @property
    def title(self) -> str:
        """What was trained, in a word or two."""
        return "fine-tuned" if "finetune" in self.config else self.config["train"]["head"]

    @property
    def measured_on(self) -> str:
        """Where its splits are: the store of its features, or the images, where its backbone is its own."""
        return self.config.get("store") or self.config["input"]

    def seen(self) -> set[str]:
        """Digests, cut to 16 characters, of the contents that the run was trained on or chosen by."""
        with open(os.path.join(self.path, SEEN), encoding="ascii") as file:
            return set(file.read().split())

    def model(self) -> keras.Model:
        """The saved model: uint8 [B, any, any, 3] to float32 [B, classes]."""
        from features.engine_options import has_gpu
        from features.model_file import load_model

        has_gpu()  # memory grows with need
        return load_model(os.path.join(self.path, MODEL), self.unsafe)


def check_free(path: str) -> None:
    """Raises UserError when a run can't be left at `path`, because it holds something else than an older run."""
    held = files.names_in(path, "--run")
    if held - {STORE} and not held & {CONFIG, WORK_FOLDER}:
        raise UserError(f"--run {path!r} holds something else than a run: give a new or empty folder")


def begin(path: str, keep: Callable[[str], bool] = lambda checkpoint: False) -> str:
    """A folder inside the run's to train in: the older run stays whole until `publish`.

    Args:
        path: the run's folder.
        keep: whether a checkpoint is of the training that begins; it stays then, one that was killed or interrupted left it.
    """
    work = os.path.join(path, WORK_FOLDER)
    older, newer = (os.path.join(folder, CHECKPOINT) for folder in (path, work))
    kept = next((file for file in (newer, older) if os.path.isfile(file) and keep(file)), None)
    aside = os.path.join(path, f"{WORK_FOLDER}-{CHECKPOINT}")
    if kept:
        shutil.copy2(kept, aside)
    shutil.rmtree(work, ignore_errors=True)
    os.makedirs(work)
    if kept:
        os.replace(aside, newer)
    return work


def publish(path: str) -> None:
    """Puts a finished training in the place of the older run: its marker goes first, the new one comes last."""
    work = os.path.join(path, WORK_FOLDER)
    if os.path.exists(os.path.join(path, METRICS)):
        os.remove(os.path.join(path, METRICS))
    for name in (LOGS, EVALUATION):
        shutil.rmtree(os.path.join(path, name), ignore_errors=True)
    for name in (CHECKPOINT, GRID, HISTORY, CURVE):
        if os.path.exists(os.path.join(path, name)):
            os.remove(os.path.join(path, name))
    for name in sorted(os.listdir(work), key=lambda name: name == METRICS):
        os.replace(os.path.join(work, name), os.path.join(path, name))
    files.sync_folder(path)
    os.rmdir(work)
