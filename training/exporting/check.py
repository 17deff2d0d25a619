"""An export in, how well it agrees with model.keras out: its own runtime answers the same images, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

import headstart
from headstart.features import files
from headstart.features.errors import UserError
from headstart.training.exporting import answer
from headstart.training.exporting.formats import Tolerance
from headstart.training.exporting.kinds import Kind


@dataclass(frozen=True)
class Agreement:
    """How an export's answers compare with model.keras's: over so many images, those with the same answer (a class, or several
    labels), and by how much an image's probabilities differ at most, in the largest case and in the mean."""

    answer: str
    images: int
    same: int
    largest_difference: float
    mean_difference: float

    def __str__(self) -> str:
        return (
            f"{self.same} of {self.images} images get the same {self.answer}, probabilities differ by "
            f"{self.largest_difference:.2g} at most, {self.mean_difference:.2g} in the mean"
        )


def agreement(kind: Kind, expected: np.ndarray, received: np.ndarray) -> Agreement:
    """Compares probabilities, float32 [images, classes] each, and what they decide."""
    difference = np.abs(expected - received).max(axis=1)
    same = int(kind.same(expected, received).sum())
    return Agreement(kind.answer, len(expected), same, float(difference.max()), float(difference.mean()))


def check(
    what: str, kind: Kind, names: Sequence[str], expected: np.ndarray, received: np.ndarray, tolerance: Tolerance
) -> Agreement:
    """Holds an export's answers against model.keras's.

    Args:
        what: the export, for the message.
        kind: what the probabilities decide.
        names: of the images.
        expected, received: probabilities of model.keras and of the export, float32 [images, classes].
        tolerance: what may differ.

    Raises:
        UserError: when they differ by more, or what is decided does where model.keras's margin is larger than that.
    """
    if expected.shape != received.shape:
        raise UserError("model-disagrees", f"{what} gives answers of shape {received.shape}, expected {expected.shape}")
    found = agreement(kind, expected, received)
    wrong = kind.clear(expected, received, min(tolerance.largest, tolerance.mean))
    within = found.largest_difference <= tolerance.largest and found.mean_difference <= tolerance.mean  # NaN is not
    if not within or wrong.mean() > 1 - tolerance.answers:
        worst = int(wrong.argmax()) if wrong.any() else int(np.nan_to_num(np.abs(expected - received).max(1), nan=2).argmax())
        raise UserError(
            "model-disagrees",
            f"{what} disagrees with model.keras ({found}; the worst is {names[worst]!r}): expected at most "
            f"{tolerance.largest:.2g}, {tolerance.mean:.2g} in the mean, and {tolerance.answers:.0%} of images with the same "
            f"{kind.answer}",
        )
    return found


def answers_of(runtime: str, folder: str, inputs: Iterable[np.ndarray]) -> np.ndarray:
    """What an export answers, float32 [images, classes], loaded by its runtime in a fresh process, on the CPU.

    Args:
        runtime: the name of one of `answer.RUNTIMES`.
        folder: the export.
        inputs: images [h, w, 3], or encoded ones as uint8 [bytes]; one is held at a time.

    Raises:
        UserError: when it does not load or does not answer, with the last that the process said.
    """
    with files.scratch_folder() as scratch:
        images, answers = os.path.join(scratch, "images"), os.path.join(scratch, "answers.npy")
        os.mkdir(images)
        for number, image in enumerate(inputs):
            np.save(os.path.join(images, f"{number:05}.npy"), image)
        root = os.path.dirname(os.path.dirname(os.path.abspath(headstart.__file__)))
        path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "PYTHONSAFEPATH": "1", "PYTHONPATH": path}
        command = [sys.executable, answer.__file__, runtime, folder, images, answers]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, errors="replace")
        if done.returncode:
            said = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
            raise UserError("model-disagrees", f"the export does not run in its own runtime ({said[:500]})")
        return np.asarray(np.load(answers))
