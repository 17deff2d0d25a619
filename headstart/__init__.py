"""headstart: transfer learning for images, from a folder to an evaluated classifier.

The commands as functions, each with the configuration dataclass that its command line fills:

    from headstart import ExtractConfig, TrainConfig, EvaluateConfig, extract, train, evaluate
    store = extract(ExtractConfig(input="photos", store="store"))
    run = train(TrainConfig(store="store", run="run"))
    print(evaluate(EvaluateConfig(run="run", split="test"))["accuracy"])
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from features.augment import Augmentation
    from features.errors import UserError
    from features.spec import FeatureSpec, Tap
    from features.store import FeatureStore
    from headstart.fit_folder import FitConfig, fit
    from pipelines.extract import dry_run, extract
    from pipelines.extract_config import ExtractConfig
    from training.evaluate import EvaluateConfig, evaluate
    from training.finetune import finetune
    from training.finetune_config import FinetuneConfig
    from training.predict import PredictConfig, predict
    from training.probe import ProbeConfig, probe
    from training.run_folder import Run
    from training.train_head import TrainConfig, train

__version__ = "0.1.0"

_HOME = {
    "UserError": "features.errors",
    "FeatureSpec": "features.spec",
    "Tap": "features.spec",
    "FeatureStore": "features.store",
    "FitConfig": "headstart.fit_folder",
    "fit": "headstart.fit_folder",
    "ExtractConfig": "pipelines.extract_config",
    "dry_run": "pipelines.extract",
    "extract": "pipelines.extract",
    "EvaluateConfig": "training.evaluate",
    "evaluate": "training.evaluate",
    "Augmentation": "features.augment",
    "FinetuneConfig": "training.finetune_config",
    "finetune": "training.finetune",
    "PredictConfig": "training.predict",
    "predict": "training.predict",
    "ProbeConfig": "training.probe",
    "probe": "training.probe",
    "Run": "training.run_folder",
    "TrainConfig": "training.train_head",
    "train": "training.train_head",
}
__all__ = [
    "Augmentation",
    "EvaluateConfig",
    "ExtractConfig",
    "FeatureSpec",
    "FeatureStore",
    "FinetuneConfig",
    "FitConfig",
    "PredictConfig",
    "ProbeConfig",
    "Run",
    "Tap",
    "TrainConfig",
    "UserError",
    "dry_run",
    "evaluate",
    "extract",
    "finetune",
    "fit",
    "predict",
    "probe",
    "train",
]


def __dir__() -> list[str]:
    """The public names, imported or not."""
    return sorted({*globals(), *__all__})


def __getattr__(name: str) -> Any:
    """Imports a name's module when it is first asked for: `import headstart` itself loads nothing heavy."""
    if name not in _HOME:
        raise AttributeError(f"module 'headstart' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)
