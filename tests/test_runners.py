"""The pipeline as runners get it: small, whatever the number of units, and with nothing in it but their names."""

from __future__ import annotations

import importlib
import os
import pathlib
from typing import Any

import apache_beam as beam
import pytest

from headstart.cli import main
from headstart.features.store.manifest import read_manifest
from headstart.pipelines.extract_config import ExtractConfig
from headstart.pipelines.extract_shard import ExtractShard
from headstart.pipelines.plan import make_plan
from headstart.pipelines.units.runner import beam_pipeline
from tests.conftest import extracted, small_backbone, small_backbone_flags

LIMIT = 10 << 20  # bytes: what Dataflow takes


def test_the_graph_of_ten_thousand_units_is_small(photos: pathlib.Path, tmp_path: pathlib.Path) -> None:
    plan = make_plan(ExtractConfig(input=str(photos), store=str(tmp_path / "store"), **small_backbone()), "token")
    pipeline = beam.Pipeline()
    shards = [f"features-train.tfrecord-{number:05}-of-10000" for number in range(10_000)]
    _ = pipeline | "Units" >> beam.Create(shards) | "ExtractShard" >> beam.ParDo(ExtractShard(plan.job))
    graph = pipeline.to_runner_api().SerializeToString()
    assert len(graph) < LIMIT / 10
    assert str(photos).encode() not in graph  # paths of images stay in the store's work folder


def test_prism_makes_the_same_store(photos: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`go install github.com/apache/beam/sdks/v2/go/cmd/prism@latest`, then PRISM=its path."""
    if not (binary := os.environ.get("PRISM")):
        pytest.skip("Beam's Prism is a binary of its own: name it in PRISM")
    store, flags = tmp_path / "store", [*small_backbone_flags(), "--runner", "PrismRunner", "--prism_location", binary]
    assert main(["extract", str(photos), "--store", str(store), *flags]) == 0
    assert "60 of 60 images stored" in capsys.readouterr().err
    here = extracted(photos, tmp_path / "here")
    made, expected = (read_manifest(str(folder)).generations[0] for folder in (store, here))
    assert made.splits == expected.splits


def test_in_a_notebook_a_pipeline_is_no_cell_s(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beam would import pandas there, which may be missing or of another version; and keep its temporary folder."""
    beam_module = importlib.import_module("apache_beam.pipeline")
    asked = list[Any]()
    monkeypatch.setattr(beam_module, "alter_label_if_ipython", lambda *given: asked.append(given))
    monkeypatch.setattr(beam_module, "is_in_ipython", lambda: bool(asked.append(())) or True)
    before = beam_module.alter_label_if_ipython
    with beam_pipeline([]) as pipeline:
        _ = pipeline | beam.Create([1]) | beam.Map(str)
    assert not asked and beam_module.alter_label_if_ipython is before
