"""Section: the commands that make this again."""

from __future__ import annotations

from markupsafe import Markup

from headstart.training.evaluation.evaluate_config import EvaluateConfig
from headstart.training.finetuning.finetune_config import FinetuneConfig
from headstart.training.pages.again import again, command
from headstart.training.pages.elements import note
from headstart.training.predicting.predictions import Predictions
from headstart.training.reporting.report_config import ReportConfig
from headstart.training.runs.run_folder import Run
from headstart.training.train_config import TrainConfig


def repeat(run: Run, evaluated: Predictions | None) -> Markup:
    """Training, and evaluation and this page where there is one, each with all that was not left at its default."""
    name, kind = ("finetune", FinetuneConfig) if "finetune" in run.config else ("train", TrainConfig)
    lines = [command(name, kind, run.config[name])]
    if evaluated:
        metrics = evaluated.metrics
        split = metrics["split"] if metrics["split"] != "all" else ""
        given = {"run": run.home, "input": metrics["input"], "split": split, "by": tuple(metrics["by"])}
        lines += [command("evaluate", EvaluateConfig, given), report_command(run, evaluated.name)]
    notes = []
    if run.config[name]["head"] == "custom":
        notes.append(note("The head was handed to `train()` from Python, and no command can repeat that."))
    notes.append(
        note("The same images, spec and seed give the same run: the dataset's digest is {}.", run.config["dataset_digest"])
    )
    return again(lines, notes)


def report_command(run: Run, name: str) -> str:
    """What makes the whole page of an evaluation."""
    return command("report", ReportConfig, {"run": run.home, "split": name})
