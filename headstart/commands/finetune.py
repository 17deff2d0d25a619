"""headstart finetune: a run and its images, or stored feature maps, in; a better run out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from headstart.commands.outcome import Outcome
from headstart.commands.runner import run_command
from headstart.commands.train import INTERRUPTED, LAST_IS_BEST, agreement_line, decision_lines, outcome
from headstart.features.dataset.inputs import check_exists
from headstart.features.formatting import counted
from headstart.training.finetuning.finetune_config import FinetuneConfig
from headstart.training.scoring.goals import check_dataset
from headstart.training.tasks.checks import check_training, delimiter_for

if TYPE_CHECKING:
    from headstart.training.runs.run_folder import Run


def main(argv: Sequence[str]) -> int | None:
    """The command; returns its exit status: 130 when it was interrupted and kept its best so far."""
    return run_command("headstart finetune", FinetuneConfig, argv, _finetune, _check_names)


def _check_names(config: FinetuneConfig) -> None:
    from headstart.features.store.feature_store import FeatureStore
    from headstart.training.runs import run_folder

    run_folder.check_output_folder(config.run)
    if config.input:
        check_exists(config.input)
    if config.from_store:
        store = FeatureStore.open(config.from_store)
        check_training(config, store.label_delimiter)
        check_dataset(config.operating_point, config.positive_class, store.class_names, store.splits)
    if config.init_from:
        run = run_folder.Run.open(config.init_from)
        check_training(config, delimiter_for(run.label_delimiter, config.label_delimiter))
        check_dataset(config.operating_point, config.positive_class, run.class_names, run.table.splits)


def _finetune(config: FinetuneConfig) -> Outcome:
    from headstart.training.finetuning.finetune import finetune

    run = finetune(config)
    return outcome(run, describe(run))


def describe(run: Run) -> str:
    """What a fine-tuning came to, in a few lines."""
    from headstart.training.runs.figures import chosen_figure

    metrics = run.metrics
    name, kind = chosen_figure(metrics)
    before = metrics["before"].get(name)
    began = f", {before:.4f} before" if before is not None else ""
    lines = [
        f"trained {counted(metrics['epochs'], 'epoch')} in {metrics['seconds']:.1f} s; the best, {metrics['best_epoch']}: "
        f"{metrics[name]:.4f}{began} ({kind})"
    ]
    if metrics["best_epoch"] == 0:
        lines.append(f"no epoch was better by {metrics['monitor']} than what it began with: that is kept")
    if metrics["best_epoch"] == run.config["finetune"]["epochs"]:
        lines.append(LAST_IS_BEST)
    lines += [agreement_line(run, "what was trained"), *decision_lines(metrics)]
    if metrics["interrupted"]:
        lines.append(INTERRUPTED)
    return "\n".join(lines)
