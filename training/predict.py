"""headstart predict: a run and images in, a row for every file out, in the order given."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from features import command, files
from features.command import flag, positional
from features.errors import UserError

if TYPE_CHECKING:
    from training.run_folder import Run


@dataclass(frozen=True)
class PredictConfig:
    """Names the classes of images with a trained run."""

    run: str = positional("the folder of a run", metavar="RUN")
    images: Sequence[str] = positional("images, or folders of them", metavar="IMAGE_OR_FOLDER", nargs="+")
    top_k: int = flag(1, "classes an image")
    output: str = flag("", "a .csv or .jsonl file (default: CSV on the terminal)", metavar="FILE")
    unsafe: bool = flag(False, "run Python code that a model file brings along in Lambda layers")

    def __post_init__(self) -> None:
        command.check_fields(self)
        if self.top_k < 1:
            raise UserError(f"--top_k must be at least 1, not {self.top_k}")
        if self.output and not self.output.endswith((".csv", ".jsonl")):
            raise UserError(f"--output ends in .csv or .jsonl, not {self.output!r}")


@dataclass(frozen=True)
class Prediction:
    """One file: its path as given, its most probable classes with their probabilities, or why there are none."""

    key: str
    classes: tuple[str, ...] = ()
    probabilities: tuple[float, ...] = ()
    error: str = ""


def predict(config: PredictConfig) -> Iterator[Prediction]:
    """A prediction for every file, in the order given; a folder's files in the order of their names.

    Raises:
        UserError: for a path that does not exist, a folder without files, or a run that is not complete.
    """
    from training.run_folder import Run

    return _predictions(Run.open(config.run, config.unsafe), _files(config.images), config.top_k)


def _predictions(run: Run, paths: Sequence[str], top_k: int) -> Iterator[Prediction]:
    from features.progress import Progress
    from features.stream import Unreadable
    from training.classify import classify_files

    progress, dead = Progress("predict", len(paths)), 0
    for done, (path, answer) in enumerate(zip(paths, classify_files(run, paths)), 1):
        if isinstance(answer, Unreadable):
            dead += 1
            yield Prediction(path, error=f"{answer.stage}: {answer.reason}")
        else:
            best = (-answer).argsort(kind="stable")[:top_k]
            yield Prediction(path, tuple(run.class_names[i] for i in best), tuple(float(answer[i]) for i in best))
        progress.update(done, dead)
    progress.close()


def _files(given: Sequence[str]) -> list[str]:
    from features.sources import image_files

    found: list[str] = []
    for path in given:
        if not os.path.exists(path):
            raise UserError(f"{path!r} does not exist: give images, or folders of them")
        inside = image_files(path)
        if not inside:
            raise UserError(f"the folder {path!r} holds no files")
        found += inside
    return found


def write_csv(predictions: Iterable[Prediction], top_k: int, file: Any) -> None:
    """key, class_1, probability_1, ..., error."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["key", *(f"{name}_{rank}" for rank in range(1, top_k + 1) for name in ("class", "probability")), "error"])
    for prediction in predictions:
        pairs = [
            f"{value}" for pair in zip(prediction.classes, map("{:.6g}".format, prediction.probabilities)) for value in pair
        ]
        writer.writerow([prediction.key, *pairs, *[""] * (2 * top_k - len(pairs)), prediction.error])


def write_jsonl(predictions: Iterable[Prediction], file: Any) -> None:
    """One object a line: key, classes, probabilities, and error where there is one."""
    for prediction in predictions:
        row = {key: value for key, value in vars(prediction).items() if key != "error" or value}
        file.write(json.dumps(row, ensure_ascii=False) + "\n")


def _write(config: PredictConfig, top_k: int) -> None:
    predictions = predict(config)  # refuses what it must before a row is written
    if not config.output:
        write_csv(predictions, top_k, sys.stdout)
        return
    with files.atomic(config.output) as raw:
        text = io.TextIOWrapper(raw, encoding="utf-8", errors="surrogateescape", newline="")
        if config.output.endswith(".csv"):
            write_csv(predictions, top_k, text)
        else:
            write_jsonl(predictions, text)
        text.flush()
        text.detach()


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    prog = "headstart predict"

    def body() -> None:
        from training.run_folder import Run

        config, _, verbose = command.parse(PredictConfig, prog, sys.argv[1:] if argv is None else argv)
        classes = len(Run.open(config.run).class_names)
        command.one_thread_a_stream()
        command.load_quietly(verbose)
        _write(config, min(config.top_k, classes))

    return command.run(prog, body)


if __name__ == "__main__":
    sys.exit(main())
