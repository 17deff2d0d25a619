"""The two Beam transforms by themselves: exact outputs, and what their counters say."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.metrics.metric import MetricsFilter
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner
from apache_beam.runners.runner import PipelineResult
from apache_beam.testing import test_pipeline
from apache_beam.testing.util import assert_that, equal_to

from headstart.features import tfrecord
from headstart.features.backbones.source import BackboneSource
from headstart.features.dataset.dead_letter import DeadLetter
from headstart.features.engines.options import EngineOptions
from headstart.features.places.claim import claimed
from headstart.features.spec import FeatureSpec, Tap
from headstart.features.store import record
from headstart.pipelines import extract_shard
from headstart.pipelines.extract_shard import ExtractShard
from headstart.pipelines.shard_job import ShardJob
from headstart.pipelines.survey import Surveyed, SurveyFiles, read_rows
from headstart.pipelines.units import write_unit
from headstart.pipelines.units.markers import MARKER_SUFFIX, read_marker, save_unit
from headstart.pipelines.units.work_unit import UnitExample, UnitExamples, WorkUnit
from tests.conftest import draw, raises

SPEC = FeatureSpec("Mean", "", (8, 8), (Tap("end", "avg", (3,)),), "none", store_dtype="float32")


class MeanEngine:
    """The mean of each channel, in place of a backbone."""

    batch_size, streams, options = 2, 1, EngineOptions("tensorflow", 2, 1)

    def __call__(self, pixels: np.ndarray) -> list[np.ndarray]:
        return [pixels.mean((1, 2))]


def counters(result: PipelineResult) -> dict[str, int]:
    """What a pipeline counted, by the counter's name."""
    found = result.metrics().query(MetricsFilter().with_namespace("ExtractShard"))["counters"]
    return {counter.key.metric.name: counter.committed for counter in found}


@pytest.fixture
def unit(tmp_path: Path) -> WorkUnit:
    """Three images, the second of which is cut short."""
    examples = []
    for number in range(3):
        path = tmp_path / f"{number}.png"
        draw("fern", np.random.default_rng(number)).save(path)
        if number == 1:
            path.write_bytes(path.read_bytes()[:200])
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        examples.append(UnitExample(path.name, str(path), digest, (0,), None))
    return WorkUnit("features-train.tfrecord-00000-of-00001", "train", SPEC.fingerprint, UnitExamples.of(examples), 10_000)


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ShardJob]:
    """With a mean in place of a backbone, in a folder of its own, under a claim."""
    monkeypatch.setattr(extract_shard, "shared_engine", lambda *_: MeanEngine())
    source, store = BackboneSource("EfficientNetLite0", "random:0"), str(tmp_path / "store")
    with claimed(store, "extraction", "--store") as claim:
        yield ShardJob(SPEC, source, ("fern",), store, "0001-test", claim.token, EngineOptions(), 10_000, max_dead=2)


def test_survey_files(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"text")
    draw("fern", np.random.default_rng(0)).save(tmp_path / "b.png")
    paths = [tmp_path / name for name in ("a.txt", "b.png", "gone.png")]
    (tmp_path / "00000.paths").write_text(f"{paths[0]}\0{paths[1]}")
    (tmp_path / "00001.paths").write_text(str(paths[2]))
    with test_pipeline.TestPipeline(runner=FnApiRunner()) as pipeline:
        assert_that(pipeline | beam.Create([0, 1]) | beam.ParDo(SurveyFiles(str(tmp_path))), equal_to([0, 1]))
    text, image = read_rows(str(tmp_path / "00000.jsonl"))
    assert (text.path, text.size, text.digest) == (str(paths[0]), 4, hashlib.sha256(b"text").hexdigest())
    assert text.problem.startswith("text, not a") and not image.problem
    assert read_rows(str(tmp_path / "00001.jsonl")) == [Surveyed(str(paths[2]), 0, 0, "", "No such file or directory")]


def test_extract_shard(unit: WorkUnit, job: ShardJob) -> None:
    save_unit(job.work, unit)
    pipeline = test_pipeline.TestPipeline(runner=FnApiRunner())
    assert_that(pipeline | beam.Create([unit.shard]) | beam.ParDo(ExtractShard(job)), equal_to([unit.shard]))
    result = pipeline.run()
    result.wait_until_finish()
    assert counters(result) == {"examples_stored": 2, "examples_dead": 1, "num_inferences": 2}
    marker = read_marker(job.work, unit)
    assert marker and (marker.planned, marker.computed, marker.shard.examples) == (3, 2, 2)
    (letter,) = marker.dead_letters
    key, digest = unit.examples[1][0], unit.examples[1].digest
    assert letter == DeadLetter(key, digest, "fern", "train", "decode", letter.reason) and letter.reason
    found = [record.decode(content, SPEC) for content in tfrecord.read_records(f"{job.folder}/{unit.shard}")]
    assert [(example.key, example.label) for example in found] == [("0.png", 0), ("2.png", 0)]


def test_a_shard_whose_worker_died_before_its_marker_is_taken_over(
    unit: WorkUnit, job: ShardJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A runner gives its unit to another worker, who makes the same bytes."""
    monkeypatch.setattr(write_unit, "MARKER_WAIT_S", 0.1)
    first = extract_shard.extract_unit(unit, job)
    marker = os.path.join(job.work, unit.shard + MARKER_SUFFIX)
    os.remove(marker)
    again = extract_shard.extract_unit(unit, job)
    assert (again.shard, again.dead_letters, again.computed) == (first.shard, first.dead_letters, first.computed)
    assert again == read_marker(job.work, unit)
    os.remove(marker)
    with open(os.path.join(job.folder, unit.shard), "ab") as shard:
        shard.write(b"of another processor")
    with raises("worker-failed"):
        extract_shard.extract_unit(unit, job)


def test_a_finished_unit_is_not_done_again(unit: WorkUnit, job: ShardJob, monkeypatch: pytest.MonkeyPatch) -> None:
    first = extract_shard.extract_unit(unit, job)
    monkeypatch.setattr(extract_shard, "shared_engine", None)
    assert extract_shard.extract_unit(unit, job) == first == read_marker(job.work, unit)
