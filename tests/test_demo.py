"""The demo: the digits as they are written, and the two taps' figures with the real weights."""

from __future__ import annotations

import os
import pathlib

import numpy as np
import pytest
from PIL import Image

from headstart.demo import LAST_TAP, MIDDLE_TAP, DemoConfig, demo, describe, write_digits

SVM_ACCURACY = 0.969  # of scikit-learn's own example, a support vector machine on the pixels, same halves


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, object]]:
    return demo(DemoConfig(folder=str(tmp_path_factory.mktemp("demo"))))


def test_digits(tmp_path: pathlib.Path) -> None:
    from sklearn.datasets import load_digits

    assert write_digits(str(tmp_path)) == 1797
    paths = {split: sorted((tmp_path / split).rglob("*.png")) for split in ("train", "validation", "test")}
    assert sum(map(len, paths.values())) == 1797 and set(os.listdir(tmp_path)) == set(paths)
    numbers = {split: {int(path.stem) for path in found} for split, found in paths.items()}
    assert numbers["train"] | numbers["validation"] == set(range(898))
    assert numbers["test"] == set(range(898, 1797))
    assert not numbers["train"] & numbers["validation"]
    assert len(numbers["validation"]) == 180
    digits = load_digits()
    assert all(int(path.parent.name) == digits.target[int(path.stem)] for found in paths.values() for path in found)
    for path in (paths["train"][0], paths["test"][-1]):
        with Image.open(path) as image:
            pixels = np.asarray(image)
        assert pixels.shape == (8, 8) and pixels.dtype == np.uint8
        np.testing.assert_allclose(pixels / 255 * 16, digits.images[int(path.stem)], atol=0.04)


def test_middle_beats_pixels_and_the_last_layer(figures: dict[str, dict[str, object]]) -> None:
    accuracy = {tap: metrics["accuracy"]["value"] for tap, metrics in figures.items()}
    assert list(accuracy) == [LAST_TAP, MIDDLE_TAP]
    assert accuracy[MIDDLE_TAP] > SVM_ACCURACY
    assert accuracy[MIDDLE_TAP] > accuracy[LAST_TAP] > 0.5
    assert all(metrics["split"] == "test" and metrics["examples"] == 899 for metrics in figures.values())


def test_says_where_to_look(figures: dict[str, dict[str, object]]) -> None:
    told = describe(figures)
    for metrics in figures.values():
        assert f"{metrics['run']}/" in told
        assert {"model.keras", "learning_curve.png"} <= set(os.listdir(metrics["run"]))
        evaluation = os.path.join(metrics["run"], "evaluation", "test")
        assert {"confusion_matrix.png", "predictions.csv"} <= set(os.listdir(evaluation))
