"""A backbone as one value: what was left open is found out, and what one process resolved is built once."""

from __future__ import annotations

import pathlib
from typing import Any

import keras
import numpy as np
import pytest

from headstart.features.backbones import backbone as backbone_module
from headstart.features.backbones.backbone import Backbone, resolve_backbone, resolve_for_spec
from headstart.features.backbones.build import build, weights_digest
from headstart.features.backbones.custom import architecture_digest
from headstart.features.backbones.source import BackboneSource
from headstart.features.errors import UserError
from headstart.features.spec import FeatureSpec, Tap
from tests.conftest import IMAGE_SIZE, little_base


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What is built from here on, with no base shared before or after."""
    made: list[Any] = []
    monkeypatch.setattr(backbone_module, "build", lambda *given: made.append(given) or build(*given))
    monkeypatch.setattr(backbone_module, "_built", None)
    return made


@pytest.fixture
def source(tmp_path: pathlib.Path) -> BackboneSource:
    return BackboneSource.parse(str(little_base(tmp_path / "little.keras")))


def spec_of(found: Backbone) -> FeatureSpec:
    return FeatureSpec(
        found.name, found.weights_digest, found.image_size, found.taps, found.preprocessing, architecture=found.architecture
    )


def test_what_was_left_open_is_found_out(source: BackboneSource) -> None:
    found, base = resolve_backbone(source, preprocessing="tf"), keras.saving.load_model(source.weights, compile=False)
    assert (found.name, found.image_size, found.preprocessing) == ("own:little", (IMAGE_SIZE, IMAGE_SIZE), "tf")
    assert (found.weights_digest, found.architecture) == (weights_digest(base), architecture_digest(base))
    (tap,) = found.taps
    assert tap.layer and tap.pool == "avg" and found.extractor.outputs[0].shape[1:] == tap.shape


@pytest.mark.parametrize("size", [None, (IMAGE_SIZE, IMAGE_SIZE)])
def test_a_spec_s_backbone_is_the_one_that_it_was_made_from_and_is_not_built_again(
    source: BackboneSource, built: list[Any], size: tuple[int, int] | None
) -> None:
    found = resolve_backbone(source, size, "tf", [Tap("auto", "avg")])
    again = resolve_for_spec(spec_of(found), source)
    assert len(built) == 1 and again.base is found.base
    assert again == found
    pixels = np.random.default_rng(0).uniform(0, 255, (2, IMAGE_SIZE, IMAGE_SIZE, 3)).astype(np.float32)
    for ours, theirs in zip(again.extractor(pixels), found.extractor(pixels), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_model_that_changed_under_its_name_is_built_again(source: BackboneSource, built: list[Any]) -> None:
    spec = spec_of(resolve_backbone(source, (IMAGE_SIZE, IMAGE_SIZE), "tf"))
    model = keras.saving.load_model(source.weights, compile=False)
    model.set_weights([2 * weight for weight in model.get_weights()])
    model.save(source.weights)
    with pytest.raises(UserError, match=r"have digest .* the features were asked for with .*: give every worker the same"):
        resolve_for_spec(spec, source)
    assert len(built) == 2


def test_a_preprocessing_that_a_network_was_not_trained_with_is_refused_before_it_is_built(built: list[Any]) -> None:
    with pytest.raises(UserError, match="EfficientNetLite0 was trained with the preprocessing lite, not tf"):
        resolve_backbone(BackboneSource("EfficientNetLite0", "imagenet"), preprocessing="tf")
    assert not built
