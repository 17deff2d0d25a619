"""What must hold while a part of a network is trained, looked at in the weights themselves."""

from __future__ import annotations

import hashlib
import sys
from typing import Any

import keras
import numpy as np

from headstart.features.formatting import shortened
from headstart.training.finetuning.unfreeze import SplitNetwork

STATISTICS = ("moving_mean", "moving_variance")


class FrozenGuard(keras.callbacks.Callback):
    """After the first step and at the end: frozen weights and BatchNorm's statistics are bit-equal, unfrozen ones moved.

    Raises:
        AssertionError: naming what moved and must not.
    """

    def __init__(self, network: SplitNetwork) -> None:
        super().__init__()
        self.network, self.report = network, ""
        self.frozen = {weight.path: weight for weight in network.base.non_trainable_weights}
        self.digests = {path: _digest(weight) for path, weight in self.frozen.items()}
        self.before = {name: self._values(name) for name in network.unfrozen}

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Looks once, when the optimizer has moved something: a scaled loss may pass over its first steps."""
        if not self.report and int(self.model.optimizer.iterations.numpy()) > 0:
            self.check()
            self.report = self._report()
            print(self.report, file=sys.stderr, flush=True)

    def check(self) -> None:
        """Compares what must not have moved."""
        moved = [path for path, weight in self.frozen.items() if _digest(weight) != self.digests[path]]
        if moved:
            raise AssertionError(f"{len(moved)} frozen weights moved: {shortened(moved)}")

    def _report(self) -> str:
        still = [name for name, values in self.before.items() if all(map(np.array_equal, values, self._values(name)))]
        if self.before and len(still) == len(self.before):
            raise AssertionError(f"none of the {len(still)} unfrozen layers moved in the first step: {shortened(still)}")
        statistics = sum(path.endswith(STATISTICS) for path in self.frozen)
        moved = f", {len(self.before) - len(still)} of {len(self.before)} unfrozen layers moved" if self.before else ""
        held = f" (too small a gradient for {shortened(still)})" if still else ""
        self.before = {}
        return (
            f"first step: {len(self.frozen)} frozen arrays of the backbone are bit-equal, {statistics} moving means and "
            f"variances among them{moved}{held}"
        )

    def _values(self, layer: str) -> list[np.ndarray]:
        return [weight.numpy().copy() for weight in self.network.base.get_layer(layer).trainable_weights]


def _digest(weight: Any) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(weight.numpy()).tobytes()).digest()
