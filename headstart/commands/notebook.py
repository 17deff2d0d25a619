"""headstart notebook: the usual notebook's experiment on few images, its two techniques side by side, on held-out images.

    1. stored feature maps, a dense classifier trained on them        extract --tap :none, train --head mlp
    1v the same with augmented views of each image in the store       extract --views
    2. the frozen base with augmentation, end to end                  finetune, from 1's head
    2f the top of the base trained with it, at a low rate             finetune --unfreeze_after, from 2

A part of the training split decides when to stop; the score is on images that nothing was trained on or chosen by.
Source: Chollet, Deep Learning with Python, chapter "Using convnets with small datasets".
"""

from __future__ import annotations

import csv
import io
import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headstart.commands.outcome import Outcome
from headstart.commands.runner import run_command
from headstart.features import files
from headstart.features.config import check_fields, flag, positional
from headstart.features.errors import UserError
from headstart.features.runtime import quietly
from headstart.features.spec import parse_image_size

if TYPE_CHECKING:
    from headstart.training.scoring.scores import Interval

STOPPING = 0.2  # of the training split
HELD_OUT = "test"
TECHNIQUES = {"1": "stored maps", "1v": "stored views", "2": "frozen, augmented", "2f": "fine-tuned"}


@dataclass(frozen=True, kw_only=True)
class NotebookConfig:
    """Compares the notebook's two techniques, and headstart's variants of them, on a folder of images."""

    input: str = positional("a folder as train/CLASS/... and validation/CLASS/... (or test/CLASS/...)", metavar="INPUT")
    folder: str = flag("notebook", "where to leave stores, runs and the table")
    backbone: str = flag("EfficientNetLite0", "as in headstart extract", metavar="NAME|PATH")
    weights: str = flag("imagenet", "as in headstart extract")
    image_size: str | int | tuple[int, int] = flag("150", "pixels a side", metavar="N|H,W")
    views: int = flag(6, "views of each training image in 1v", metavar="K", least=2)
    augment: str = flag("standard", "of 1v, 2 and 2f", choices=("light", "standard", "strong"))
    epochs: int = flag(8, "of 2 and of 2f, at most", least=1)
    seeds: int = flag(3, "how often each head is trained, from other first weights", metavar="N", least=1)

    def __post_init__(self) -> None:
        check_fields(self)
        parse_image_size(self.image_size)


@dataclass(frozen=True)
class Row:
    """A technique's scores on the held-out images: one accuracy a seed, the first one's interval, seconds of the first."""

    technique: str
    accuracies: tuple[float, ...]
    low: float
    high: float
    seconds: float

    @property
    def accuracy(self) -> float:
        """The mean over the seeds."""
        return statistics.fmean(self.accuracies)


@quietly
def notebook(config: NotebookConfig) -> list[Row]:
    """Runs the experiment, and leaves its table in the folder as notebook.csv.

    Raises:
        UserError: for an input without the splits that it needs, or whatever the commands may raise.
    """
    from headstart.pipelines.extract import extract
    from headstart.pipelines.extract_config import ExtractConfig

    os.makedirs(config.folder, exist_ok=True)
    table = os.path.join(config.folder, "images.csv")
    files.write_bytes(table, _table(config))
    stores, seconds = {}, {}
    for name, views in (("maps", 1), ("views", config.views)):
        started = time.monotonic()
        stores[name] = extract(
            ExtractConfig(
                input=table,
                store=os.path.join(config.folder, name),
                backbone=config.backbone,
                weights=config.weights,
                image_size=config.image_size,
                taps=(":none",),
                views=views,
                augment=config.augment,
            )
        )
        seconds[name] = time.monotonic() - started
    boundary = _below_the_last_stage(stores["maps"])
    results: dict[str, list[Any]] = {}
    for seed in range(config.seeds):
        for technique, figures in _one_seed(config, table, boundary, seed, seconds):
            results.setdefault(technique, []).append(figures)
    rows = [_row(technique, found) for technique, found in results.items()]
    files.write_bytes(os.path.join(config.folder, "notebook.csv"), _csv(rows))
    return rows


def _one_seed(config: NotebookConfig, table: str, boundary: str, seed: int, seconds: dict[str, float]) -> list[Any]:
    """(technique, (figures, seconds from images to the model)) of each."""
    from headstart.training.finetuning.finetune import finetune
    from headstart.training.finetuning.finetune_config import FinetuneConfig
    from headstart.training.train import train
    from headstart.training.train_config import TrainConfig

    def place(name: str) -> str:
        return os.path.join(config.folder, f"{name}-{seed}")

    def fine(begin: str, run: str, **more: Any) -> None:
        finetune(
            FinetuneConfig(
                input=table,
                init_from=place(begin),
                run=place(run),
                augment=config.augment,
                epochs=config.epochs,
                seed=seed,
                **more,
            )
        )

    def head(store: str, run: str) -> None:
        train(TrainConfig(store=os.path.join(config.folder, store), run=place(run), head="mlp", seed=seed))

    def timed(work: Callable[[], None], before: float) -> float:
        started = time.monotonic()
        work()
        return before + time.monotonic() - started

    took = {"1": timed(lambda: head("maps", "1"), seconds["maps"]), "1v": timed(lambda: head("views", "1v"), seconds["views"])}
    took["2"] = timed(lambda: fine("1", "2"), took["1"])
    took["2f"] = timed(lambda: fine("2", "2f", unfreeze_after=boundary), took["2"])
    return [(technique, (_score(place(technique)), took[technique])) for technique in TECHNIQUES]


def _score(run: str) -> Interval:
    from headstart.training.evaluation.evaluate import evaluate
    from headstart.training.evaluation.evaluate_config import EvaluateConfig
    from headstart.training.scoring.scores import Scores

    scores = evaluate(EvaluateConfig(run=run, split=HELD_OUT)).scores
    assert isinstance(scores, Scores), "each image has one label"
    return scores.accuracy


def _below_the_last_stage(store: Any) -> str:
    """The layer above which 2f trains: the end of the last stage but one."""
    from headstart.features.backbones.feature_maps import feature_maps, stage_ends

    ends = stage_ends(feature_maps(store.base(), store.spec.image_size), store.spec.image_size)
    if len(ends) < 2:
        raise UserError("bad-model", f"{store.spec.backbone} has one stage only: there is no top to fine-tune")
    return ends[-2].layer


def _table(config: NotebookConfig) -> bytes:
    """The images as a table: most of train to train on, the rest of it to stop by, the other split held out."""
    from headstart.features.dataset.dividing import divide
    from headstart.features.dataset.examples import Example
    from headstart.features.dataset.sources import read_source

    source = read_source(config.input)
    splits = {image.split for image in source.images}
    held_out = "test" if "test" in splits else "validation"
    if not {"train", held_out} <= splits:
        raise UserError(
            "missing-split",
            f"{config.input!r} has the splits {', '.join(sorted(splits)) or '(none)'}; expected train and validation",
        )
    training = [image for image in source.images if image.split == "train"]
    digests = [files.sha256_file(image.path) for image in training]
    examples = [Example(image.path, digest, image.labels, "") for image, digest in zip(training, digests)]
    divided = divide(examples, {"train": 1 - STOPPING, "validation": STOPPING}, seed=0)
    rows = [(example.key, example.labels[0], example.split) for example in divided]
    rows += [(image.path, image.labels[0], HELD_OUT) for image in source.images if image.split == held_out]
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(("path", "label", "split"))
    writer.writerows((os.path.relpath(path, config.folder), label, split) for path, label, split in rows)
    return text.getvalue().encode("utf-8", "surrogateescape")


def _row(technique: str, found: Sequence[Any]) -> Row:
    (first, seconds), *_ = found
    return Row(technique, tuple(accuracy.value for accuracy, _ in found), first.low, first.high, seconds)


def _csv(rows: Sequence[Row]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    seeds = [f"seed_{seed}" for seed in range(len(rows[0].accuracies))]
    writer.writerow(("technique", "accuracy", "low", "high", "seconds", *seeds))
    writer.writerows((row.technique, row.accuracy, row.low, row.high, round(row.seconds, 1), *row.accuracies) for row in rows)
    return text.getvalue().encode()


def describe(config: NotebookConfig, rows: Sequence[Row]) -> str:
    """The table for a terminal."""
    height, width = parse_image_size(config.image_size)
    lines = [
        f"{config.backbone} at {height}x{width}, {len(rows[0].accuracies)} seeds: accuracy on held-out images, and seconds",
        "from images to a model, what it begins with included",
        f"  {'technique':<22}{'mean':>7}  {'95% of seed 0':<16}{'seeds':<18}{'seconds':>8}",
    ]
    for row in rows:
        name = f"{row.technique} {TECHNIQUES[row.technique]}"
        interval = f"[{row.low:.1%}, {row.high:.1%}]"
        spread = f"{min(row.accuracies):.1%} to {max(row.accuracies):.1%}"
        lines.append(f"  {name:<22}{row.accuracy:>7.1%}  {interval:<16}{spread:<18}{row.seconds:>8.0f}")
    return "\n".join([*lines, f"{config.folder}/: notebook.csv, the stores and the runs"])


def main(argv: Sequence[str]) -> int | None:
    """The command; returns its exit status."""
    return run_command("headstart notebook", NotebookConfig, argv, _notebook, _check_names)


def _check_names(config: NotebookConfig) -> None:
    from headstart.pipelines.extract_config import ExtractConfig, check_names

    names = {name: getattr(config, name) for name in ("input", "backbone", "weights")}
    check_names(ExtractConfig(**names, store=config.folder))


def _notebook(config: NotebookConfig) -> Outcome:
    rows = notebook(config)
    return Outcome(describe(config, rows), rows)
