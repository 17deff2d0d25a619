"""headstart extract: a folder or table of images in, a feature store out.

Survey, divide, plan, run one Beam pipeline whose work unit is one shard, finish. Any runner of Beam's takes the pipeline;
without `--runner` it runs in this process.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from headstart.features import interruption
from headstart.features.dataset.inputs import absolute_input
from headstart.features.errors import UserError
from headstart.features.places import place
from headstart.features.places.claim import CLAIMS, Claim, claimed
from headstart.features.runtime import quiet
from headstart.pipelines.extract_config import ExtractConfig

if TYPE_CHECKING:
    from headstart.features.store.feature_store import FeatureStore

ESTIMATE_SHARE = 0.02  # of a job, at most; what is shown while it works tells the time left of any


@quiet()
def extract(config: ExtractConfig) -> FeatureStore:
    """Makes or updates a feature store. Killed anywhere and called again, it goes on and ends with the same store.

    Args:
        config: what `headstart extract` takes.

    Returns:
        The complete store.

    Raises:
        UserError: for anything wrong with the input, the store's folder or the configuration.
    """
    from headstart.features.store.feature_store import FeatureStore
    from headstart.features.store.generations import GRACE_HOURS, clean
    from headstart.features.store.manifest import WORK_FOLDER, Provenance
    from headstart.pipelines.begin import begin
    from headstart.pipelines.extract_shard import ExtractShard
    from headstart.pipelines.finish import finish, save_backbone, versions
    from headstart.pipelines.plan import check_problems, is_done, make_plan
    from headstart.pipelines.plan_report import describe, estimate
    from headstart.pipelines.summary import closing_lines, work_lines
    from headstart.pipelines.survey import CACHE
    from headstart.pipelines.units.run_units import run_units

    with claimed_store(config.store) as claim:
        plan = make_plan(config, claim.token)  # 1. survey, divide, plan
        interruption.check()
        for note in plan.notes:
            _log(note)
        if plan.old and is_done(plan.old, plan):
            place.remove_folder(place.join(config.store, WORK_FOLDER))  # of a start that was killed once it was complete
            clean(config.store, GRACE_HOURS, time.time())
            _log(f"{config.store} already holds this: nothing to do")
            return plan.old
        check_problems(plan)
        clean(config.store, GRACE_HOURS, time.time())
        begin(plan)  # 2. what earlier starts finished stays, what else they left goes
        for line in (describe(plan)[-1], estimate(plan, ESTIMATE_SHARE)):
            _log(line)
        started = time.monotonic()
        with ThreadPoolExecutor(1) as beside:  # the network is saved while it works: a second that nobody waits for
            saved = beside.submit(save_backbone, plan)
            run_units(plan, ExtractShard(plan.job), "extract", config.pipeline_options)  # 3. one unit a shard
            backbone = saved.result()
        interruption.check()
        copied = plan.old.manifest.provenance.engines if plan.old else ()
        source = Provenance(absolute_input(config.input), plan.job.backbone_source.weights, versions(), copied)
        markers = finish(plan, source, backbone)  # 4. the manifest comes last
        place.remove_folder(place.join(config.store, WORK_FOLDER))
        store = FeatureStore.open(config.store)
        if any(letter.stage == "read" for letter in store.dead_letters):
            place.remove([place.join(config.store, CACHE)])  # what could not be read is surveyed anew next time
        for line in (*closing_lines(store, plan, time.monotonic() - started), *work_lines(markers, plan.done.values())):
            _log(line)
    return store


@quiet()
def dry_run(config: ExtractConfig) -> list[str]:
    """The plan as lines for people: images, classes, splits, shards, bytes out, time. Leaves no trace."""
    from headstart.pipelines.plan import check_problems, make_plan
    from headstart.pipelines.plan_report import describe, estimate

    with claimed_store(config.store) as claim:
        plan = make_plan(config, claim.token)
        check_problems(plan)
        return [*plan.notes, *describe(plan), estimate(plan)]


@contextlib.contextmanager
def claimed_store(store: str) -> Iterator[Claim]:
    """The claim on a store for this extraction.

    Raises:
        UserError: when the folder holds something else, or another extraction is writing to it.
    """
    from headstart.features.store.manifest import GENERATIONS, MANIFEST, WORK_FOLDER
    from headstart.pipelines.survey import DIGESTS

    held = {name for name in place.names_in(store, "--store") if name != CLAIMS and not name.startswith(DIGESTS)}
    if held and not held & {WORK_FOLDER, GENERATIONS, MANIFEST}:
        raise UserError(
            "output-taken", f"--store {store!r} holds something else than a feature store: give a new or empty folder"
        )
    with claimed(store, "extraction", "--store") as claim:
        try:
            yield claim
        finally:
            _leave_no_trace(store)


def _leave_no_trace(store: str) -> None:
    """Removes what holds nothing, so that a refused or a dry run leaves the store as it was; and what a killed run left."""
    from headstart.features.store.manifest import WORK_FOLDER, is_unfinished
    from headstart.pipelines.survey import CACHE, DIGESTS

    held = {entry.name for entry in place.entries(store)}
    if not any(name.startswith(f"{WORK_FOLDER}/") for name in held):
        place.remove_folder(place.join(store, WORK_FOLDER))
    caches = {name for name in held if name.startswith(DIGESTS)}
    unfinished = set(filter(is_unfinished, held))
    is_store = any(not name.startswith(f"{CLAIMS}/") for name in held - caches - unfinished)
    place.remove(place.join(store, name) for name in caches | unfinished if not is_store or name != CACHE)


def _log(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
