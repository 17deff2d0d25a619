"""A run, what was measured of it and how its export agrees in; `model_card.md` and `labels.txt` out."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from headstart.features import files
from headstart.features.formatting import printable, shortened
from headstart.training.exporting.call import calls
from headstart.training.exporting.kinds import MANY, Kind, kind_of
from headstart.training.exporting.licences import licence_of
from headstart.training.exporting.requirements import evaluations
from headstart.training.runs.run_folder import Run
from headstart.training.scoring.folds import FOLDS

if TYPE_CHECKING:
    from headstart.training.exporting.agreements import Compared

CARD, LABELS = "model_card.md", "labels.txt"


def labels_of(names: Sequence[str]) -> bytes:
    r"""One name a line, in the order of the model's outputs; a line break inside a name as `\n`, as Python writes it."""
    return "".join(f"{in_one_line(name)}\n" for name in names).encode("utf-8", "surrogateescape")


def in_one_line(name: str) -> str:
    """A name whose line breaks, of any kind, are escaped."""
    return "".join(c.encode("unicode_escape").decode() if len(f"{c}x".splitlines()) > 1 else c for c in name)


def write_card(folder: str, run: Run, facts: Mapping[str, Any], compared: Compared) -> None:
    """The model card, after "Model Cards for Model Reporting" (https://arxiv.org/abs/1810.03993).

    Args:
        folder: of the export.
        run: what was exported.
        facts: what export.json holds.
        compared: how it compares with model.keras.
    """
    kind = kind_of(run)
    parts = [
        [
            f"# {printable(os.path.basename(run.home.rstrip('/')))}: {len(run.class_names)} classes",
            "",
            _summary(run, kind, facts),
        ],
        ["## Use", "", *_use(run, kind, facts)],
        ["## Data", "", *_data(run)],
        ["## How it was made", "", *_making(run, facts)],
        ["## Metrics", "", *_metrics(run, kind)],
        ["## Agreement with model.keras", "", *_agreement(kind, facts, compared)],
        ["## Limits", "", *_limits(run, kind)],
        ["## Licence", "", *licence_of(run.spec.backbone)],
    ]
    text = "\n\n".join("\n".join(part) for part in parts) + "\n"
    files.write_bytes(os.path.join(folder, CARD), text.encode("utf-8", "surrogateescape"))


def _summary(run: Run, kind: Kind, facts: Mapping[str, Any]) -> str:
    return f"An image classifier in the format {facts['format']}: {kind.summary(run.class_names)}."


def _use(run: Run, kind: Kind, facts: Mapping[str, Any]) -> list[str]:
    given = [f"- input `{name}`: {text}" for name, text in facts["inputs"].items()]
    found = [f"- output `{name}`: {text}" for name, text in facts["outputs"].items()]
    height, width = run.spec.image_size
    call = calls(kind.answer)[facts["format"]].replace("HEIGHT", str(height)).replace("WIDTH", str(width))
    names = f"- `{LABELS}`: the names, a line each, in the order of the outputs"
    return [*given, *found, names, *kind.lines(), "", call.strip()]


def _data(run: Run) -> list[str]:
    table, names = run.table, run.class_names
    lines = ["| split | images | of each class |", "|---|---|---|"]
    for split in table.splits:
        examples = table.examples(split)
        counts = Counter(label for example in examples for label in example.labels)
        shown = [f"{printable(name)} {counts[name]:,}" for name in names]
        lines.append(f"| {printable(split)} | {len(examples):,} | {shortened(shown, MANY)} |")
    groups = "were declared" if run.config["groups_declared"] else "were not declared: each distinct content is its own"
    unreadable = f"{len(table.dead_letters):,} more could not be read."
    return [*lines, "", f"{unreadable} Groups {groups}. Digest of the dataset: `{run.config['dataset_digest']}`."]


def _making(run: Run, facts: Mapping[str, Any]) -> list[str]:
    spec, unfrozen = run.spec, run.config.get("unfrozen") or []
    return [
        f"- backbone: {spec.backbone}, weights `{spec.weights_digest[:16]}`, "
        f"{len(unfrozen)} of its layers trained further" + ("" if unfrozen else ", as it was"),
        f"- read at {run.tap.name}; {run.title} head",
        f"- images: {spec.image_size[0]}x{spec.image_size[1]} (`{spec.resize_mode}`, {spec.interpolation}, antialiased), "
        f"preprocessing `{spec.preprocessing}`",
        f"- training: {', '.join(_refitted(run.metrics) if 'refit' in run.metrics else _trained(run))}",
        f"- fingerprint of its features: `{run.config['fingerprint']}`; sha256 of model.keras: `{facts['model_sha256']}`",
    ]


def _refitted(metrics: Mapping[str, Any]) -> list[str]:
    """How a head came to its optimum: there were no epochs."""
    refit = metrics["refit"]
    folds = min(FOLDS, metrics["calibration"].get("groups", FOLDS))
    chosen = f" (chosen by cross-validation over {folds} folds)" if "cross_validated_accuracy" in metrics else ""
    where = f"{refit['examples']:,} images of {' and '.join(refit['splits'])}"
    return [f"a linear head at its optimum on {where}", f"penalty {refit['penalty']:g}{chosen}"]


def _trained(run: Run) -> list[str]:
    """How a head, and layers of the backbone with it, were trained by epochs: what decided that, and nothing else."""
    how, metrics = run.config.get("finetune") or run.config["train"], run.metrics
    settled = {**how, **(run.config.get("identity") or {}), "head": run.head}  # the rate that was taken, not None
    names = ["batch_size", "learning_rate", *["layer_decay"] * bool(run.config.get("unfrozen")), "augment", "seed"]
    names = [*["head"] * bool(run.head), *names, *["dropout"] * (run.head == "mlp")]
    if how.get("solver") == "lbfgs":  # it has no rate, no batches and no chance
        names = ["head", "solver"]
    epochs = f"{metrics['epochs']} epochs, the weights of epoch {metrics['best_epoch']}"
    return [epochs, *(f"{name} {settled[name]}" for name in names if settled.get(name) not in (None, ""))]


def _metrics(run: Run, kind: Kind) -> list[str]:
    found = evaluations(run)
    if not found:
        return [f"Not evaluated: `headstart evaluate {run.home}` measures it."]
    lines, (baseline, words) = ["95% intervals in brackets.", ""], kind.baseline
    for name, metrics in found.items():
        mark = "; it chose the model, so these figures flatter it" if metrics["used_for_selection"] else ""
        head = f"**{printable(name)}**: {metrics['examples']:,} examples in {metrics['groups']:,} groups{mark}"
        lines += [head, "", "| metric | value |", "|---|---|"]
        lines += [
            f"| {metric.replace('_', ' ')} | {_figure(metrics[metric])} |" for metric in kind.metrics if metric in metrics
        ]
        lines += [f"| {words} | {_figure(metrics[baseline])} |", ""]
    return lines[:-1]


def _figure(figure: Mapping[str, float | None]) -> str:
    ends = [figure.get(end) for end in ("value", "low", "high")]
    value, low, high = ("undefined" if end is None or math.isnan(end) else f"{end:.4f}" for end in ends)
    return value if "undefined" in (low, high) else f"{value} [{low}, {high}]"


def _agreement(kind: Kind, facts: Mapping[str, Any], compared: Compared) -> list[str]:
    most = facts["tolerance"]
    limits = (
        f"{most['answers']:.0%} of images with the same {kind.answer} and probabilities within {most['mean']:g} in the mean"
    )
    beside = "those that it was not calibrated on" if facts["int8"] else "which had to agree"
    return [
        f"On images of the run's own dataset, {beside}, by the format's own runtime on a CPU, in a process of its own.",
        f"It was made because it held to: {limits}, {most['largest']:g} at most.",
        "",
        *(f"- {what}: {found}" for what, found in compared.checked.items()),
        *(f"- {what}, which is not headstart's way: {found}" for what, found in compared.measured.items()),
        *(f"- {note}" for note in compared.notes),
    ]


def _limits(run: Run, kind: Kind) -> list[str]:
    weak = {
        f"{printable(each['class'])} ({each['count']})"
        for metrics in evaluations(run).values()
        for each in metrics["per_class"]
        if each["note"]
    }
    few = [f"- Too few examples of {shortened(sorted(weak))} were measured to trust their figures."] if weak else []
    return [
        kind.limit,
        "- The figures hold for images like those of the splits above: other cameras, places or times may differ.",
        "- Nothing here was measured across groups of people, and nothing says that errors are spread evenly over them.",
        *few,
    ]
