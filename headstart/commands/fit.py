"""headstart fit: a folder of images to an evaluated classifier, in one go."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headstart.commands import evaluate as evaluate_command
from headstart.commands import train as train_command
from headstart.commands.beam_flags import BeamFlags
from headstart.commands.outcome import Outcome
from headstart.commands.runner import run_command
from headstart.features.config import check_fields, flag, part
from headstart.features.engines.options import has_openvino
from headstart.features.errors import UserError
from headstart.features.places import place
from headstart.features.runtime import limit_intra_op_threads, quietly
from headstart.features.store.manifest import is_store
from headstart.pipelines.extract_config import ExtractConfig, check_names
from headstart.training.tasks.checks import check_training
from headstart.training.train_config import TrainConfig

if TYPE_CHECKING:
    from headstart.training.evaluation.evaluate import Evaluation


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """Extracts features, trains a head on them, and evaluates it on the test split (without one, on validation).

    One store is both parts'; where neither names it, it is RUN/store.
    """

    extract: ExtractConfig = part(
        store=flag("", "where to keep the features (default: RUN/store)", metavar="STORE"), batch_size=0, dry_run=False
    )
    train: TrainConfig = part(store="", tap="")  # the head is trained on the deepest --tap

    def __post_init__(self) -> None:
        check_fields(self)
        store = self.extract.store or self.train.store or place.join(self.train.run, "store")
        if self.train.store not in ("", store):
            raise UserError("bad-flag", f"train.store is {self.train.store!r} and extract.store {store!r}: give one of them")
        check_training(self.train, self.extract.label_delimiter)
        object.__setattr__(self, "extract", dataclasses.replace(self.extract, store=store))
        object.__setattr__(self, "train", dataclasses.replace(self.train, store=store))


@quietly
def fit(config: FitConfig) -> Evaluation:
    """Extraction, training and evaluation; a store and a run that are there already are not made again.

    Args:
        config: what `headstart fit` takes: `headstart extract`'s flags and `headstart train`'s.

    Returns:
        What `headstart evaluate` found.

    Raises:
        UserError: whatever the three may raise.
        KeyboardInterrupt: for Ctrl-C; a training that it ended has left its best so far.
    """
    from headstart.pipelines.extract import extract
    from headstart.training.evaluation.evaluate import evaluate
    from headstart.training.evaluation.evaluate_config import EvaluateConfig
    from headstart.training.runs import run_folder
    from headstart.training.runs.older_run import check_source
    from headstart.training.train import train

    with run_folder.claimed(config.train.run):  # refused before the long part, if it must be
        if not is_store(config.extract.store):
            check_source(config.train.run, "train", place.absolute(config.extract.store))
    store = extract(config.extract)
    run = train(config.train)
    print(train_command.describe(run))
    if run.metrics["interrupted"]:
        raise KeyboardInterrupt
    split = next(name for name in ("test", "validation", "train") if name in store.splits)
    return evaluate(EvaluateConfig(run=config.train.run, split=split, unsafe=config.train.unsafe))


def main(argv: Sequence[str]) -> int | None:
    """The command; returns its exit status."""
    return run_command("headstart fit", FitConfig, argv, _fit, _prepare, beam_flags=BeamFlags())


def _prepare(config: FitConfig) -> None:
    from headstart.training.runs import run_folder

    run_folder.check_output_folder(config.train.run)
    check_names(config.extract)
    if config.extract.engine == "tensorflow" or not has_openvino():  # OpenVINO's threads are its own: heads train on all cores
        limit_intra_op_threads()


def _fit(config: FitConfig) -> Outcome:
    return evaluate_command.outcome(config.train.run, fit(config))
