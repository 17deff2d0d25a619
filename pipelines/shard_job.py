"""What all work units of an extraction share: where they work, what with, and how many images they may lose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from headstart.features.backbones.source import BackboneSource
from headstart.features.dataset.dead_letter import DeadLetter
from headstart.features.engines.options import EngineOptions
from headstart.features.places import place
from headstart.features.spec import FeatureSpec
from headstart.features.store.manifest import GENERATIONS, WORK_FOLDER


@dataclass(frozen=True)
class ShardJob:
    """What all units of an extraction share; small enough to travel with each of them.

    store is the store's absolute path, generation the name of the folder in it that the shards go to, token that
    of the claim under which all of it is done. engine is what was asked for, which each worker settles for its own machine;
    max_dead, how many images may be lost.
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

    @property
    def folder(self) -> str:
        """Where the shards go, and later all that stands beside them."""
        return place.join(self.store, GENERATIONS, self.generation)

    @property
    def work_folders(self) -> str:
        """Where this generation's starts have their work folders."""
        return place.join(self.store, WORK_FOLDER, self.generation)

    @property
    def work(self) -> str:
        """Where units, heartbeats and markers of this start lie: what a worker of an earlier one still writes is not read."""
        return place.join(self.work_folders, self.token)

    def too_many_dead(self, letters: Sequence[DeadLetter]) -> str:
        """Why the job has to stop, when more images failed than may; '' otherwise."""
        if len(letters) <= self.max_dead:
            return ""
        first = "; ".join(f"{letter.key} ({letter.stage}: {letter.reason})" for letter in letters[:3])
        return (
            f"{len(letters)} images can't be read, more than the {self.max_dead} that --max_bad_fraction allows. The first: "
            f"{first}. Fix or remove them, or raise --max_bad_fraction; what is done so far is kept"
        )
