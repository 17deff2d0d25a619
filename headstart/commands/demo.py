"""headstart demo: the whole way on 1,797 scanned digits that ship with scikit-learn. Downloads nothing.

Digits are far from the photographs that the backbone learned from, so its last layer does only fairly, and one from its
middle, kept as a grid so that some of the "where" stays, does well. All stages are read in one pass, and a probe finds out.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headstart.commands import evaluate as evaluate_command
from headstart.commands.outcome import Outcome
from headstart.commands.probe import describe as describe_probes
from headstart.commands.runner import run_command
from headstart.features.config import check_fields, flag
from headstart.features.runtime import limit_intra_op_threads, quietly

if TYPE_CHECKING:
    from headstart.training.evaluation.evaluate import Evaluation

IMAGE_SIZE = 128  # of 64, 96, 128 and 160 the one with the best probe of all stages, in the first half
VALIDATION_EVERY = 3


@dataclass(frozen=True)
class DemoConfig:
    """Trains on the first half of scikit-learn's scanned digits and tests on the second."""

    folder: str = flag("demo", "where to leave images, features, models and plots")

    def __post_init__(self) -> None:
        check_fields(self)


def write_digits(folder: str) -> int:
    """Writes the digits as an image folder, SPLIT/CLASS/NUMBER.png, 8x8 grey; returns how many.

    The first half, one in three of it for validation, is for training, the second for testing, as in scikit-learn's own
    example (https://scikit-learn.org/stable/auto_examples/classification/plot_digits_classification.html).
    """
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    count = len(digits.target)
    for number, (pixels, label) in enumerate(zip(digits.images, digits.target)):
        training = "validation" if number % VALIDATION_EVERY == 0 else "train"
        split = training if number < count // 2 else "test"
        path = os.path.join(folder, split, str(label), f"{number:04}.png")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        Image.fromarray(np.round(pixels * 255 / 16).astype(np.uint8)).save(path)  # 0..16 to 0..255
    return count


@dataclass(frozen=True)
class DemoResult:
    """What the demo came to: the probes' table as text, the tap chosen, and how it did on the second half."""

    probes: str
    tap: str
    evaluation: Evaluation


@quietly
def demo(config: DemoConfig) -> DemoResult:
    """Reads every stage in one pass, lets a probe choose one inside the first half, and opens the second half once.

    The first half is few images, so the head is fitted to all of it once the tap is chosen.
    """
    from headstart.pipelines.extract import extract
    from headstart.pipelines.extract_config import ExtractConfig
    from headstart.training.evaluation.evaluate import evaluate
    from headstart.training.evaluation.evaluate_config import EvaluateConfig
    from headstart.training.probing.probe import probe
    from headstart.training.probing.probe_config import ProbeConfig
    from headstart.training.train import train
    from headstart.training.train_config import TrainConfig

    images, store, run = (os.path.join(config.folder, name) for name in ("digits", "store", "run"))
    write_digits(images)
    extract(ExtractConfig(input=images, store=store, image_size=str(IMAGE_SIZE), taps=("auto",)))
    asked = ProbeConfig(stores=(store,), run=os.path.join(config.folder, "probe"))
    result = probe(asked)
    tap = result.probes[0].tap
    train(TrainConfig(store=store, run=run, tap=tap, refit=True))
    return DemoResult(describe_probes(asked, result), tap, evaluate(EvaluateConfig(run=run)))


def describe(config: DemoConfig, result: DemoResult) -> str:
    """The demo's result, and where to look."""
    from headstart.training.scoring.scores import Scores

    scores = result.evaluation.scores
    assert isinstance(scores, Scores), "each digit has one label"
    accuracy = scores.accuracy
    return "\n".join(
        [
            result.probes,
            "",
            f"A linear head on {result.tap}, chosen and trained on the first half of the digits, on the second half: "
            f"accuracy {accuracy.value:.3f} [{accuracy.low:.3f}, {accuracy.high:.3f}].",
            f"In {config.folder}/: probe/probe.png, run/model.keras, run/evaluation/test/.",
        ]
    )


def main(argv: Sequence[str]) -> int | None:
    """The command; returns its exit status."""
    return run_command("headstart demo", DemoConfig, argv, _demo, lambda config: limit_intra_op_threads())


def _demo(config: DemoConfig) -> Outcome:
    result = demo(config)
    page = evaluate_command.outcome(os.path.join(config.folder, "run"), result.evaluation).page
    return Outcome(describe(config, result), {"tap": result.tap, "evaluation": result.evaluation}, page=page)
