"""headstart compact: a store of several generations in, the same store of one out. Reads no image, and runs no network."""

from __future__ import annotations

from headstart.features.backbones.source import CUSTOM, BackboneSource
from headstart.features.dataset.examples import plan_order
from headstart.features.engines.options import EngineOptions
from headstart.features.engines.stream import Unreadable
from headstart.features.places import place
from headstart.features.runtime import quietly
from headstart.features.store.feature_store import FeatureStore
from headstart.features.store.manifest import WORK_FOLDER
from headstart.pipelines.begin import begin
from headstart.pipelines.extract import claimed_store
from headstart.pipelines.extract_shard import CopyShard
from headstart.pipelines.extraction_plan import ExtractionPlan
from headstart.pipelines.finish import finish, save_backbone
from headstart.pipelines.quantizing import network_in
from headstart.pipelines.shard_job import ShardJob
from headstart.pipelines.units.markers import markers_of
from headstart.pipelines.units.run_units import run_units
from headstart.pipelines.units.stored_features import StoredFeatures
from headstart.pipelines.units.work_unit import cut_units, generation_name


@quietly
def compact(path: str, examples_per_shard: int) -> FeatureStore:
    """Makes one generation of a store's several; killed anywhere and called again, it goes on. Of one, it is left as it is.

    Args:
        path: the store's folder.
        examples_per_shard: at most.

    Returns:
        The store. Its shards are what they would be if it had been made at once.

    Raises:
        UserError: when there is no complete store, or another job writes to it.
    """
    with claimed_store(path) as claim:
        old = FeatureStore.open(path)
        if len(old.manifest.generations) == 1:
            place.remove_folder(place.join(path, WORK_FOLDER))  # of a start that was killed once it was done
            return old
        plan = _plan(old, claim.token, examples_per_shard)
        begin(plan)
        lost = {letter.key: Unreadable(letter.stage, letter.reason) for letter in old.dead_letters if letter.digest}
        run_units(plan, CopyShard(plan.job, lost), "compact", ())
        finish(plan, old.manifest.provenance, save_backbone(plan))
        place.remove_folder(place.join(path, WORK_FOLDER))
    return FeatureStore.open(path)


def _plan(old: FeatureStore, token: str, examples_per_shard: int) -> ExtractionPlan:
    """All is copied, in the order in which it would be if it had been made at once."""
    manifest, table = old.manifest, old.table.take(plan_order(old.table))
    units = cut_units(
        table, old.class_names, table.keys, StoredFeatures.in_store(old), old.spec, examples_per_shard, manifest.max_pixels
    )
    generation = generation_name(manifest.number + 1, units, manifest.dataset_digest)
    nothing = BackboneSource(CUSTOM, "")  # is computed
    job = ShardJob(
        old.spec, nothing, manifest.class_names, place.absolute(old.path), generation, token, EngineOptions(),
        manifest.max_pixels, len(old.dead_letters), manifest.label_delimiter,
    )  # fmt: skip
    return ExtractionPlan(
        backbone=None,
        job=job,
        examples=table,
        units=tuple(units),
        dataset_digest=manifest.dataset_digest,
        unread=tuple(letter for letter in old.dead_letters if not letter.digest),
        division=manifest.division,
        groups_declared=manifest.groups_declared,
        left_out=manifest.left_out,
        problems={},
        notes=(),
        done=markers_of(job, units),
        old=old,
        quantized=network_in(old),
    )
