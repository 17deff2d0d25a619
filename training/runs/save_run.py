"""A finished training into its run's folder: figures, the model, the dataset that it learned from."""

from __future__ import annotations

import csv
import dataclasses
import io
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from headstart.features import files
from headstart.features.backbones.keras_file import save_model
from headstart.features.config_file import config_toml
from headstart.features.dataset.inputs import absolute_input
from headstart.features.places import place
from headstart.training.plots.learning_curve import learning_curve
from headstart.training.runs import run_folder

if TYPE_CHECKING:
    import keras

    from headstart.features.dataset.dataset_table import DatasetTable
    from headstart.training.runs.run_folder import Run

PATHS = ("store", "from_store", "init_from", "label_names", "data_dir")  # flags of trainings


def save_history(run: Run, history: dict[str, list[float]], best_epoch: int) -> None:
    """Every epoch's figures as a table and as a plot, the best one marked; epoch 0 is before the first."""
    files.write_bytes(os.path.join(run.path, run_folder.HISTORY), _csv(history))
    title = f"{run.spec.backbone} {run.tap.name}, {run.title}"
    learning_curve(history, os.path.join(run.path, run_folder.CURVE), title, best_epoch or None)


def save_command(run: Run, command: str, config: Any) -> None:
    """The command that makes the run, as a file for its `--config`; paths are absolute, and where to leave it is not in it."""
    values = dataclasses.asdict(config)
    del values["run"]
    values |= {name: place.absolute(values[name]) for name in PATHS if values.get(name)}
    if values.get("input"):
        values["input"] = absolute_input(values["input"])
    files.write_bytes(os.path.join(run.path, run_folder.COMMAND), config_toml(command, values))


def save_classifier(run: Run, classifier: keras.Model) -> None:
    """`model.keras`: images of 0..255 in, probabilities out."""
    save_model(classifier, os.path.join(run.path, run_folder.MODEL))


def save_dataset(run: Run, table: DatasetTable, splits: Sequence[str]) -> None:
    """A copy of the dataset's table, and the contents that the run was trained on or chosen by."""
    table.copy_to(run.path)
    contents = {example.content for split in set(splits) for example in table.examples(split)}
    files.write_bytes(
        os.path.join(run.path, run_folder.SEEN), "".join(f"{content}\n" for content in sorted(contents)).encode()
    )


def _csv(history: dict[str, list[float]]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("epoch", *history))
    writer.writerows((epoch, *row) for epoch, row in enumerate(zip(*history.values()), 1))
    return text.getvalue().encode()
