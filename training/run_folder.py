"""A run's folder: where training leaves its model and what evaluation and prediction read back.

run/
  config.json         the training's configuration, the spec and tap, class names, digests
  model.keras         uint8 images in, probabilities out
  history.csv, learning_curve.png, logs/
  metrics.json        written last: without it the run is not complete
  evaluation/NAME/    what `headstart evaluate` found
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from features import files
from features.errors import UserError
from features.spec import FeatureSpec, Tap

if TYPE_CHECKING:
    import keras

CONFIG, MODEL, METRICS, HISTORY = "config.json", "model.keras", "metrics.json", "history.csv"
CURVE, LOGS, EVALUATION, STORE = "learning_curve.png", "logs", "evaluation", "store"


@dataclass(frozen=True)
class Run:
    """A complete run, opened."""

    path: str
    config: dict[str, Any]

    @classmethod
    def open(cls, path: str) -> Run:
        """Opens a complete run.

        Raises:
            UserError: when there is none, or when its training did not end.
        """
        if not os.path.isfile(os.path.join(path, CONFIG)):
            raise UserError(f"there is no run at {path!r}: make one with `headstart train STORE --run {path}`")
        if not os.path.isfile(os.path.join(path, METRICS)):
            raise UserError(f"the run {path!r} is not complete: run its `headstart train` command again")
        return cls(path, files.read_json(os.path.join(path, CONFIG)))

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

    def model(self) -> keras.Model:
        """The saved model: uint8 [B, any, any, 3] to float32 [B, classes]."""
        import keras

        from features.engine import has_gpu

        has_gpu()  # memory grows with need
        return keras.saving.load_model(os.path.join(self.path, MODEL), compile=False)


def check_free(path: str) -> None:
    """Raises UserError when a run can't be left at `path`, because it holds something else than an older run."""
    if os.path.exists(path) and not os.path.isdir(path):
        raise UserError(f"--run {path!r} is a file: give the name of a folder")
    held = _held(path)
    if held and CONFIG not in held:
        raise UserError(f"--run {path!r} holds something else than a run: give a new or empty folder")


def clear(path: str) -> None:
    """Makes a folder ready for training: an older run's results are removed, its marker first."""
    for name in (METRICS, MODEL, HISTORY, CURVE, CONFIG):
        if name in _held(path):
            os.remove(os.path.join(path, name))
    for name in (LOGS, EVALUATION):
        shutil.rmtree(os.path.join(path, name), ignore_errors=True)
    os.makedirs(path, exist_ok=True)


def _held(path: str) -> set[str]:
    """What a folder holds, the store that `headstart fit` keeps there aside."""
    return set(os.listdir(path)) - {STORE} if os.path.isdir(path) else set()
