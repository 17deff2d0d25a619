"""Section: the commands that make this again."""

from __future__ import annotations

import dataclasses
import shlex
from typing import Any

from markupsafe import Markup

from headstart.features.command_line import as_flags
from headstart.training.evaluation.evaluate_config import EvaluateConfig
from headstart.training.finetuning.finetune_config import FinetuneConfig
from headstart.training.reporting.elements import html, note, section
from headstart.training.reporting.evaluated import Evaluated
from headstart.training.train_config import TrainConfig


def repeat(evaluated: Evaluated) -> Markup:
    """Training, evaluation and this page, each with all that was not left at its default."""
    run, metrics = evaluated.run, evaluated.metrics
    name, kind = ("finetune", FinetuneConfig) if "finetune" in run.config else ("train", TrainConfig)
    given = EvaluateConfig(
        run.home, metrics["input"], metrics["split"] if metrics["split"] != "all" else "", tuple(metrics["by"])
    )
    report = ["headstart", "report", run.home, *(["--split", evaluated.name] if evaluated.name != "test" else [])]
    lines = [
        _command(name, kind, run.config[name]),
        _command("evaluate", EvaluateConfig, dataclasses.asdict(given)),
        shlex.join(report),
    ]
    parts = [html('<pre tabindex="0"><code>{}</code></pre>', Markup("\n").join(lines))]
    if run.config[name]["head"] == "custom":
        parts.append(note("The head was handed to `train()` from Python, and no command can repeat that."))
    parts.append(
        note("The same images, spec and seed give the same run: the dataset's digest is {}.", metrics["dataset_digest"])
    )
    return section("repeat", "To do it again", parts)


def _command(name: str, kind: type, given: dict[str, Any]) -> str:
    return shlex.join(["headstart", name, *as_flags(kind, given)])
