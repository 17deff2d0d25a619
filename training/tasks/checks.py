"""What commands refuse where images may have several labels: a configuration in, one line out. Loads nothing heavy."""

from __future__ import annotations

from typing import Any

from headstart.features.dataset.labels import refuse_several
from headstart.features.errors import UserError


def check_training(config: Any, label_delimiter: str) -> None:
    """Looks for what makes no sense with several labels an image.

    Args:
        config: what `headstart train` or `headstart finetune` takes.
        label_delimiter: of the dataset.

    Raises:
        UserError: for a flag that is for one label alone.
    """
    if not label_delimiter:
        return
    if getattr(config, "refit", False):
        refuse_several(label_delimiter, "--refit", "leave it out")
    if config.operating_point:
        refuse_several(label_delimiter, "--operating_point", "each class gets a threshold by validation anyway, leave it out")
    if config.class_weight != "none":
        refuse_several(label_delimiter, f"--class_weight {config.class_weight}", "leave it out")
    if config.monitor.endswith("accuracy"):
        refuse_several(label_delimiter, f"--monitor {config.monitor}", "take val_loss")


def delimiter_for(own: str, asked: str) -> str:
    """What parts labels in other images for a run: what was asked for, or else the same as where it learned.

    Raises:
        UserError: when something was asked for, and the run knows one label an image.
    """
    if asked and not own:
        raise UserError("bad-flag", "--label_delimiter: the run was trained on one label an image, leave it out")
    return asked or own


def check_evaluation(config: Any, label_delimiter: str) -> None:
    """Looks for what a run can't be evaluated by.

    Args:
        config: what `headstart evaluate` takes.
        label_delimiter: of the run.

    Raises:
        UserError: for a flag that is for one label an image, or for several.
    """
    delimiter_for(label_delimiter, config.label_delimiter)
    _check_by(config, label_delimiter)


def check_prediction(config: Any, label_delimiter: str) -> None:
    """Looks for what a run on several labels an image can't be asked.

    Args:
        config: what `headstart predict` takes.
        label_delimiter: of the run.

    Raises:
        UserError: for a flag that is for one label alone.
    """
    if config.top_k != 1:
        refuse_several(label_delimiter, "--top_k", "the probabilities of all classes are there anyway, leave it out")


def check_comparison(config: Any, first: str, second: str) -> bool:
    """Looks for what two runs can't be compared by; whether both are on several labels an image.

    Args:
        config: what `headstart compare` takes.
        first, second: the runs' delimiters.

    Raises:
        UserError: for two runs of which one alone is on several labels, or a flag that is for the other kind.
    """
    if bool(first) != bool(second):
        refuse_several(first or second, "one of the two runs", "compare runs of one kind")
    _check_by(config, first)
    config.metric_of(bool(first))
    return bool(first)


def _check_by(config: Any, label_delimiter: str) -> None:
    if "class" in config.by:
        refuse_several(label_delimiter, "--by class", "each class has figures of its own anyway, leave it out")
