"""The same commands with Keras computing in JAX: features, a head, fine-tuning from images and from a store."""

from __future__ import annotations

import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from headstart.features.store.feature_store import FeatureStore
from tests.conftest import small_backbone_flags

pytestmark = pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="JAX is not installed: pip install '.[jax]'")


def headstart(*arguments: object) -> str:
    """Runs a command in a process of its own; what it says."""
    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    command = [sys.executable, "-m", "headstart", *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def folder(photos: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A store with an unpooled tap made by JAX, and a head trained on it."""
    folder = tmp_path_factory.mktemp("jax")
    taps = ["--tap", ":avg", "--tap", "block5c_add:none"]
    made = [*small_backbone_flags(), "--store_dtype", "float32"]
    headstart("extract", photos, "--store", folder / "store", *made, *taps)
    headstart("train", folder / "store", "--run", folder / "run", "--epochs", 5, "--batch_size", 12)
    return folder


def test_features_are_those_of_tensorflow(folder: pathlib.Path, store: pathlib.Path) -> None:
    ours, theirs = (
        FeatureStore.open(str(path)).arrays("train").features.astype(np.float32) for path in (folder / "store", store)
    )
    assert np.abs(ours - theirs.astype(np.float32)).max() <= 2e-3 * np.abs(theirs).max()  # the other store holds float16
    engines = FeatureStore.open(str(folder / "store")).manifest.provenance.engines
    assert [engine["name"] for engine in engines] == ["jax"]


def test_a_head_on_augmented_images(folder: pathlib.Path, photos: pathlib.Path) -> None:
    told = headstart(
        *("finetune", photos, "--init_from", folder / "run", "--run", folder / "frozen"),
        *("--epochs", 2, "--augment", "strong", "--batch_size", 12),  # whole batches: JAX compiles each size
    )
    assert "frozen arrays of the backbone are bit-equal" in told
    assert json.loads((folder / "frozen" / "metrics.json").read_text())["epochs"] == 2


def test_layers_above_a_stored_map(folder: pathlib.Path) -> None:
    source = ["--from_store", folder / "store", "--init_from", folder / "run", "--unfreeze_after", "block5c_add"]
    told = headstart("finetune", *source, "--run", folder / "tuned", "--epochs", 2, "--batch_size", 12)
    assert "unfrozen layers moved" in told and "frozen arrays of the backbone are bit-equal" in told
    assert "accuracy" in headstart("evaluate", folder / "tuned")


def test_several_devices_need_tensorflow(folder: pathlib.Path, photos: pathlib.Path) -> None:
    command = [sys.executable, "-m", "headstart", "finetune", photos, "--init_from", folder / "run", "--run", folder / "two"]
    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    done = subprocess.run([*map(str, command), "--devices", "2"], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2 and "--devices 2 needs Keras's TensorFlow backend, this is jax" in done.stderr
