"""The first step of an extraction that writes: what earlier starts of it finished is taken over, what else they left goes.

Only whoever holds the claim on a store comes here.
"""

from __future__ import annotations

from collections.abc import Mapping

from headstart.features.places import place
from headstart.features.store.generations import names_below, unpublished
from headstart.features.store.manifest import GENERATIONS, WORK_FOLDER
from headstart.pipelines.extraction_plan import ExtractionPlan
from headstart.pipelines.units.markers import ShardMarker, write_marker
from headstart.pipelines.units.unit_job import UnitJob


def begin(plan: ExtractionPlan) -> None:
    """Takes over what earlier starts of a plan finished, and removes what else ended early: nobody will ever name it."""
    job = plan.job
    for name in names_below(place.join(job.store, WORK_FOLDER)) - {job.generation}:
        place.remove_folder(place.join(job.store, WORK_FOLDER, name))
    for name in unpublished(job.store, plan.old.manifest if plan.old else None) - {job.generation}:
        place.remove_folder(place.join(job.store, GENERATIONS, name))
    take_over(job, plan.done)
    if plan.quantized:
        place.write(job.quantized, plan.quantized)


def take_over(job: UnitJob, done: Mapping[str, ShardMarker]) -> None:
    """Makes what earlier starts of a job finished this start's own, and removes what else they left.

    Args:
        job: this start's.
        done: the markers of finished units, by their files' names.
    """
    for marker in done.values():
        write_marker(job.work, marker)
    for name in names_below(job.work_folders) - {job.token}:
        place.remove_folder(place.join(job.work_folders, name))
    stale = [entry.name for entry in place.entries(job.folder) if entry.name not in done]
    place.remove(place.join(job.folder, name) for name in stale)
