"""What augmented views in the store gain: few images a class, several draws of them, the same head with and without views.

    python -m tests.benchmarks.views PHOTOS [--per_class 100] [--views 8] [--seeds 5] [--backbone NAME --weights FILE ...]

Of each seed's images a fifth decides when to stop; the score is on PHOTOS' validation (or test) split, which decides nothing.
"""

from __future__ import annotations

import argparse
import csv
import os
import tempfile

import numpy as np
from scipy import stats

from headstart.features.runtime import import_tensorflow_quietly


def main() -> None:
    """Prints a line a head and policy: accuracies, and the gain with its interval over the seeds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos")
    parser.add_argument("--per_class", type=int, default=100)
    parser.add_argument("--views", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--backbone", default="EfficientNetLite0")
    parser.add_argument("--weights", default="imagenet")
    parser.add_argument("--image_size", default="150")
    parser.add_argument("--tap", default=":avg")
    options = parser.parse_args()
    import_tensorflow_quietly()
    for policy in ("light", "standard", "strong"):
        for head in ("linear", "mlp"):
            pairs = np.array([_pair(options, policy, head, seed) for seed in range(options.seeds)])
            print(_told(policy, head, pairs), flush=True)


def _told(policy: str, head: str, pairs: np.ndarray) -> str:
    gains = pairs[:, 1] - pairs[:, 0]
    half = stats.t.ppf(0.975, len(gains) - 1) * gains.std(ddof=1) / np.sqrt(len(gains))
    without, with_views = pairs.mean(0)
    return (
        f"{policy:<9}{head:<7} without views {without:.2%}  with {with_views:.2%}  "
        f"gain {gains.mean():+.2%} [{gains.mean() - half:+.2%}, {gains.mean() + half:+.2%}]"
    )


FOLDER = tempfile.TemporaryDirectory(prefix="headstart-views-")


def _pair(options: argparse.Namespace, policy: str, head: str, seed: int) -> tuple[float, float]:
    """Accuracies of a head without and with views."""
    from headstart.training.evaluation.evaluate import evaluate
    from headstart.training.evaluation.evaluate_config import EvaluateConfig
    from headstart.training.train import train
    from headstart.training.train_config import TrainConfig

    found = []
    for views in (1, options.views):
        store = _store(options, policy if views > 1 else "light", views, seed)
        run = os.path.join(FOLDER.name, f"run-{os.path.basename(store)}-{head}")
        if not os.path.exists(run):
            train(TrainConfig(store=store, run=run, head=head, solver="adam", seed=seed))
        found.append(evaluate(EvaluateConfig(run=run, split="test")).scores.accuracy.value)
    return found[0], found[1]


def _store(options: argparse.Namespace, policy: str, views: int, seed: int) -> str:
    from headstart.pipelines.extract import extract
    from headstart.pipelines.extract_config import ExtractConfig

    path = os.path.join(FOLDER.name, f"{policy}-{views}-{seed}")
    if not os.path.exists(path):
        extract(
            ExtractConfig(
                input=_table(options, seed),
                store=path,
                backbone=options.backbone,
                weights=options.weights,
                image_size=options.image_size,
                taps=(options.tap,),
                views=views,
                augment=policy,
            )
        )
    return path


def _table(options: argparse.Namespace, seed: int) -> str:
    """A seed's images: so many of each class to train on, a fifth of them to stop by, and all that is held out."""
    from headstart.features.dataset.sources import read_source

    source = read_source(options.photos)
    held_out = "test" if any(image.split == "test" for image in source.images) else "validation"
    rows = [(image.path, image.labels[0], "test") for image in source.images if image.split == held_out]
    generator = np.random.default_rng(seed)
    for name in source.class_names:
        paths = [image.path for image in source.images if image.split == "train" and image.labels[0] == name]
        drawn = [paths[number] for number in generator.permutation(len(paths))[: options.per_class]]
        rows += [(path, name, "validation" if number % 5 == 0 else "train") for number, path in enumerate(drawn)]
    table = os.path.join(FOLDER.name, f"{seed}.csv")
    with open(table, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "label", "split"))
        writer.writerows((os.path.abspath(path), label, split) for path, label, split in rows)
    return table


if __name__ == "__main__":
    main()
