"""All that is known before the backbone runs, down to the work units."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from headstart.features.backbones.backbone import Backbone
from headstart.features.dataset.dead_letter import DeadLetter
from headstart.features.dataset.examples import Examples
from headstart.features.dataset.splits import Division
from headstart.features.store.feature_store import FeatureStore
from headstart.features.store.manifest import Generation
from headstart.pipelines.shard_job import ShardJob
from headstart.pipelines.units.markers import ShardMarker
from headstart.pipelines.units.work_unit import WorkUnit


@dataclass(frozen=True)
class ExtractionPlan:
    """All that is known before the backbone runs.

    unread are files that could not be read at all; problems says, by the key, why a file will be a dead letter; done are the
    markers of the shards that earlier starts of this plan finished; old is the complete store that the new one takes the
    place of. Where that keeps all it has, kept are its generations, and added the examples of the new one. carried are dead
    letters of the older store that stay. quantized is the file of the network, where that is in int8.
    """

    backbone: Backbone | None  # None where nothing is computed
    job: ShardJob
    examples: Examples  # in the store's order
    units: tuple[WorkUnit, ...]
    dataset_digest: str
    unread: tuple[DeadLetter, ...]
    division: Division
    groups_declared: bool
    left_out: dict[str, int]  # why -> files
    problems: dict[str, str]
    notes: tuple[str, ...]
    done: Mapping[str, ShardMarker] = field(default_factory=dict)
    old: FeatureStore | None = None
    kept: tuple[Generation, ...] = ()
    added: Examples = field(default_factory=lambda: Examples.of(()))
    carried: tuple[DeadLetter, ...] = ()
    quantized: bytes = b""

    @property
    def of_generation(self) -> Examples:
        """The examples that the new generation is of."""
        return self.added if self.kept else self.examples

    @property
    def standing(self) -> int:
        """Images of the generations that are kept."""
        return len(self.examples) - len(self.of_generation)

    @property
    def lost(self) -> tuple[DeadLetter, ...]:
        """What is a dead letter before any unit runs."""
        return (*self.carried, *self.unread)

    @property
    def settled(self) -> int:
        """Images of which no unit decides."""
        return len(self.unread) + self.standing

    @property
    def planned(self) -> int:
        """Images found, readable or not."""
        return len(self.examples) + len(self.unread)

    @property
    def to_do(self) -> list[WorkUnit]:
        """The units that no earlier start finished."""
        return [unit for unit in self.units if unit.shard not in self.done]

    @property
    def to_compute(self) -> int:
        """Images that have to be read."""
        return sum(unit.to_compute for unit in self.to_do)

    @property
    def to_copy(self) -> int:
        """Images whose features an older shard holds."""
        return sum(unit.examples.to_copy for unit in self.to_do)

    @property
    def inferences(self) -> int:
        """Images that go through the backbone, each view of an image being one."""
        return sum(unit.views * unit.to_compute for unit in self.to_do)
