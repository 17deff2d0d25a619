"""The engine: partial batches, other batch sizes, several threads, and one network a process."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import platform
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from headstart.features.backbones import backbone as backbone_module
from headstart.features.backbones.backbone import resolve_backbone
from headstart.features.backbones.build import build, weights_digest
from headstart.features.backbones.source import BackboneSource
from headstart.features.engines import factory as engine_module
from headstart.features.engines.base import Engine
from headstart.features.engines.factory import kept_engine, make_engine, shared_engine
from headstart.features.engines.options import (
    CPU_BATCH_SIZE,
    GPU_BATCH_SIZE,
    EngineOptions,
    has_openvino,
    slow_dtype,
)
from headstart.features.errors import UserError
from headstart.features.keras_internals import every_layer
from headstart.features.runtime import cores, gpu_available
from headstart.features.spec import FeatureSpec, Tap
from tests.conftest import build_feature_extractor

BATCH_SIZES = (1, 2, 4, 8)
TAPS = (Tap("", "avg"), Tap("", "none"))


def pixels(count: int, seed: int = 0, side: int = 64) -> np.ndarray:
    """float32 [count, side, side, 3]."""
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3)).astype(np.float32)


ENGINES = ("tensorflow", "openvino")


def installed(name: str) -> str:
    """An engine's name; skips where it can't run."""
    if name == "openvino":
        pytest.importorskip("openvino", reason="the openvino extra is not installed")
    return name


def engine_of(model: Any, name: str, batch_size: int, compute_dtype: str = "float32") -> Engine:
    return make_engine(model, EngineOptions(installed(name), batch_size, 2), compute_dtype)


def installed_engines() -> list[str]:
    return [name for name in ENGINES if name != "openvino" or has_openvino()]


def tapped_model(name: str) -> Any:
    return build_feature_extractor(name, build(BackboneSource(name, "random:0"), (64, 64)), TAPS)[0]


@pytest.fixture(scope="module", params=["EfficientNetLite0", "MobileNetV2"])
def model(request: pytest.FixtureRequest) -> Any:
    return tapped_model(request.param)


@pytest.fixture(scope="module", params=ENGINES)
def network(model: Any, request: pytest.FixtureRequest) -> Any:
    """The tapped model, and its engines by batch size."""
    return model, {size: engine_of(model, request.param, size) for size in BATCH_SIZES}


def features(engine: Engine, images: np.ndarray) -> list[np.ndarray]:
    """All images through an engine, batch by batch."""
    batches = [engine(images[at : at + engine.batch_size]) for at in range(0, len(images), engine.batch_size)]
    return [np.concatenate(outputs) for outputs in zip(*batches, strict=True)]


@pytest.mark.slow
def test_features_are_the_model_s(network: Any) -> None:
    model, engines = network
    for found, expected in zip(engines[4](pixels(4)), model(pixels(4)), strict=True):
        assert found.dtype == np.float32 and found.shape == expected.shape
        assert np.abs(found - expected.numpy()).max() <= 1e-5 * np.abs(expected.numpy()).max()


@pytest.mark.slow
def test_a_partial_batch_gives_what_a_full_one_gives(network: Any) -> None:
    engine, images = network[1][4], pixels(4)
    whole = engine(images)
    for count in (1, 2, 3):
        for found, expected in zip(engine(images[:count]), whole, strict=True):
            assert found.shape == (count, *expected.shape[1:])
            assert np.array_equal(found, expected[:count])


def test_an_image_s_features_do_not_depend_on_its_neighbours(network: Any) -> None:
    engine, images = network[1][4], pixels(4)
    others = pixels(4, seed=1)
    others[2] = images[0]
    assert np.array_equal(engine(images)[0][0], engine(others)[0][2])


def test_other_batch_sizes_agree_to_rounding(network: Any) -> None:
    by_size = {size: features(engine, pixels(8)) for size, engine in network[1].items()}
    for size in BATCH_SIZES:
        for found, expected in zip(by_size[size], by_size[4], strict=True):
            assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


LESSER = """
import sys
import numpy as np
from headstart.features.engines.factory import make_engine
from headstart.features.engines.options import EngineOptions
from tests.test_engine import installed_engines, pixels, tapped_model
model = tapped_model("EfficientNetLite0")
found = {name: make_engine(model, EngineOptions(name, 4, 2))(pixels(4)) for name in installed_engines()}
np.savez(sys.argv[1], **{f"{name}{number}": each for name in found for number, each in enumerate(found[name])})
"""


@pytest.mark.slow
def test_a_lesser_processor_agrees_to_rounding(tmp_path: pathlib.Path) -> None:
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": "SSE41"}  # what both engines multiply with then knows no AVX
    command = [sys.executable, "-c", LESSER, str(tmp_path / "lesser.npz")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    model = tapped_model("EfficientNetLite0")
    with np.load(tmp_path / "lesser.npz") as lesser:
        for name in installed_engines():
            for number, here in enumerate(engine_of(model, name, 4)(pixels(4))):
                there = lesser[f"{name}{number}"]
                assert np.abs(here - there).max() <= 1e-5 * np.abs(here).max()
                # it was another one
                assert gpu_available() or platform.machine() != "x86_64" or not np.array_equal(here, there)


def test_features_are_bit_equal_from_several_threads(network: Any) -> None:
    engine, images = network[1][4], pixels(16)
    alone = features(engine, images)
    barrier = threading.Barrier(4)

    def one(_: int) -> list[np.ndarray]:
        barrier.wait()
        return features(engine, images)

    with ThreadPoolExecutor(4) as pool:
        for together in pool.map(one, range(4)):
            assert all(np.array_equal(a, b) for a, b in zip(together, alone, strict=True))


@pytest.mark.slow
def test_features_are_bit_equal_when_the_engine_is_made_again_with_other_streams(network: Any) -> None:
    model, engines = network
    again = make_engine(model, dataclasses.replace(engines[4].options, streams=3))
    assert all(np.array_equal(a, b) for a, b in zip(again(pixels(4)), engines[4](pixels(4)), strict=True))


@pytest.mark.parametrize("name", ENGINES)
def test_an_engine_does_not_change_with_its_model(name: str) -> None:
    import keras

    inputs = keras.Input((4, 4, 3))
    model = keras.Model(inputs, keras.layers.Conv2D(2, 3)(inputs))
    engine = engine_of(model, name, 2)
    before = engine(pixels(2, side=4))[0]
    model.set_weights([np.zeros_like(weight) for weight in model.get_weights()])
    assert np.array_equal(engine(pixels(2, side=4))[0], before) and before.any()


@pytest.fixture
def lone_process(monkeypatch: pytest.MonkeyPatch) -> Any:
    """No network shared yet, and none left behind."""
    monkeypatch.setattr(backbone_module, "_built", None)
    engine_module._engine.cache_clear()
    yield monkeypatch
    engine_module._engine.cache_clear()


def spec_of(weights: str) -> FeatureSpec:
    found = resolve_backbone(BackboneSource("EfficientNetLite0", weights), (32, 32))
    assert found.weights_digest == weights_digest(found.base)
    return FeatureSpec(found.name, found.weights_digest, found.image_size, found.taps, found.preprocessing)


def test_one_engine_a_process_however_many_threads_ask(lone_process: pytest.MonkeyPatch) -> None:
    spec, built, options = spec_of("random:0"), [], EngineOptions(batch_size=2)
    lone_process.setattr(engine_module, "kept_engine", lambda *given: built.append(given[2]) or kept_engine(*given))
    with ThreadPoolExecutor(4) as pool:
        engines = list(
            pool.map(lambda _: shared_engine(spec, BackboneSource("EfficientNetLite0", "random:0"), options), range(8))
        )
    assert len({id(engine) for engine in engines}) == 1 and built == [options]
    assert engines[0](pixels(2, side=32))[0].shape == (2, 1280)


def test_other_weights_than_the_spec_s_are_refused(lone_process: pytest.MonkeyPatch) -> None:
    spec = spec_of("random:0")
    with pytest.raises(
        UserError, match=r"the weights 'random:1' of EfficientNetLite0 have digest [0-9a-f]{12}, .* asked for with"
    ) as caught:
        shared_engine(spec, BackboneSource("EfficientNetLite0", "random:1"), EngineOptions())
    assert spec.weights_digest[:12] in str(caught.value) and "give every worker the same weights" in str(caught.value)
    with pytest.raises(UserError, match="digest"):
        shared_engine(
            dataclasses.replace(spec, weights_digest="0" * 64),
            BackboneSource("EfficientNetLite0", "random:0"),
            EngineOptions(),
        )


def test_another_architecture_than_the_spec_s_is_refused(lone_process: pytest.MonkeyPatch) -> None:
    source = BackboneSource("EfficientNetLite0", "random:0")
    spec = dataclasses.replace(spec_of("random:0"), architecture=resolve_backbone(source, (32, 32)).architecture)
    assert shared_engine(spec, source, EngineOptions()).name
    with pytest.raises(UserError, match=r"EfficientNetLite0 has the architecture [0-9a-f]{12} here, .* same version of Keras"):
        shared_engine(dataclasses.replace(spec, architecture="0" * 64), source, EngineOptions())


def test_defaults_suit_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    from headstart.features.engines import options as engine_options

    monkeypatch.setattr(engine_options, "gpu_available", lambda: False)
    settled = EngineOptions().resolve("float32")
    assert settled.name in ENGINES and (settled.batch_size, settled.streams) == (CPU_BATCH_SIZE, cores())
    assert EngineOptions("tensorflow", 3, 5).resolve("float32") == EngineOptions("tensorflow", 3, 5)
    monkeypatch.setattr(engine_options, "gpu_available", lambda: True)
    assert EngineOptions().resolve("bfloat16") == EngineOptions("tensorflow", GPU_BATCH_SIZE, engine_options.GPU_STREAMS)


def test_an_engine_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from headstart.features.engines import options as engine_options

    with pytest.raises(UserError, match="--engine is one of auto, tensorflow, openvino, jax, not 'torch'"):
        EngineOptions("torch").resolve("float32")
    monkeypatch.setattr(engine_options.importlib.util, "find_spec", lambda _: None)
    monkeypatch.setattr(engine_options, "gpu_available", lambda: False)
    with pytest.raises(UserError, match=r"openvino is not installed: pip install 'headstart\[openvino\]'"):
        EngineOptions("openvino").resolve("float32")
    assert EngineOptions().resolve("float32").name == "tensorflow"


@pytest.mark.slow
def test_a_network_too_large_to_freeze_gives_the_same(monkeypatch: pytest.MonkeyPatch, model: Any) -> None:
    from headstart.features.engines import tensorflow_engine

    frozen = engine_of(model, "tensorflow", 4)(pixels(3))
    monkeypatch.setattr(tensorflow_engine, "LARGEST_TO_FREEZE", 0)
    unfrozen = engine_of(model, "tensorflow", 4)(pixels(3))
    for one, other in zip(frozen, unfrozen, strict=True):
        np.testing.assert_allclose(other, one, rtol=0, atol=1e-5 * np.abs(one).max())


@pytest.mark.slow
def test_the_engines_agree(model: Any) -> None:
    for one, other in zip(*(engine_of(model, name, 4)(pixels(4)) for name in ENGINES), strict=True):
        assert np.abs(one - other).max() <= 1e-5 * np.abs(one).max()


@pytest.mark.slow
@pytest.mark.parametrize("name", ENGINES)
def test_bfloat16_is_near_float32_and_leaves_the_model_as_it_was(model: Any, name: str) -> None:
    if installed(name) == "openvino":
        from headstart.features.engines.openvino_engine import has_bfloat16

        if not has_bfloat16():
            pytest.skip("this processor has no bfloat16")
    exact, quick = (engine_of(model, name, 4, dtype)(pixels(4)) for dtype in ("float32", "bfloat16"))
    for one, other in zip(exact, quick, strict=True):
        assert other.dtype == np.float32 and not np.array_equal(one, other)
        assert np.abs(one - other).mean() <= 0.1 * np.abs(one).mean()
    assert {layer.dtype_policy.name for layer in every_layer(model)} == {"float32"}


def test_bfloat16_is_refused_where_the_processor_has_none(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    installed("openvino")
    from headstart.features.engines import openvino_engine
    from headstart.features.engines import options as engine_options

    monkeypatch.setattr(openvino_engine, "has_bfloat16", lambda core=None: False)
    monkeypatch.setattr(engine_options, "gpu_available", lambda: False)
    with pytest.raises(UserError, match="no bfloat16: take --compute_dtype float32"):
        engine_of(model, "openvino", 2, "bfloat16")
    assert EngineOptions().resolve("bfloat16").name == "tensorflow"  # a run that was made elsewhere can still be applied


def test_an_extraction_in_bfloat16_is_refused_where_it_would_be_slow(
    photos: pathlib.Path, tmp_path: pathlib.Path, one_line: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import keras

    from headstart.cli import main
    from headstart.features.engines import options as engine_options

    monkeypatch.setattr(engine_options, "has_bfloat16", lambda: False)
    monkeypatch.setattr(engine_options, "gpu_available", lambda: False)
    flags = ["extract", str(photos), "--store", str(tmp_path / "store"), "--weights", "random:0"]
    flags += ["--compute_dtype", "bfloat16"]
    assert main(flags) == 2
    assert "no bfloat16, so --compute_dtype bfloat16 would be slower than float32" in (line := one_line())
    assert "say --engine tensorflow to have it all the same" in line and not (tmp_path / "store").exists()
    with pytest.raises(UserError, match="or say --engine tensorflow to have it all the same"):
        slow_dtype(EngineOptions("openvino"), "bfloat16")
    assert "warning: this processor has no bfloat16" in slow_dtype(EngineOptions("tensorflow"), "bfloat16")
    assert slow_dtype(EngineOptions(), "float32") == ""
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    assert "warning: this processor has no bfloat16" in slow_dtype(EngineOptions("jax"), "bfloat16")


def test_what_computed_is_on_record(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from headstart.features.engines import options as engine_options

    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\nflags\t\t: fpu avx2 fma rdtscp avx512f avx512_bf16\nbugs\t: avx\n")
    monkeypatch.setattr(engine_options, "CPUINFO", str(cpuinfo))
    monkeypatch.setattr(engine_options, "gpu_available", lambda: False)
    monkeypatch.setattr(engine_options, "has_openvino", lambda: False)
    assert engine_options.instruction_sets() == ("fma", "avx2", "avx512f", "avx512_bf16") and engine_options.has_bfloat16()
    found = EngineOptions("tensorflow", 2, 4).provenance
    assert found == {"name": "tensorflow", "batch_size": 2, "streams": 4, "processor": found["processor"]}
    assert found["processor"] == f"{platform.machine()} with fma, avx2, avx512f, avx512_bf16"
    cpuinfo.write_text("Features\t: asimd\n")
    assert engine_options.instruction_sets() == ("asimd",) and not engine_options.has_bfloat16()


def test_auto_takes_tensorflow_for_a_network_that_openvino_can_t_read(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    installed("openvino")
    from headstart.features.engines import openvino_engine
    from headstart.features.engines import options as engine_options

    def unreadable(*_: Any) -> Any:
        raise UserError("not-available", "OpenVINO can't read this network")

    monkeypatch.setattr(openvino_engine, "network_of", unreadable)
    monkeypatch.setattr(engine_options, "gpu_available", lambda: False)
    assert make_engine(model, EngineOptions()).name == "tensorflow"
    with pytest.raises(UserError, match="can't read this network"):
        make_engine(model, EngineOptions("openvino"))


FIRST_USE = """
import subprocess
import sys
import threading
import keras, numpy as np
from headstart.features.engines.factory import make_engine
from headstart.features.engines.options import EngineOptions
image = keras.Input((8, 8, 3))
engine = make_engine(keras.Model(image, keras.layers.Conv2D(2, 3)(image)), EngineOptions("openvino", 2, 4))
together = threading.Barrier(8)
def work():
    together.wait()
    for _ in range(20):
        engine(np.zeros((2, 8, 8, 3), np.float32))
threads = [threading.Thread(target=work) for _ in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
"""


@pytest.mark.slow
def test_threads_that_come_first_together_do_not_wait_for_each_other_for_ever() -> None:
    installed("openvino")
    done = subprocess.run([sys.executable, "-c", FIRST_USE], timeout=120, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
