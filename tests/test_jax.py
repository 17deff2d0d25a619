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

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="JAX is not installed: pip install '.[jax]'"),
]


COMMANDS = """
import contextlib, io, json, sys
from headstart.cli import main
told = {}
for name, arguments in json.load(sys.stdin).items():
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        status = main(arguments)
    told[name] = status, said.getvalue()
print(json.dumps(told))
"""
Told = dict[str, tuple[int, str]]  # each command's status, and what it said


def in_jax(**commands: list[object]) -> Told:
    """Runs commands one after the other in one process, whose Keras computes in JAX."""
    arguments = json.dumps({name: list(map(str, each)) for name, each in commands.items()})
    quickly = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}  # most of the time would be compiling
    environment, code = {**os.environ, "KERAS_BACKEND": "jax", **quickly}, [sys.executable, "-c", COMMANDS]
    done = subprocess.run(code, input=arguments, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """What the commands write into."""
    return tmp_path_factory.mktemp("jax")


@pytest.fixture(scope="module")
def told(folder: pathlib.Path, photos: pathlib.Path) -> Told:
    """A store with an unpooled tap made by JAX, a head trained on it, and what is made of that."""
    store, run = ["--store", folder / "store"], folder / "run"
    short = ["--batch_size", 12, "--epochs", 2]  # whole batches: JAX compiles each size
    from_images = ["finetune", photos, "--init_from", run, *short]
    from_store = ["finetune", "--from_store", folder / "store", "--init_from", run, "--unfreeze_after", "block5c_add", *short]
    taps = ["--tap", ":avg", "--tap", "block5c_add:none"]
    return in_jax(
        extract=["extract", photos, *store, "--store_dtype", "float32", *taps, *small_backbone_flags()],
        train=["train", folder / "store", "--run", run, "--batch_size", 12, "--epochs", 5],
        frozen=[*from_images, "--run", folder / "frozen", "--augment", "strong"],
        tuned=[*from_store, "--run", folder / "tuned"],
        evaluate=["evaluate", folder / "tuned"],
        devices=[*from_images, "--run", folder / "two", "--devices", 2],
    )


def of_all(told: Told, *names: str) -> str:
    """What the last of some commands said, all of which ended well."""
    for name in names:
        assert told[name][0] == 0, told[name]
    return told[names[-1]][1]


def test_features_are_those_of_tensorflow(told: Told, folder: pathlib.Path, store: pathlib.Path) -> None:
    of_all(told, "extract")
    ours, theirs = (
        FeatureStore.open(str(path)).to_numpy("train").features.astype(np.float32) for path in (folder / "store", store)
    )
    assert np.abs(ours - theirs.astype(np.float32)).max() <= 2e-3 * np.abs(theirs).max()  # the other store holds float16
    engines = FeatureStore.open(str(folder / "store")).manifest.provenance.engines
    assert [engine["name"] for engine in engines] == ["jax"]


def test_a_head_on_augmented_images(told: Told, folder: pathlib.Path) -> None:
    assert "frozen arrays of the backbone are bit-equal" in of_all(told, "train", "frozen")
    assert json.loads((folder / "frozen" / "metrics.json").read_text())["epochs"] == 2


def test_layers_above_a_stored_map(told: Told) -> None:
    said = of_all(told, "train", "tuned")
    assert "unfrozen layers moved" in said and "frozen arrays of the backbone are bit-equal" in said
    assert "accuracy" in of_all(told, "evaluate")


def test_several_devices_need_tensorflow(told: Told) -> None:
    status, said = told["devices"]
    assert status == 2 and "--devices 2 needs Keras's TensorFlow backend, this is jax" in said
