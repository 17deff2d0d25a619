"""The pipeline as runners get it: small, whatever the number of units, and with nothing in it but their names."""

from __future__ import annotations

import pathlib

import apache_beam as beam

from headstart.pipelines.extract_config import ExtractConfig
from headstart.pipelines.extract_shard import ExtractShard
from headstart.pipelines.plan import make_plan
from tests.conftest import small_backbone

LIMIT = 10 << 20  # bytes: what Dataflow takes


def test_the_graph_of_ten_thousand_units_is_small(photos: pathlib.Path, tmp_path: pathlib.Path) -> None:
    plan = make_plan(ExtractConfig(input=str(photos), store=str(tmp_path / "store"), **small_backbone()), "token")
    pipeline = beam.Pipeline()
    shards = [f"features-train.tfrecord-{number:05}-of-10000" for number in range(10_000)]
    _ = pipeline | "Units" >> beam.Create(shards) | "ExtractShard" >> beam.ParDo(ExtractShard(plan.job))
    graph = pipeline.to_runner_api().SerializeToString()
    assert len(graph) < LIMIT / 10
    assert str(photos).encode() not in graph  # paths of images stay in the store's work folder
