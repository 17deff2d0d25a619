"""A backbone in int8: one file decides its features, made once on the training images, kept by the store and run by all."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import pathlib
import platform
import shutil
from typing import Any

import numpy as np
import pytest

from headstart.cli import main
from headstart.features.engines import noise, quantized
from headstart.features.engines import options as engine_options
from headstart.features.engines.factory import _engine, shared_engine
from headstart.features.engines.options import EngineOptions, slow_dtype
from headstart.features.engines.quantized import QUANTIZED
from headstart.features.errors import UserError
from headstart.features.store.feature_store import FeatureStore
from headstart.features.store.verify import faults
from headstart.pipelines import growth, quantizing
from headstart.pipelines.compact import compact
from headstart.pipelines.extract import extract
from headstart.pipelines.extract_config import ExtractConfig
from headstart.training.predicting.classify import classify_files
from headstart.training.runs.run_folder import Run
from tests.conftest import generation, little_base, shift_sample

pytest.importorskip("nncf", reason="NNCF is not installed (pip install 'headstart[int8]')")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A little network's file."""
    return little_base(tmp_path_factory.mktemp("base") / "little.keras")


def config(photos: pathlib.Path, store: pathlib.Path, base: pathlib.Path, **changes: Any) -> ExtractConfig:
    """Of int8, whether or not this processor is fast at it."""
    usual = {"backbone": str(base), "preprocessing": "tf", "compute_dtype": "int8", "engine": "openvino"}
    return ExtractConfig(**{"input": str(photos), "store": str(store), **usual, **changes})


@pytest.fixture(scope="module")
def small(photos: pathlib.Path, base: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    """`photos` in int8."""
    return extract(config(photos, tmp_path_factory.mktemp("int8") / "store", base))


def as_in_another_process() -> None:
    """Forgets what this process made or loaded."""
    quantized.remembered(b"")
    _engine.cache_clear()


def content(store: pathlib.Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in generation(store).iterdir()}


def test_its_features_are_near_those_in_float32_and_the_store_is_sound(
    small: FeatureStore, photos: pathlib.Path, base: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    exact = extract(config(photos, tmp_path / "exact", base, compute_dtype="float32"))
    for split in ("train", "validation", "test"):
        found, expected = (store.to_numpy(split).features.astype(np.float32) for store in (small, exact))
        assert 0 < np.abs(found - expected).mean() < 0.1 * np.abs(expected).mean()
    assert list(faults(small.path)) == []
    assert exact.spec.quantized == "" and "quantized" not in exact.spec.to_json()


def test_the_spec_has_the_digest_of_the_network_and_a_changed_one_is_found(
    small: FeatureStore, tmp_path: pathlib.Path
) -> None:
    network = generation(small.path) / QUANTIZED
    assert small.spec.quantized == hashlib.sha256(network.read_bytes()).hexdigest()
    copy = pathlib.Path(shutil.copytree(small.path, tmp_path / "copy"))
    damaged = generation(copy) / QUANTIZED
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"?")
    assert [fault for fault in faults(str(copy)) if QUANTIZED in fault]


def test_made_again_it_is_the_same_to_the_last_byte(
    small: FeatureStore, photos: pathlib.Path, base: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    as_in_another_process()
    again = extract(config(photos, tmp_path / "store", base))
    assert content(pathlib.Path(again.path)) == content(pathlib.Path(small.path))


def test_a_worker_that_made_nothing_runs_the_file(small: FeatureStore, tmp_path: pathlib.Path) -> None:
    pixels = np.random.default_rng(0).uniform(0, 255, (2, *small.spec.image_size, 3)).astype(np.float32)
    path, run = str(generation(small.path) / QUANTIZED), functools.partial(shared_engine, small.spec, None)
    as_in_another_process()
    first = run(EngineOptions("openvino"), path)(pixels)[0]
    as_in_another_process()
    np.testing.assert_array_equal(run(EngineOptions("openvino"), path)(pixels)[0], first)
    as_in_another_process()
    (tmp_path / "other").write_bytes(b"other")
    for wrong in (tmp_path / "other", tmp_path / "missing"):
        with pytest.raises(UserError, match=r"int8 network .* is missing or another one"):
            run(EngineOptions("openvino"), str(wrong))


@pytest.mark.parametrize(("append_from", "generations"), [(1, 2), (10_000, 1)], ids=["appended", "made anew"])
def test_a_store_that_grows_keeps_its_network(
    append_from: int,
    generations: int,
    photos: pathlib.Path,
    small: FeatureStore,
    base: pathlib.Path,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(growth, "APPEND_FROM", append_from)
    store = pathlib.Path(shutil.copytree(small.path, tmp_path / "store"))
    more = pathlib.Path(shutil.copytree(photos, tmp_path / "photos"))
    for number in range(3):
        source = next((more / "train" / "fern").iterdir())
        (more / "train" / "fern" / f"new{number}{source.suffix}").write_bytes(source.read_bytes() + bytes(number + 1))
    as_in_another_process()
    grown = extract(config(more, store, base))
    assert len(grown.examples("train")) == len(small.examples("train")) + 3 and grown.spec == small.spec
    assert [QUANTIZED in each.files for each in grown.manifest.generations] == [True, False][:generations]
    rows = {key: row for row, key in enumerate(grown.to_numpy("train").keys)}
    same = [rows[key] for key in small.to_numpy("train").keys]
    np.testing.assert_array_equal(grown.to_numpy("train").features[same], small.to_numpy("train").features)
    compacted = compact(str(store), 1000)
    assert [QUANTIZED in each.files for each in compacted.manifest.generations] == [True] and compacted.spec == small.spec
    assert list(faults(str(store))) == [] and (generation(store) / QUANTIZED).exists()


def test_a_run_on_it_computes_in_float32_and_says_how_far_that_is(
    small: FeatureStore, photos: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", small.path, "--run", str(tmp_path / "run"), "--epochs", "5"]) == 0
    run = Run.open(str(tmp_path / "run"))
    agreement = run.metrics["agreement"]
    assert 0 < agreement["compute_noise"] < 0.3 and 0 < agreement["compute_difference"] < 0.3
    assert agreement["largest_difference"] <= agreement["tolerance"] < 0.01  # the saved model, as strictly as in float32
    told = f"36 images to {agreement['largest_difference']:.1g}; stored ones, in int8, change a probability by "
    assert f"{told}{agreement['compute_difference']:.2g} at most" in capsys.readouterr().out
    files = sorted(str(path) for path in (photos / "test").rglob("*.*"))
    from_images = np.stack([np.asarray(row) for row in classify_files(run, files)])
    assert run.spec.compute_dtype == "int8" and run.spec.model_dtype == "float32"
    from_store = run.model().get_layer("head").predict_on_batch(small.to_numpy("test").features.astype(np.float32))
    by_key = dict(zip(small.to_numpy("test").keys, from_store))
    expected = np.stack([by_key[str(pathlib.Path(path).relative_to(photos))] for path in files])
    assert 0 < np.abs(from_images - expected).mean() < 0.1


def test_features_of_other_images_are_a_disagreement(small: FeatureStore, tmp_path: pathlib.Path, one_line: Any) -> None:
    copy = pathlib.Path(shutil.copytree(small.path, tmp_path / "copy"))
    shift_sample(copy)
    assert main(["train", str(copy), "--run", str(tmp_path / "run"), "--epochs", "1"]) == 2
    assert "disagree" in (said := one_line()) and "'train/" in said


def test_another_dtype_or_network_is_another_store(small: FeatureStore, photos: pathlib.Path, base: pathlib.Path) -> None:
    with pytest.raises(UserError, match="compute_dtype: int8 is not float32"):
        extract(config(photos, pathlib.Path(small.path), base, compute_dtype="float32"))
    other = dataclasses.replace(small.spec, quantized="0" * 64)
    assert other.fingerprint != small.spec.fingerprint
    assert small.spec.differences(other) == [f"quantized: {small.spec.quantized} is not {'0' * 64}"]


def test_images_that_it_can_be_calibrated_on(photos: pathlib.Path, base: pathlib.Path, tmp_path: pathlib.Path) -> None:
    tests_alone = shutil.copytree(photos / "test", tmp_path / "photos" / "test").parent
    with pytest.raises(UserError, match="calibrated on images of the split train, and none can be read"):
        extract(config(tests_alone, tmp_path / "store", base))
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (
            ["--engine", "tensorflow"],
            "--compute_dtype int8 is computed by OpenVINO, on a processor: leave --engine tensorflow",
        ),
        ([], "this processor has no int8, so --compute_dtype int8 would be slower than float32"),
    ],
)
def test_what_it_can_not_be_had_with(
    flags: list[str],
    told: str,
    photos: pathlib.Path,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(engine_options, "has_int8", lambda: False)
    asked = ["extract", str(photos), "--store", str(tmp_path / "store"), "--compute_dtype", "int8", *flags]
    assert main(asked) == 2
    said = capsys.readouterr().err
    assert told in said and len(said.strip().splitlines()) == 1
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("line", "fast"),
    [
        ("flags : fpu sse4_2 avx", False),
        ("flags : fpu sse4_2 avx fma avx2", True),  # twice as fast as float32 with most networks: docs/benchmarks.md
        ("flags : fpu avx2 avx512f avx512_vnni", True),
        ("Features : fp asimd", False),
        ("Features : fp asimd asimddp", True),
    ],
)
def test_processors_that_it_is_fast_on(line: str, fast: bool, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor : 0\n{line}\n")
    monkeypatch.setattr(engine_options, "CPUINFO", str(tmp_path / "cpuinfo"))
    assert engine_options.has_int8() is fast


def test_where_nncf_is_missing(photos: pathlib.Path, base: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantized, "has_nncf", lambda: False)
    with pytest.raises(UserError, match=r"int8 needs NNCF: pip install 'headstart\[int8\]'"):
        extract(config(photos, photos.parent / "none", base))
    monkeypatch.setattr(engine_options, "has_int8", lambda: False)
    assert slow_dtype(EngineOptions("openvino"), "int8").startswith("warning: this processor has no int8")
    monkeypatch.setattr(engine_options, "has_openvino", lambda: False)
    with pytest.raises(UserError, match=r"int8 is computed by OpenVINO: pip install 'headstart\[int8\]'"):
        slow_dtype(EngineOptions(), "int8")


def test_a_network_that_does_not_stand_it_is_refused_before_anything_is_computed(
    photos: pathlib.Path, base: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(noise, "MAX_NOISE", 1e-4)
    with pytest.raises(UserError, match=r"int8 moves the features of own:little by \d+% of their size, expected at most 0%"):
        extract(config(photos, tmp_path / "store", base))
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("machine", "sets", "noises", "best"),
    [
        ("x86_64", ("avx2", "avx512f"), [0.2, 0.1], 1),
        ("AMD64", ("X86_V3",), [0.1, 0.2], 0),  # as numpy has it, where Linux tells nothing
        ("x86_64", ("avx2", "avx512f"), [float("nan"), 0.1], 1),
        ("x86_64", ("avx2", "avx_vnni"), [0.2], 0),
        ("x86_64", ("avx2", "avx512f", "avx512_vnni"), [0.2], 0),
        ("aarch64", ("asimddp",), [0.2], 0),
    ],
)
def test_where_sums_of_16_bits_may_overflow_half_the_range_of_weights_is_tried_and_the_nearer_taken(
    machine: str,
    sets: tuple[str, ...],
    noises: list[float],
    best: int,
    photos: pathlib.Path,
    base: pathlib.Path,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    made, found = list[bytes](), iter(noises)

    def quantize(network: Any, images: Any, halved: bool) -> bytes:
        assert halved == bool(made)  # the whole range first
        made.append(quantized.quantize(network, images, halved))
        return made[-1]

    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(quantized, "instruction_sets", lambda: sets)
    monkeypatch.setattr(quantizing, "quantize", quantize)
    monkeypatch.setattr(quantizing, "noise_of", lambda exact, found_features: next(found))
    store = extract(config(photos, tmp_path / "store", base))
    assert len(made) == len(noises) and store.spec.quantized == hashlib.sha256(made[best]).hexdigest()
    assert f"features move by {noises[best]:.1%} of their size" in "".join(capsys.readouterr())
    assert list(faults(store.path)) == []


def test_half_the_range_is_half_of_it(base: pathlib.Path) -> None:
    from headstart.features.backbones.backbone import resolve_backbone
    from headstart.features.backbones.source import BackboneSource
    from headstart.features.engines.openvino_engine import network_of

    backbone = resolve_backbone(BackboneSource.parse(str(base)), (32, 32), "tf").extractor
    images = list(np.random.default_rng(0).uniform(0, 255, (4, 32, 32, 3)).astype(np.float32))
    operations = quantized.read(quantized.quantize(network_of(lambda: backbone), images, halved=True)).get_ordered_ops()
    constants = [each for each in operations if each.get_type_name() == "Constant"]
    weights = [each.get_data() for each in constants if each.get_element_type().get_type_name() == "i8"]
    assert weights and all(np.abs(each.astype(int)).max() * 255 * 2 < 2**15 for each in weights)
