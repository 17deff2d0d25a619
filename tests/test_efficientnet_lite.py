"""EfficientNet-Lite: its ImageNet weights fill it, what it computes is the original, and random ones keep a signal alive."""

from __future__ import annotations

import numpy as np
import pytest

from headstart.features.backbones.efficientnet_lite import VARIANTS, build, load_imagenet, randomize


@pytest.mark.parametrize("name", VARIANTS)
def test_imagenet_weights_fill_every_layer(name: str) -> None:
    pytest.importorskip(VARIANTS[name].package.replace("-", "_"), reason="its weights need the extra `lite`")
    model = build(name, (32, 32))
    randomize(model, 0)
    before = model.get_weights()
    load_imagenet(name, model)
    assert all(not np.array_equal(old, new) for old, new in zip(before, model.get_weights(), strict=True))
    assert all(weight.numpy().min() >= 0 for weight in model.weights if weight.path.endswith("moving_variance"))


def test_random_weights_keep_the_signal_alive() -> None:
    model = build("EfficientNetLite0", (32, 32))
    randomize(model, 0)
    output = model(np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype(np.float32)).numpy()
    assert output.shape == (2, 1, 1, 1280) and output.std() > 0.01
