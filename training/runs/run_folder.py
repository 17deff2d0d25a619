"""A run's folder: where training leaves its model and what evaluation and prediction read back.

run/
  command.toml        its flags: `headstart train --config run/command.toml --run again`
  config.json         the training's configuration, the spec and tap, class names, digests
  model.keras         images of 0..255 in, probabilities out
  history.csv, learning_curve.png, logs/
  examples.csv, dead_letters.jsonl        the dataset that it was trained on, as its store has it
  augmented.png       fine-tuning with augmentation: what the network saw
  checkpoint.npz      of a training that was interrupted: the same command goes on from it
  metrics.json        written last: without it the run is not complete
  evaluation/NAME/    what `headstart evaluate` found
  report.html         a page: of the training, or of the last evaluation; more of it by `headstart report`

A run in an object store is worked on in a copy on this machine, put there with its marker last, and checkpoints as they come.

A training works in RUN/.partial, locked. `publish` moves a finished one over whatever the run held; killed anywhere, the next
training into the run goes on from there, because the new metrics.json in .partial says what belongs to the run until the last
rename.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headstart.features import files
from headstart.features.dataset.dataset_table import DatasetTable
from headstart.features.errors import Code, UserError
from headstart.features.places import claim, mirror, place
from headstart.features.places.claim import CLAIMS
from headstart.features.runtime import load_tensorflow
from headstart.features.shown import Shown, plots
from headstart.features.spec import FeatureSpec, Tap
from headstart.training.pages.page import REPORT
from headstart.training.runs.figures import chosen_figure

if TYPE_CHECKING:
    import keras

CONFIG, MODEL, METRICS, HISTORY = "config.json", "model.keras", "metrics.json", "history.csv"
CURVE, LOGS, EVALUATION, SEEN = "learning_curve.png", "logs", "evaluation", "seen.txt"
CHECKPOINT, GRID, COMMAND = "checkpoint.npz", "augmented.png", "command.toml"
STORE, WORK_FOLDER, LOCK = "store", ".partial", ".lock"  # `headstart fit` keeps its store in the run
NOT_OF_IT = (STORE, CLAIMS)  # what lies in a run's folder and goes its own ways
OPTIONAL = (CHECKPOINT, GRID, HISTORY, CURVE, LOGS, EVALUATION, REPORT, COMMAND)  # a newer run may lack them

Stamp = tuple[int, int]


@dataclass(frozen=True, repr=False)
class Run(Shown):
    """A complete run, opened."""

    path: str
    config: dict[str, Any]
    unsafe: bool = False
    stamp: Stamp | None = None  # of its marker, when it was opened
    name: str = ""  # the path that it was opened by

    @classmethod
    def open(cls, path: str, unsafe: bool = False) -> Run:
        """Opens a complete run.

        Args:
            path: its folder.
            unsafe: run Python code that its model brings along in Lambda layers.

        Raises:
            UserError: when there is none, or when its training did not end.
        """
        folder = mirror.pull(path, METRICS, NOT_OF_IT)
        if not (stamp := _stamp(folder)):
            raise UserError(*_why_not(path, folder))
        return cls(folder, files.read_json(os.path.join(folder, CONFIG)), unsafe, stamp, path)

    def words(self) -> str:
        """What was trained on what, and what came of it by the split that chose."""
        name, chosen = chosen_figure(metrics := self.metrics)
        head = f"{self.title} head on {self.spec.backbone} at {self.tap.name}, {len(self.class_names)} classes"
        return f"run {self.home!r}: {head}; {metrics[name]:{'.4f' if name == 'loss' else '.2%'}} ({chosen})"

    def pictures(self) -> Iterable[tuple[str, bytes]]:
        """The learning curve, and augmented images, where they are there."""
        return plots(*(os.path.join(self.path, name) for name in (CURVE, GRID)))

    @property
    def home(self) -> str:
        """Where it lies, for people: not the folder of its copy."""
        return self.name or self.path

    @property
    def spec(self) -> FeatureSpec:
        """What the model's features are."""
        return FeatureSpec.from_json(self.config["spec"])

    @property
    def tap(self) -> Tap:
        """Which of them its head takes."""
        return Tap(**self.config["tap"])

    @property
    def class_names(self) -> list[str]:
        """In the order of the model's outputs."""
        return self.config["class_names"]

    @property
    def label_delimiter(self) -> str:
        """What parts an image's labels in a cell; '' where each image has one."""
        return str(self.config.get("label_delimiter", ""))

    @property
    def table(self) -> DatasetTable:
        """The dataset that it was trained on."""
        return DatasetTable.in_folder(self.path)

    @property
    def metrics(self) -> dict[str, Any]:
        """What its training came to."""
        return files.read_json(os.path.join(self.path, METRICS))

    @property
    def temperature(self) -> float:
        """What its head's logits were divided by when the training was over; 1 where they were not."""
        return float(self.metrics.get("calibration", {}).get("temperature", 1.0))

    @property
    def title(self) -> str:
        """What was trained, in a word or two."""
        return "fine-tuned" if "finetune" in self.config else self.config["train"]["head"]

    @property
    def head(self) -> str:
        """The kind of its head; '' of a fine-tuning that an older version made."""
        return str(self.config.get("head") or self.config.get("train", {}).get("head", ""))

    @property
    def data_source(self) -> str:
        """Where its splits are: the store of its features, or the images, where its backbone is its own."""
        return self.config.get("store") or self.config["input"]

    def seen(self) -> set[str]:
        """Digests, cut to 16 characters, of the contents that the run was trained on or chosen by."""
        with open(os.path.join(self.path, SEEN), encoding="ascii") as file:
            found = set(file.read().split())
        self.check_same()
        return found

    def model(self) -> keras.Model:
        """The saved model: images [B, any, any, 3] of 0..255 to float32 [B, classes].

        Raises:
            UserError: when another training took the run's place since it was opened.
        """
        load_tensorflow()
        from headstart.features.backbones.keras_file import load_model

        model = load_model(os.path.join(self.path, MODEL), self.unsafe)
        self.check_same()
        return model

    def check_same(self) -> None:
        """Raises UserError when another training took the run's place since it was opened."""
        if self.stamp and not (self.stamp == _stamp(self.path) and mirror.is_current(self.home, METRICS)):
            told = f"the run {self.home!r} was trained again while it was read: run the same command again"
            raise UserError("replaced", told)


def _stamp(path: str) -> Stamp | None:
    """What tells a run's marker from any other; None when it has none."""
    try:
        found = os.stat(os.path.join(path, METRICS))
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_ino, found.st_mtime_ns


def _why_not(path: str, folder: str) -> tuple[Code, str]:
    work = os.path.join(folder, WORK_FOLDER)
    if not os.path.isfile(os.path.join(folder, CONFIG)) and not os.path.isdir(work):
        return "missing-input", f"there is no run at {path!r}: make one with `headstart train STORE --run {path}`"
    if os.path.isfile(os.path.join(work, METRICS)):
        config = next(filter(os.path.isfile, (os.path.join(each, CONFIG) for each in (work, folder))))  # moved, or not yet
        name = "finetune" if "finetune" in files.read_json(config) else "train"
        return "incomplete", f"the run {path!r} is finished but not in its place yet: run its `headstart {name}` command again"
    return "incomplete", f"the run {path!r} is not complete: run the command that makes it again"


def check_output_folder(path: str) -> None:
    """Raises UserError when a run can't be left at `path`, because it holds something else than an older run."""
    held = place.names_in(path, "--run")
    if held - {STORE, LOCK, CLAIMS} and not held & {CONFIG, WORK_FOLDER}:
        raise UserError("output-taken", f"--run {path!r} holds something else than a run: give a new or empty folder")


@contextlib.contextmanager
def claimed(path: str) -> Iterator[None]:
    """A run's folder, locked for one training; one that had been finished is put in its place first.

    Raises:
        UserError: when the folder holds something else, or another training is writing to it.
    """
    check_output_folder(path)
    if place.is_remote(path):
        with claim.claimed(path, "training", "--run"):
            mirror.pull(path, METRICS, NOT_OF_IT)
            publish(path)
            yield
        return
    existed = os.path.isdir(path)
    try:
        message = f"another training is writing to {path!r}: wait for it, or give another --run"
        with files.locked(os.path.join(path, LOCK), message):
            publish(path)
            yield
    finally:
        if not existed:
            with contextlib.suppress(OSError):  # it holds something
                os.rmdir(path)


def begin(path: str, keep: Callable[[str], bool]) -> str:
    """A folder inside the run's to train in: the older run stays whole until `publish`.

    Args:
        path: the run's folder.
        keep: whether a checkpoint is of the training that begins; it stays then, with the logs: one that was killed or
            interrupted left it. Whoever can't go on from it and must not lose it raises.
    """
    path = mirror.here(path)
    work = os.path.join(path, WORK_FOLDER)
    older, newer = (os.path.join(folder, CHECKPOINT) for folder in (path, work))
    kept = next((file for file in (newer, older) if os.path.isfile(file) and keep(file)), None)
    os.makedirs(work, exist_ok=True)
    for name in os.listdir(work):
        if kept != newer or name not in (CHECKPOINT, LOGS):
            _remove(os.path.join(work, name))
    if kept == older:
        if os.path.isdir(os.path.join(path, LOGS)):
            shutil.copytree(os.path.join(path, LOGS), os.path.join(work, LOGS))
        with open(older, "rb") as source, files.atomic(newer) as copy:
            shutil.copyfileobj(source, copy)
    return work


def finish(work: str, metrics: dict[str, Any], without: Sequence[str] = ()) -> None:
    """Writes a run's metrics, with the names of all that belongs to it, once everything else is safely on disk.

    `without` is what a training needed and a run does not: it goes when the run is in its place, and not before.
    """
    files.sync_tree(work)
    files.write_json(os.path.join(work, METRICS), {**metrics, "files": sorted({*os.listdir(work)} - {METRICS, *without})})
    files.sync_folder(work)


def publish(path: str) -> None:
    """Puts a finished training in the place of the older run, if there is one.

    The older run's marker goes first and the new one comes last: a run that is opened is whole.
    """
    folder = mirror.here(path)
    if not os.path.isfile(os.path.join(folder, WORK_FOLDER, METRICS)):
        return
    with files.held(folder):  # an evaluation that is being put into the older run comes before, or not at all
        _publish(folder, os.path.join(folder, WORK_FOLDER))
    mirror.push(path, METRICS, NOT_OF_IT)


def _publish(path: str, work: str) -> None:
    belongs = set(files.read_json(os.path.join(work, METRICS))["files"])
    _remove(os.path.join(path, METRICS))
    files.sync_folder(path)
    for name in OPTIONAL:
        if name not in belongs:
            _remove(os.path.join(path, name))
    for name in sorted(belongs & set(os.listdir(work))):  # the others are in place already
        if os.path.isdir(os.path.join(path, name)):
            _remove(os.path.join(path, name))
        os.replace(os.path.join(work, name), os.path.join(path, name))
    for name in set(os.listdir(work)) - {METRICS}:
        _remove(os.path.join(work, name))
    files.sync_folder(path)
    os.replace(os.path.join(work, METRICS), os.path.join(path, METRICS))
    files.sync_folder(path)
    _remove(work)


def _remove(path: str) -> None:
    """Removes a file or a folder, if it is there."""
    if os.path.isdir(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.remove(path)
