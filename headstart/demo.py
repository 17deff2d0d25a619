"""headstart demo: the whole way on 1,797 scanned digits that ship with scikit-learn. Downloads nothing.

Digits are far from the photographs that the backbone learned from, so its last layer does only fairly, and one from its
middle, kept as a grid so that some of the "where" stays, does well. Both are taken in one pass over the images.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from features import command
from features.command import flag

LAST_TAP, MIDDLE_TAP = "top_activation:avg", "block5c_add:grid3"
IMAGE_SIZE = 96
VALIDATION_EVERY = 5


@dataclass(frozen=True)
class DemoConfig:
    """Trains on the first half of scikit-learn's scanned digits and tests on the second."""

    folder: str = flag("demo", "where to leave images, features, models and plots")


def write_digits(folder: str) -> int:
    """Writes the digits as an image folder, SPLIT/CLASS/NUMBER.png, 8x8 grey; returns how many.

    The first half, one in five of it for validation, is for training, the second for testing, as in scikit-learn's own
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


def demo(config: DemoConfig) -> dict[str, dict[str, Any]]:
    """Extracts two taps in one pass, trains and evaluates a linear probe on each; tap name to its figures."""
    from pipelines.extract import extract
    from pipelines.extract_config import ExtractConfig
    from training.evaluate import EvaluateConfig, evaluate
    from training.train_head import TrainConfig, train

    images, store = os.path.join(config.folder, "digits"), os.path.join(config.folder, "store")
    write_digits(images)
    extract(ExtractConfig(input=images, store=store, image_size=str(IMAGE_SIZE), taps=(LAST_TAP, MIDDLE_TAP)))
    figures = {}
    for name, tap in (("last", LAST_TAP), ("middle", MIDDLE_TAP)):
        run = os.path.join(config.folder, f"run-{name}")
        train(TrainConfig(store=store, run=run, tap=tap))
        figures[tap] = {**evaluate(EvaluateConfig(run=run)), "run": run}
    return figures


def describe(figures: dict[str, dict[str, Any]]) -> str:
    """The demo's result: each tap's accuracy and where to look."""
    lines = ["A linear probe on the second half of the digits, trained on the first:"]
    for tap, metrics in figures.items():
        accuracy = metrics["accuracy"]
        interval = f"[{accuracy['low']:.3f}, {accuracy['high']:.3f}]"
        lines.append(f"  {tap:<20} accuracy {accuracy['value']:.3f} {interval}   {metrics['run']}/")
    lines.append("In each: model.keras, learning_curve.png, evaluation/test/confusion_matrix.png and predictions.csv.")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    prog = "headstart demo"

    def body() -> None:
        config, _, verbose = command.parse(DemoConfig, prog, sys.argv[1:] if argv is None else argv)
        command.one_thread_a_stream()
        command.load_quietly(verbose)
        print(describe(demo(config)))

    return command.run(prog, body)


if __name__ == "__main__":
    sys.exit(main())
