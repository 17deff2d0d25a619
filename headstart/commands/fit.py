"""headstart fit: a folder of images to an evaluated classifier, in one go."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from headstart.commands import evaluate as evaluate_command
from headstart.commands import train as train_command
from headstart.commands.beam_flags import BeamFlags
from headstart.commands.runner import run_command
from headstart.features.config import flag
from headstart.features.engines.options import has_openvino
from headstart.features.runtime import limit_intra_op_threads, quietly
from headstart.pipelines.extract_config import ExtractConfig, check_names
from headstart.training.train import TrainConfig

if TYPE_CHECKING:
    from headstart.training.evaluation.evaluate import Evaluation

Config = TypeVar("Config")


@dataclass(frozen=True, kw_only=True)
class FitConfig(TrainConfig, ExtractConfig):
    """Extracts features, trains a head on them, and evaluates it on the test split (without one, on validation)."""

    store: str = flag("", "where to keep the features (default: RUN/store)", metavar="STORE")
    dry_run: bool = False
    tap: str = ""  # the head is trained on the first --tap

    def __post_init__(self) -> None:
        ExtractConfig.__post_init__(self)
        TrainConfig.__post_init__(self)

    @property
    def store_folder(self) -> str:
        """Where the features are."""
        return self.store or os.path.join(self.run, "store")


@quietly
def fit(config: FitConfig) -> Evaluation:
    """Extraction, training and evaluation; what exists already is not done again.

    Args:
        config: what `headstart fit` takes: `headstart extract`'s flags and `headstart train`'s.

    Returns:
        What `headstart evaluate` found.

    Raises:
        UserError: whatever the three may raise.
    """
    from headstart.pipelines.extract import extract
    from headstart.training.evaluation.evaluate import evaluate
    from headstart.training.evaluation.evaluate_config import EvaluateConfig
    from headstart.training.runs import run_folder
    from headstart.training.train import train

    with run_folder.claimed(config.run):  # refused before the long part, if it must be
        pass
    store = extract(_part(ExtractConfig, config, batch_size=0))
    print(train_command.describe(train(_part(TrainConfig, config))))
    split = next(name for name in ("test", "validation", "train") if name in store.splits)
    return evaluate(EvaluateConfig(run=config.run, split=split, unsafe=config.unsafe))


def _part(kind: type[Config], config: FitConfig, **changes: Any) -> Config:
    names = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
    return kind(**{**{name: getattr(config, name) for name in names}, "store": config.store_folder, **changes})


def main(argv: Sequence[str]) -> int | None:
    """The command; returns its exit status."""
    return run_command("headstart fit", FitConfig, argv, _fit, _prepare, beam_flags=BeamFlags())


def _prepare(config: FitConfig) -> None:
    from headstart.training.runs import run_folder

    check_names(config)
    run_folder.check_output_folder(config.run)
    if config.engine == "tensorflow" or not has_openvino():  # OpenVINO has threads of its own: heads train on all cores
        limit_intra_op_threads()


def _fit(config: FitConfig) -> None:
    print(evaluate_command.describe(fit(config)))
