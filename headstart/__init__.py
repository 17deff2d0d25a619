"""headstart: transfer learning for images, from a folder to an evaluated classifier.

The commands as functions, each with the configuration dataclass that its command line fills:

    from headstart import ExtractConfig, TrainConfig, EvaluateConfig, extract, train, evaluate
    store = extract(ExtractConfig(input="photos", store="store"))
    run = train(TrainConfig(store="store", run="run"))
    print(evaluate(EvaluateConfig(run="run", split="test")).scores.accuracy)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headstart.commands.fit import FitConfig, fit
    from headstart.features.augmentation import Augmentation
    from headstart.features.errors import UserError
    from headstart.features.spec import FeatureSpec, Tap
    from headstart.features.store.feature_store import FeatureStore
    from headstart.pipelines.extract import dry_run, extract
    from headstart.pipelines.extract_config import ExtractConfig
    from headstart.predicting.predict_files import predict_files
    from headstart.training.auditing.audit import audit
    from headstart.training.auditing.audit_config import AuditConfig
    from headstart.training.comparing.compare import compare
    from headstart.training.comparing.compare_config import CompareConfig
    from headstart.training.evaluation.evaluate import evaluate
    from headstart.training.evaluation.evaluate_config import EvaluateConfig
    from headstart.training.exporting.export import export
    from headstart.training.exporting.export_config import ExportConfig
    from headstart.training.finetuning.finetune import finetune
    from headstart.training.finetuning.finetune_config import FinetuneConfig
    from headstart.training.predicting.predict import predict
    from headstart.training.predicting.predict_config import PredictConfig
    from headstart.training.probing.learning_curve import learning_curve
    from headstart.training.probing.learning_curve_config import LearningCurveConfig
    from headstart.training.probing.probe import probe
    from headstart.training.probing.probe_config import ProbeConfig
    from headstart.training.reporting.report import report
    from headstart.training.reporting.report_config import ReportConfig
    from headstart.training.runs.listing import list_runs
    from headstart.training.runs.run_folder import Run
    from headstart.training.train import train
    from headstart.training.train_config import TrainConfig

__version__ = "0.1.0"

_HOME = {
    "UserError": "headstart.features.errors",
    "FeatureSpec": "headstart.features.spec",
    "Tap": "headstart.features.spec",
    "FeatureStore": "headstart.features.store.feature_store",
    "FitConfig": "headstart.commands.fit",
    "fit": "headstart.commands.fit",
    "ExtractConfig": "headstart.pipelines.extract_config",
    "dry_run": "headstart.pipelines.extract",
    "extract": "headstart.pipelines.extract",
    "AuditConfig": "headstart.training.auditing.audit_config",
    "audit": "headstart.training.auditing.audit",
    "CompareConfig": "headstart.training.comparing.compare_config",
    "compare": "headstart.training.comparing.compare",
    "EvaluateConfig": "headstart.training.evaluation.evaluate_config",
    "evaluate": "headstart.training.evaluation.evaluate",
    "ExportConfig": "headstart.training.exporting.export_config",
    "export": "headstart.training.exporting.export",
    "Augmentation": "headstart.features.augmentation",
    "FinetuneConfig": "headstart.training.finetuning.finetune_config",
    "finetune": "headstart.training.finetuning.finetune",
    "LearningCurveConfig": "headstart.training.probing.learning_curve_config",
    "learning_curve": "headstart.training.probing.learning_curve",
    "PredictConfig": "headstart.training.predicting.predict_config",
    "predict": "headstart.training.predicting.predict",
    "predict_files": "headstart.predicting.predict_files",
    "ProbeConfig": "headstart.training.probing.probe_config",
    "probe": "headstart.training.probing.probe",
    "ReportConfig": "headstart.training.reporting.report_config",
    "report": "headstart.training.reporting.report",
    "Run": "headstart.training.runs.run_folder",
    "list_runs": "headstart.training.runs.listing",
    "TrainConfig": "headstart.training.train_config",
    "train": "headstart.training.train",
}
__all__ = [
    "AuditConfig",
    "Augmentation",
    "CompareConfig",
    "EvaluateConfig",
    "ExportConfig",
    "ExtractConfig",
    "FeatureSpec",
    "FeatureStore",
    "FinetuneConfig",
    "FitConfig",
    "LearningCurveConfig",
    "PredictConfig",
    "ProbeConfig",
    "ReportConfig",
    "Run",
    "Tap",
    "TrainConfig",
    "UserError",
    "audit",
    "compare",
    "dry_run",
    "evaluate",
    "export",
    "extract",
    "finetune",
    "fit",
    "learning_curve",
    "list_runs",
    "predict",
    "predict_files",
    "probe",
    "report",
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
