"""A run's model for all who only ask it: loading one takes a second or two, and a training asks its own several times."""

from __future__ import annotations

import os
from collections.abc import Hashable
from typing import TYPE_CHECKING

from headstart.training.runs.run_folder import MODEL, Run

if TYPE_CHECKING:
    import keras

_last: dict[Hashable, keras.Model] = {}  # by its file


def shared_model(run: Run) -> keras.Model:
    """As `Run.model`, and perhaps the very one that was given out last: not to be changed."""
    try:
        file = os.stat(os.path.join(run.path, MODEL))
    except FileNotFoundError:
        return run.model()  # says so
    key = (file.st_dev, file.st_ino, file.st_size, file.st_mtime_ns, run.unsafe)
    model = _last.get(key)
    if model is not None:
        run.check_same()
        return model
    model = run.model()  # which checks that, too
    _last.clear()
    _last[key] = model
    return model
