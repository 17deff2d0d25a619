"""The demo: the digits as they are written, and what the probe makes of them with the real weights."""

from __future__ import annotations

import os
import pathlib
import re

import numpy as np
import pytest
from PIL import Image

from headstart.commands.demo import DemoConfig, DemoResult, demo, describe, write_digits

SVM_ACCURACY = 0.969  # of scikit-learn's own example, a support vector machine on the pixels, same halves


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def result(folder: pathlib.Path) -> DemoResult:
    return demo(DemoConfig(folder=str(folder)))


def test_digits(tmp_path: pathlib.Path) -> None:
    from sklearn.datasets import load_digits

    assert write_digits(str(tmp_path)) == 1797
    paths = {split: sorted((tmp_path / split).rglob("*.png")) for split in ("train", "validation", "test")}
    assert sum(map(len, paths.values())) == 1797 and set(os.listdir(tmp_path)) == set(paths)
    numbers = {split: {int(path.stem) for path in found} for split, found in paths.items()}
    assert numbers["train"] | numbers["validation"] == set(range(898))
    assert numbers["test"] == set(range(898, 1797))
    assert not numbers["train"] & numbers["validation"]
    assert len(numbers["validation"]) == 300
    digits = load_digits()
    assert all(int(path.parent.name) == digits.target[int(path.stem)] for found in paths.values() for path in found)
    for path in (paths["train"][0], paths["test"][-1]):
        with Image.open(path) as image:
            pixels = np.asarray(image)
        assert pixels.shape == (8, 8) and pixels.dtype == np.uint8
        np.testing.assert_allclose(pixels / 255 * 16, digits.images[int(path.stem)], atol=0.04)


def test_the_probe_takes_a_middle_tap_and_beats_the_pixels(result: DemoResult) -> None:
    layer, _, pool = result.tap.rpartition(":")
    assert layer != "top_activation" and pool == "grid3"
    assert result.evaluation.scores.accuracy.value > SVM_ACCURACY
    assert result.evaluation.split == "test" and result.evaluation.scores.examples == 899
    (last,) = (line for line in result.probes.splitlines() if line.strip().startswith("top_activation:avg"))
    assert re.search(r"-\d\.\d \[-\d+\.\d, -\d+\.\d\]", last), last  # 300 images are enough to see that it is worse
    assert "these images are far from what the backbone learned from" in result.probes


def test_says_where_to_look(result: DemoResult, folder: pathlib.Path) -> None:
    told = describe(DemoConfig(folder=str(folder)), result)
    assert result.tap in told and f"{folder}/" in told
    for name in ("probe/probe.png", "run/model.keras", "run/evaluation/test"):
        assert name in told and (folder / name).exists()
