"""Which batch size and how many streams suit this machine: a few seconds of the real work, when a long job pays for them.

A choice never changes a feature: a batch size that gives other bits than the default one is passed over.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np

from features.backbone import Origin
from features.engine import LOADING, Engine, make_engine, shared_base, shared_engine
from features.engine_options import GPU_BATCH_SIZE, EngineOptions
from features.spec import FeatureSpec
from features.stream import ImageToRead, Unreadable, stream_features
from features.taps import tapped

WORTH_S = 60.0  # a job that takes less than this is not calibrated
TRIAL_S = 1.0
CLEARLY = 1.05  # times as fast as the default, to be taken in its place: timings vary
BATCHES_TO_TRY = (1, 4, 8)
GPU_BATCHES_TO_TRY = (32, 128, 256)


@dataclass(frozen=True)
class Tuned:
    """An engine, the images a second that it did, and what was tried, for the log; 0 and '' where nothing was measured."""

    engine: Engine
    rate: float = 0.0
    note: str = ""


@dataclass(frozen=True)
class Trial:
    """What an engine is tried on: some of a job's files, and how many images the whole job has."""

    files: tuple[ImageToRead, ...]
    images: int
    max_pixels: int

    @classmethod
    def of(cls, files: Iterable[ImageToRead], images: int, max_pixels: int, options: EngineOptions) -> Trial:
        """A trial on as many files as keep all streams busy for two batches."""
        return cls(tuple(islice(files, max(16, 2 * options.streams * options.batch_size))), images, max_pixels)


_TUNED: dict[tuple[FeatureSpec, Origin, EngineOptions], Tuned] = {}  # the last one of this process


def tuned_engine(spec: FeatureSpec, origin: Origin, options: EngineOptions, trial: Trial) -> Tuned:
    """The spec's engine for this process, tuned once, by the first who asks.

    Raises:
        UserError: as `engine.shared_engine` does.
    """
    with LOADING:
        key = (spec, origin, options)
        if key not in _TUNED:
            _TUNED.clear()
            _TUNED[key] = _tune(spec, origin, options, trial)
        return _TUNED[key]


def _tune(spec: FeatureSpec, origin: Origin, options: EngineOptions, trial: Trial) -> Tuned:
    default = shared_engine(spec, origin, options)
    if trial.images <= len(trial.files):
        return Tuned(default)
    few = replace(trial, files=trial.files[: default.streams * default.batch_size])  # a batch for each stream
    rate, _ = _try(default, spec, few, seconds=0)
    if (options.batch_size and options.streams) or trial.images / rate < WORTH_S:
        return Tuned(default, rate)

    base, _ = shared_base(origin, spec.image_size)
    model, _ = tapped(base, spec.taps, spec.preprocessing, spec.image_size)
    rate, expected = _try(default, spec, trial, TRIAL_S)
    best, tried = Tuned(default, rate), [_told(default, rate)]
    for other in _others(default, options):
        try:
            engine = make_engine(model, other, spec.compute_dtype)
            rate, features = _try(engine, spec, trial, TRIAL_S)
        except Exception as error:
            if type(error).__name__ != "ResourceExhaustedError":  # TensorFlow's: it does not fit into the device's memory
                raise
            continue
        same = all(map(_equal, features, expected))
        tried.append(_told(engine, rate) + ("" if same else ", other bits"))
        if same and rate > best.rate * (CLEARLY if best.engine is default else 1):
            best = Tuned(engine, rate)
    return replace(best, note=f"tried {'; '.join(tried)}")


def _others(default: Engine, options: EngineOptions) -> list[EngineOptions]:
    """What is tried beside the default: other batches; half the streams, for cores that are two threads of one."""
    settled, others = default.options, list[EngineOptions]()
    if not options.batch_size:
        batches = GPU_BATCHES_TO_TRY if settled.batch_size == GPU_BATCH_SIZE else BATCHES_TO_TRY
        others += [replace(settled, batch_size=batch) for batch in batches]
    if not options.streams and settled.streams >= 4:
        others.append(replace(settled, streams=settled.streams // 2))
    return others


def _try(engine: Engine, spec: FeatureSpec, trial: Trial, seconds: float) -> tuple[float, list[list[np.ndarray] | Unreadable]]:
    """Images a second from files to features, measured for some seconds but at least once, and the features."""

    def once() -> list[list[np.ndarray] | Unreadable]:
        return list(stream_features(trial.files, spec, engine, trial.max_pixels))

    if seconds:
        once()  # warms up
    started, done = time.monotonic(), 0
    while True:
        features = once()
        done += len(trial.files)
        if (passed := time.monotonic() - started) >= seconds:
            return done / max(passed, 1e-9), features


def _equal(mine: Sequence[np.ndarray] | Unreadable, theirs: Sequence[np.ndarray] | Unreadable) -> bool:
    if isinstance(mine, Unreadable) or isinstance(theirs, Unreadable):
        return mine == theirs
    return all(map(np.array_equal, mine, theirs))


def _told(engine: Engine, rate: float) -> str:
    return f"batches of {engine.batch_size} in {engine.streams} streams: {rate:,.0f} images/s"
