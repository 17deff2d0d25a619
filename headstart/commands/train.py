"""headstart train: a feature store in, a trained head and a model of images out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from headstart.commands.runner import run_command
from headstart.features.places import place
from headstart.training.train_config import TrainConfig

if TYPE_CHECKING:
    from headstart.training.runs.run_folder import Run

LAST_IS_BEST = "the best epoch is the last one allowed: more --epochs may do better"
INTERRUPTED = "interrupted: this is the best so far; the same command goes on"


def main(argv: Sequence[str]) -> int | None:
    """The command; returns its exit status: 130 when it was interrupted and kept its best so far."""
    return run_command("headstart train", TrainConfig, argv, _train, _check_names)


def _check_names(config: TrainConfig) -> None:
    from headstart.features.store.feature_store import FeatureStore
    from headstart.training.runs import run_folder

    run_folder.check_output_folder(config.run)
    FeatureStore.open(config.store)


def _train(config: TrainConfig) -> int:
    from headstart.training.train import train

    run = train(config)
    print(describe(run))
    return 130 if run.metrics["interrupted"] else 0


def describe(run: Run) -> str:
    """What a training came to, in two or three lines."""
    from headstart.training.runs import run_folder

    metrics = run.metrics
    name = "val_accuracy" if "val_accuracy" in metrics else "accuracy"
    kind = "validation accuracy, used for selection" if name == "val_accuracy" else "training accuracy"
    hint = f"\n{LAST_IS_BEST}" if metrics["best_epoch"] == run.config["train"]["epochs"] else ""
    hint += f"\n{INTERRUPTED}" if metrics["interrupted"] else ""
    return (
        f"trained {metrics['epochs']} epochs in {metrics['seconds']:.1f} s; the best, {metrics['best_epoch']}: "
        f"{metrics[name]:.4f} ({kind})\n{place.join(run.home, run_folder.MODEL)}: agrees with the stored features on "
        f"{metrics['agreement']['images']} images to {metrics['agreement']['largest_difference']:.1g}{hint}"
    )
