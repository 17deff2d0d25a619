"""headstart train: a feature store in, a trained head and a model of images out."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from headstart.commands.outcome import Outcome
from headstart.commands.runner import run_command
from headstart.features.formatting import counted, printable
from headstart.features.places import place
from headstart.training.scoring.goals import check_dataset
from headstart.training.tasks.checks import check_training
from headstart.training.train_config import TrainConfig

if TYPE_CHECKING:
    from headstart.training.runs.run_folder import Run

LAST_IS_BEST = "the best epoch is the last one allowed: more --epochs may do better"
INTERRUPTED = "interrupted: this is the best so far; the same command ends it"


def main(argv: Sequence[str]) -> int | None:
    """The command; returns its exit status: 130 when it was interrupted and kept its best so far."""
    return run_command("headstart train", TrainConfig, argv, _train, _check_names)


def _check_names(config: TrainConfig) -> None:
    from headstart.features.store.feature_store import FeatureStore
    from headstart.training.runs import run_folder

    run_folder.check_output_folder(config.run)
    store = FeatureStore.open(config.store)
    check_training(config, store.label_delimiter)
    check_dataset(config.operating_point, config.positive_class, store.class_names, store.splits)


def _train(config: TrainConfig) -> Outcome:
    from headstart.training.train import train

    run = train(config)
    return outcome(run, describe(run))


def outcome(run: Run, text: str) -> Outcome:
    """A training's, with a page; 130 when it was interrupted, and may go on."""
    from headstart.training.reporting.report import leave_training_report

    interrupted = run.metrics["interrupted"]
    page = None if interrupted else functools.partial(leave_training_report, run)
    return Outcome(text, {"run": run.home, **run.metrics}, 130 if interrupted else 0, page)


def describe(run: Run) -> str:
    """What a training came to, in two or three lines."""
    from headstart.training.runs.figures import chosen_figure

    metrics = run.metrics
    if "refit" in metrics:
        return _describe_refit(run, metrics)
    name, kind = chosen_figure(metrics)
    decided = "".join(f"\n{line}" for line in decision_lines(metrics))
    hint = f"\n{LAST_IS_BEST}" if metrics["best_epoch"] == run.config["train"]["epochs"] else ""
    hint += f"\n{INTERRUPTED}" if metrics["interrupted"] else ""
    return (
        f"trained {counted(metrics['epochs'], 'epoch')} in {metrics['seconds']:.1f} s; the best, {metrics['best_epoch']}: "
        f"{metrics[name]:.4f} ({kind})\n{agreement_line(run, 'the stored features')}{decided}{hint}"
    )


def _describe_refit(run: Run, metrics: dict[str, Any]) -> str:
    """The same of a head at its optimum."""
    refit, accuracy = metrics["refit"], metrics.get("cross_validated_accuracy")
    by = "" if accuracy is None else f"; {accuracy:.4f} (cross-validated accuracy, used to choose the regularisation)"
    lines = [
        f"fitted to {refit['examples']:,} images of {' and '.join(refit['splits'])} in {metrics['seconds']:.1f} s{by}",
        agreement_line(run, "the stored features"),
        *decision_lines(metrics),
    ]
    return "\n".join(lines)


def agreement_line(run: Run, others: str) -> str:
    """How near the saved model's probabilities are to those of what was trained, by the last check of a training."""
    from headstart.training.runs import run_folder

    found = run.metrics["agreement"]
    model, near = place.join(run.home, run_folder.MODEL), f"{found['images']} images to {found['largest_difference']:.1g}"
    if "compute_difference" not in found:
        return f"{model}: agrees with {others} on {near}"
    moved = f"stored ones, in {run.spec.compute_dtype}, change a probability by {found['compute_difference']:.2g} at most"
    return f"{model}: agrees with features in float32 on {near}; {moved}"


def decision_lines(metrics: dict[str, Any]) -> list[str]:
    """What was decided by the validation split, or out of fold, when a training was over."""
    from headstart.training.runs.figures import deciding_images

    found, lines = metrics["calibration"], []
    if "before" in found:
        before, after = found["before"], found["after"]
        lines.append(
            f"calibrated by {found['examples']:,} {deciding_images(found)}: temperature {found['temperature']:.3g}, log loss "
            f"{before['log_loss']:.4f} -> {after['log_loss']:.4f}"
        )
    else:
        lines.append(f"not calibrated: {found['why_not']}")
    lines += _label_threshold_lines(metrics.get("thresholds", []), bool(found.get("out_of_fold")))
    point = metrics.get("operating_point")
    if point and point["threshold"] is None:
        best = "undefined" if point["best"] is None else f"{100 * point['best']:.1f}%"
        lines.append(
            f"warning: no threshold reaches {point['goal']} for {point['positive_class']!r} on the validation split (the best "
            f"there: {best}): none is kept"
        )
    elif point:
        lines.append(f"{threshold_line(point, 'validation')} on validation")
    return lines


def _label_threshold_lines(thresholds: Sequence[dict[str, Any]], out_of_fold: bool) -> list[str]:
    """What was chosen for each of several labels."""
    if not thresholds:
        return []
    chosen = [each["threshold"] for each in thresholds if each["f1"] is not None]
    without = [each["name"] for each in thresholds if each["f1"] is None]
    lines, (where, image) = [], ("out of fold", "image out of fold") if out_of_fold else ("on validation", "validation image")
    if chosen:
        lines.append(
            f"thresholds of {len(chosen):,} classes, by the largest F1 {where}: {min(chosen):.3g} to {max(chosen):.3g}"
        )
    if without:
        such = printable(without[0]) + (", ..." if len(without) > 1 else "")
        lines.append(f"warning: no {image} has {len(without):,} of the classes ({such}): their thresholds stay at 0.5")
    return lines


def threshold_line(point: dict[str, Any], where: str) -> str:
    """A threshold, and what it achieves."""
    shares = [
        f"{name} undefined"
        if share["value"] is None
        else f"{name} {100 * share['value']:.1f}% [{100 * share['low']:.1f}, {100 * share['high']:.1f}]"
        for name, share in sorted(point[where].items(), key=lambda each: point["goal"].index(each[0]))
    ]
    chosen = (
        f"{point['goal']} of {point['positive_class']!r}: probability {point['threshold']:.4g} or more, chosen by validation"
    )
    return f"{chosen}; {', '.join(shares)}"
