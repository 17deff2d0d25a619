"""Calibration: only where it pays, only among choices that do not change a feature, once a process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from features import calibrate
from features.backbone import Origin
from features.calibrate import Trial, tuned_engine
from features.engine import shared_base
from features.engine_options import EngineOptions
from features.spec import FeatureSpec, Tap
from features.stream import ImageToRead
from tests.conftest import tapped

ORIGIN = Origin("EfficientNetLite0", "random:0")


@pytest.fixture
def spec() -> FeatureSpec:
    base, digest = shared_base(ORIGIN, (32, 32))
    _, taps = tapped("EfficientNetLite0", base, [Tap("")])
    return FeatureSpec("EfficientNetLite0", digest, (32, 32), taps, "lite")


@pytest.fixture
def files(tmp_path: Path) -> list[ImageToRead]:
    for number in range(20):
        Image.fromarray(np.full((40, 40, 3), 10 * number, np.uint8)).save(tmp_path / f"{number}.png")
    return [ImageToRead(str(tmp_path / f"{number}.png")) for number in range(20)]


@pytest.fixture(autouse=True)
def anew(monkeypatch: pytest.MonkeyPatch) -> None:
    calibrate._TUNED.clear()
    monkeypatch.setattr(calibrate, "TRIAL_S", 0.05)


def options(**given: Any) -> EngineOptions:
    return EngineOptions(streams=2, **given)


def test_a_short_job_is_not_calibrated_but_its_rate_is_known(spec: FeatureSpec, files: list[ImageToRead]) -> None:
    tuned = tuned_engine(spec, ORIGIN, options(), Trial.of(files, 20, 10**6, options(batch_size=2)))
    assert tuned.rate > 0 and tuned.note == "" and tuned.engine.batch_size == 2
    calibrate._TUNED.clear()
    few = tuned_engine(spec, ORIGIN, options(), Trial.of(files, 3, 10**6, options(batch_size=2)))
    assert few.rate == 0


def test_a_long_job_tries_batch_sizes_once(
    spec: FeatureSpec, files: list[ImageToRead], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    real = calibrate.make_engine
    monkeypatch.setattr(calibrate, "make_engine", lambda *given: made.append(given[1].batch_size) or real(*given))
    trial = Trial.of(files, 10**7, 10**6, options(batch_size=2))
    tuned = tuned_engine(spec, ORIGIN, options(), trial)
    assert made == list(calibrate.BATCHES_TO_TRY)
    assert all(f"batches of {size} in 2 streams: " in tuned.note for size in (2, *made))
    assert tuned_engine(spec, ORIGIN, options(), trial) is tuned and len(made) == len(calibrate.BATCHES_TO_TRY)


def test_what_is_given_is_not_tried(spec: FeatureSpec, files: list[ImageToRead]) -> None:
    given = options(batch_size=3)
    tuned = tuned_engine(spec, ORIGIN, given, Trial.of(files, 10**7, 10**6, given))
    assert tuned.note == "" and tuned.engine.batch_size == 3


def test_a_batch_size_that_gives_other_bits_is_passed_over(
    spec: FeatureSpec, files: list[ImageToRead], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = calibrate.make_engine

    class Other:
        def __init__(self, engine: Any) -> None:
            self.engine, self.batch_size, self.streams = engine, engine.batch_size, engine.streams

        def __call__(self, pixels: np.ndarray) -> list[np.ndarray]:
            return [np.nextafter(each, np.float32(np.inf)) for each in self.engine(pixels)]

    monkeypatch.setattr(calibrate, "make_engine", lambda *given: Other(real(*given)))
    monkeypatch.setattr(calibrate, "CLEARLY", 0.0)  # whatever is faster at all
    tuned = tuned_engine(spec, ORIGIN, options(), Trial.of(files, 10**7, 10**6, options(batch_size=2)))
    assert tuned.engine.batch_size == 2 and tuned.note.count("other bits") == len(calibrate.BATCHES_TO_TRY)
