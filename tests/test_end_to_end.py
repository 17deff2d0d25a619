"""Real photographs, real weights: what somebody with a folder of cats and dogs gets."""

from __future__ import annotations

import pathlib

import pytest

from headstart.pipelines.extract import extract
from headstart.pipelines.extract_config import ExtractConfig
from headstart.training.evaluation.evaluate import evaluate
from headstart.training.evaluation.evaluate_config import EvaluateConfig
from headstart.training.train import train
from headstart.training.train_config import TrainConfig

PHOTOS = pathlib.Path(__file__).resolve().parents[2] / "shared" / "data" / "cats_and_dogs_small"
EACH = {"train": 60, "validation": 40}  # of each class


@pytest.mark.slow
@pytest.mark.skipif(not PHOTOS.is_dir(), reason="there are no photographs of cats and dogs at ../shared/data")
def test_cats_and_dogs(tmp_path: pathlib.Path) -> None:
    for split, count in EACH.items():
        for kind in ("cats", "dogs"):
            (tmp_path / "photos" / split / kind).mkdir(parents=True)
            for path in sorted((PHOTOS / split / kind).iterdir())[:count]:
                (tmp_path / "photos" / split / kind / path.name).symlink_to(path)
    store = extract(ExtractConfig(input=str(tmp_path / "photos"), store=str(tmp_path / "store")))
    assert store.spec.image_size == (224, 224) and store.manifest.totals.stored == 200
    train(TrainConfig(store=str(tmp_path / "store"), run=str(tmp_path / "run")))
    metrics = evaluate(EvaluateConfig(run=str(tmp_path / "run"), split="validation"))
    assert metrics.scores.accuracy.value >= 0.95
    assert metrics.used_for_selection is True
