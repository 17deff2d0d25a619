"""A training that survives: at the end of an epoch all of its state goes to disk, and a killed one goes on from there.

What is kept: weights, the optimizer's variables, the state of random layers, the figures of every epoch so far, and the best
weights. The order of examples and their augmentation follow from the seed and the epoch's number, so they need no keeping, and
it does not matter which epochs left a checkpoint.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import signal
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from headstart.features import files
from headstart.features.errors import UserError
from headstart.features.places.mirror import push_files

MAX_SHOWN = 4  # fields of another training, in a message
FIRST_COST_S = 0.05  # what a checkpoint is taken to cost before there was one


class Interrupted(Exception):
    """Ctrl-C, taken note of between two steps."""


class BestCheckpoint(keras.callbacks.Callback):
    """Keeps the best epoch's weights, stops when there has been none better for a while, and leaves a checkpoint on the way.

    Args:
        path: of the checkpoint file; '' for none.
        identity: what training this is; the checkpoint of another is not taken up.
        monitor: which figure is best; accuracies are better when higher, losses when lower.
        patience: epochs without a better one before it stops.
        not_before: the epoch before whose end it never stops.
        share: of the time, what checkpoints may cost: one is written when that has passed since the last one.
        clock: in seconds.
    """

    def __init__(
        self,
        path: str,
        identity: Mapping[str, Any],
        monitor: str,
        patience: int,
        not_before: int = 0,
        share: float = math.inf,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self.not_before, self.share, self.clock = not_before, share, clock
        self.saved_at, self.cost = clock(), FIRST_COST_S
        self.path, self.identity, self.monitor, self.patience = path, dict(identity), monitor, patience
        self.history: dict[str, list[float]] = {}
        self.baseline: dict[str, float] = {}
        self.best_epoch, self.best_value, self.best_weights = 0, float("nan"), list[np.ndarray]()

    @property
    def epochs(self) -> int:
        """Epochs done, those of an earlier run of the same command too."""
        return len(next(iter(self.history.values()), ()))

    def start(self, figures: Mapping[str, float]) -> None:
        """What the weights to begin with are worth, as epoch 0: nothing worse is kept in their place."""
        self.baseline = {name: float(value) for name, value in figures.items()}
        if self.monitor in figures:
            self._take(0, self.baseline[self.monitor])

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Keeps, and stops."""
        for name, value in logs.items():
            self.history.setdefault(name, []).append(float(value))
        value = float(logs[self.monitor])
        if not self.best_weights or self._is_better(value):
            self._take(epoch + 1, value)
        if self.path and self.clock() - self.saved_at >= self.cost / self.share:
            self._save_timed()
        if self.is_over():
            self.model.stop_training = True

    def is_over(self) -> bool:
        """Whether patience has run out."""
        return self.epochs >= max(self.not_before, self.best_epoch + self.patience)

    def restore_best(self) -> None:
        """Puts the best epoch's weights into the model."""
        for weight, value in zip(self.model.weights, self.best_weights):
            weight.assign(value)

    def _save_timed(self) -> None:
        started = self.clock()
        self.save()
        self.saved_at = self.clock()
        self.cost = self.saved_at - started

    def save(self) -> None:
        """Writes the checkpoint, whole or not at all."""
        state = {
            "identity": self.identity,
            "history": self.history,
            "baseline": self.baseline,
            "best_epoch": self.best_epoch,
            "best_value": self.best_value,
        }
        arrays = {f"variable_{number}": np.asarray(value) for number, value in enumerate(self._variables())}
        arrays |= {f"best_{number}": value for number, value in enumerate(self.best_weights)}
        with files.atomic(self.path) as file:
            np.savez(file, **{"state": np.array(json.dumps(state)), **arrays})  # type: ignore[arg-type]
        push_files(self.path)

    def load(self) -> bool:
        """Takes up the checkpoint, if there is one of this very training."""
        if not self.path or not is_of(self.path, self.identity):
            return False
        with np.load(self.path, allow_pickle=False) as kept:
            state = json.loads(str(kept["state"]))
            for name, value in state.items():
                setattr(self, name, value)
            for number, variable in enumerate(self._variables()):
                variable.assign(kept[f"variable_{number}"])
            self.best_weights = [kept[f"best_{number}"] for number in range(len(self.model.weights))]
        return True

    def _take(self, epoch: int, value: float) -> None:
        self.best_epoch, self.best_value = epoch, value
        self.best_weights = [weight.numpy().copy() for weight in self.model.weights]

    def _is_better(self, value: float) -> bool:
        return value > self.best_value if self.monitor.endswith("accuracy") else value < self.best_value

    def _variables(self) -> list[Any]:
        return [*self.model.variables, *self.model.optimizer.variables]


def deciding(config: Any, indifferent: Sequence[str]) -> dict[str, Any]:
    """The fields of a configuration that decide what an epoch does, for an identity."""
    return {name: value for name, value in dataclasses.asdict(config).items() if name not in indifferent}


def is_of(path: str, identity: Mapping[str, Any]) -> bool:
    """Whether a checkpoint is one of this very training."""
    state = _state(path)
    return state is not None and bool(state["identity"] == json.loads(json.dumps(identity)))


def goes_on(path: str, identity: Mapping[str, Any]) -> bool:
    """Whether a training takes a checkpoint up; False where it can't be read, so that there is nothing to lose.

    Args:
        path: of the checkpoint.
        identity: of the training that begins; empty where it is none that leaves checkpoints.

    Raises:
        UserError: when it is of another training, naming what differs.
    """
    state = _state(path)
    if state is None or is_of(path, identity):
        return state is not None
    theirs, mine = state["identity"], json.loads(json.dumps(identity))
    differing = [name for name in sorted({*theirs, *mine}) if theirs.get(name) != mine.get(name)]
    shown = [f"{name}: {_shown(theirs.get(name))} there, {_shown(mine.get(name))} here" for name in differing[:MAX_SHOWN]]
    values = "; ".join([*shown, *([f"{len(differing) - MAX_SHOWN} more"] if len(differing) > MAX_SHOWN else [])])
    epochs = len(next(iter(state["history"].values()), ()))
    raise UserError(
        "output-taken",
        f"{path!r} keeps {epochs} epochs of another training{f' ({values})' if mine else ''}: give its flags again to go "
        f"on with it, or another --run, or delete that file to begin anew",
    )


def _shown(value: Any) -> str:
    """A value of an identity; of a digest, as much as one reads."""
    text = "not set" if value in (None, "") else str(value)
    return text[:12] if len(text) == 64 else text


def _state(path: str) -> dict[str, Any] | None:
    """What a checkpoint says of itself; None when it can't be read."""
    try:
        with np.load(path, allow_pickle=False) as kept:
            state = json.loads(str(kept["state"]))
            return {"identity": state["identity"], "history": state["history"]}
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
        return None


class StopOnInterrupt(keras.callbacks.Callback):
    """Ends a training between two steps once somebody asks for it.

    Raises:
        Interrupted: then.
    """

    def __init__(self, asked: Callable[[], bool]) -> None:
        super().__init__()
        self.asked = asked

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Looks."""
        if self.asked():
            raise Interrupted

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
        """Looks."""
        if self.asked():
            raise Interrupted


@contextlib.contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C was pressed, which here only takes note; pressed again, it works as it always does."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():  # signals belong to the main thread
        yield asked.is_set
        return

    def note(*_: Any) -> None:
        asked.set()
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield asked.is_set
    finally:
        signal.signal(signal.SIGINT, before)
