"""A run to `model.keras`, as it is: images of any size in, probabilities out, for Keras 3."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from typing import TYPE_CHECKING

from headstart.training.runs.run_folder import MODEL, Run

if TYPE_CHECKING:
    import keras
    import numpy as np


def write(model: keras.Model, run: Run, calibration: Sequence[np.ndarray], folder: str) -> None:
    """Copies the run's file: it loads with Keras alone as it is."""
    shutil.copyfile(os.path.join(run.path, MODEL), os.path.join(folder, MODEL))
