"""What all work units of an extraction share: where they work, what with, and how many images they may lose."""

from __future__ import annotations

from dataclasses import dataclass

from headstart.features.backbones.source import BackboneSource
from headstart.features.engines.options import EngineOptions
from headstart.features.engines.quantized import QUANTIZED
from headstart.features.places import place
from headstart.features.spec import FeatureSpec
from headstart.features.store.manifest import GENERATIONS
from headstart.pipelines.units.unit_job import UnitJob


@dataclass(frozen=True)
class ShardJob(UnitJob):
    """An extraction's job, whose units are shards of a generation of the store.

    engine is what was asked for, which each worker settles for its own machine.
    """

    spec: FeatureSpec
    backbone_source: BackboneSource
    class_names: tuple[str, ...]
    store: str
    generation: str
    token: str
    engine: EngineOptions
    max_pixels: int
    max_dead: int
    label_delimiter: str = ""

    @property
    def folder(self) -> str:
        """Where the shards go, and later all that stands beside them."""
        return place.join(self.store, GENERATIONS, self.generation)

    @property
    def quantized(self) -> str:
        """Where workers find the network, if the spec is of one in int8; '' otherwise: an engine outlasts its job."""
        return place.join(self.work, QUANTIZED) if self.spec.quantized else ""
