"""A folder in, every complete run below it out, as rows of a table: what was trained on what, and how good it is.

Reads small JSON files alone: configurations, and the figures of evaluations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from headstart.features.errors import UserError
from headstart.features.places import place
from headstart.features.spec import FeatureSpec, Tap
from headstart.training.runs.run_folder import CONFIG, EVALUATION, METRICS, MODEL, WORK_FOLDER


@dataclass(frozen=True)
class RunRow:
    """A run. Its accuracy on a split, 0..1 with a 95% interval, is None where nobody evaluated that.

    Of several labels an image, that is the mean average precision, and label_delimiter is not ''.

    run is the path below the folder that was listed; data the beginning of the dataset's digest, source the name of the store
    or of the images that it was trained on; model_bytes the size of
    model.keras; seconds those of the training. used_for_selection says that the run was trained on the split or chosen by it.
    """

    run: str
    backbone: str
    image_size: tuple[int, int]
    tap: str
    technique: str
    data: str
    split: str | None
    examples: int | None
    accuracy: float | None
    low: float | None
    high: float | None
    used_for_selection: bool | None
    model_bytes: int
    seconds: float
    label_delimiter: str = ""
    source: str = ""

    @property
    def dataset(self) -> str:
        """What it was trained on, for people."""
        return f"{self.source} {self.data}".strip()


def list_runs(folder: str, split: str = "test") -> list[RunRow]:
    """Every complete run below a folder, dataset by dataset, of each the best one first, those without that evaluation last.

    Args:
        folder: of this machine or in an object store; it may be a run itself.
        split: the evaluation's name: a split, or what `headstart evaluate` called it.

    Raises:
        UserError: when there is no such folder, or no run below it.
    """
    sizes = {entry.name: entry.size for entry in place.entries(folder)} if place.exists(folder) else None
    if sizes is None:
        raise UserError("missing-input", f"there is no folder {folder!r}: give one with runs below it")
    prefixes = sorted(name[: -len(CONFIG)] for name in sizes if f"/{name}".endswith(f"/{CONFIG}"))
    unfinished = f"/{WORK_FOLDER}/"  # inside a run: a training that is not in its place yet
    complete = [each for each in prefixes if each + METRICS in sizes and not f"/{each}".endswith(unfinished)]
    found = [_row(folder, prefix, sizes, split) for prefix in complete]
    if not found:
        raise UserError("missing-input", f"no run lies below {folder!r}: make one with `headstart train STORE --run RUN`")
    return _by_dataset(found)


def _by_dataset(rows: Sequence[RunRow]) -> list[RunRow]:
    """The rows of one dataset side by side, that of the best run first; after those of one label an image, of several."""

    def rank(row: RunRow) -> tuple[bool, float, str]:
        return row.accuracy is None, -(row.accuracy or 0), row.run

    best = {row.data: rank(row) for row in sorted(rows, key=rank, reverse=True)}
    return sorted(rows, key=lambda row: (bool(row.label_delimiter), best[row.data], rank(row)))


def _row(folder: str, prefix: str, sizes: dict[str, int], split: str) -> RunRow:
    def read(name: str) -> dict[str, Any]:
        return place.read_json(place.join(folder, prefix + name))

    config, metrics, scores = read(CONFIG), read(METRICS), f"{EVALUATION}/{split}/metrics.json"
    spec, evaluation = FeatureSpec.from_json(config["spec"]), read(scores) if prefix + scores in sizes else None
    delimiter = config.get("label_delimiter", "")
    accuracy = evaluation["mean_average_precision" if delimiter else "accuracy"] if evaluation else {}
    return RunRow(
        run=prefix.rstrip("/") or ".",
        backbone=spec.backbone,
        image_size=spec.image_size,
        tap=Tap(**config["tap"]).name,
        technique=_technique(config),
        data=config["dataset_digest"][:8],
        split=split if evaluation else None,
        examples=evaluation["examples"] if evaluation else None,
        accuracy=accuracy.get("value"),
        low=accuracy.get("low"),
        high=accuracy.get("high"),
        used_for_selection=evaluation["used_for_selection"] if evaluation else None,
        model_bytes=sizes.get(prefix + MODEL, 0),
        seconds=metrics["seconds"],
        label_delimiter=delimiter,
        source=str(config.get("store") or config.get("from_store") or config.get("input", "")).rstrip("/").rpartition("/")[2],
    )


def _technique(config: dict[str, Any]) -> str:
    """What was trained, in a few words."""
    if not (asked := config.get("finetune")):
        return f"{config['train']['head']} head"
    for name in ("unfreeze_from", "unfreeze_after", "unfreeze_last"):
        if asked[name]:
            return f"fine-tuned, {name.removeprefix('unfreeze_')} {asked[name]}"
    return "fine-tuned, all" if asked["unfreeze_all"] else "augmented, frozen"


COLUMNS = ("run", "dataset", "backbone", "tap", "technique", "accuracy", "95% interval", "examples", "MB", "seconds")


def cells(rows: Sequence[RunRow]) -> list[tuple[str, ...]]:
    """The rows as text, a cell for each of COLUMNS."""
    return [
        (
            row.run,
            row.dataset,
            f"{row.backbone} {'x'.join(map(str, row.image_size))}",
            row.tap,
            row.technique,
            "not evaluated" if row.accuracy is None else f"{100 * row.accuracy:.2f}%{' mAP' if row.label_delimiter else ''}",
            "" if row.low is None or row.high is None else f"[{100 * row.low:.2f}, {100 * row.high:.2f}]",
            "" if row.examples is None else f"{row.examples:,}",
            f"{row.model_bytes / 1e6:.1f}",
            f"{row.seconds:.1f}",
        )
        for row in rows
    ]
