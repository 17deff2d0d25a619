"""A plan in, lines for people out: what there is to do, and how long it will take."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from itertools import islice

from headstart.features.engines.base import Engine
from headstart.features.engines.factory import shared_engine
from headstart.features.engines.stream import ImageToRead, stream_features
from headstart.features.formatting import counted, pace, printable
from headstart.features.spec import FeatureSpec
from headstart.pipelines.extraction_plan import ExtractionPlan

FIRST_PROBLEMS = 3  # that are named
PASSES = 2  # of an estimate
LONG_PASS_S = 1.0  # an estimate that takes this long is not taken twice


def describe(plan: ExtractionPlan) -> list[str]:
    """The plan in lines, the last of which says how much is to be done."""
    spec, class_names = plan.job.spec, plan.job.class_names
    per_split = Counter(unit.split for unit in plan.units)
    images = Counter({split: 0 for split in per_split})
    for unit in plan.units:
        images[unit.split] += len(unit.examples)
    height, width = spec.image_size
    taps = ", ".join(f"{tap.name} {'x'.join(map(str, tap.shape))}" for tap in spec.taps)
    names = ", ".join(class_names[:10]) + (", ..." if len(class_names) > 10 else "")
    size = spec.bytes_per_example * sum(unit.views * len(unit.examples) for unit in plan.units)
    lines = [
        f"backbone  {spec.backbone} at {height}x{width}, {taps}, {spec.store_dtype}",
        f"classes   {len(class_names)}: {names}",
    ]
    lines += [
        f"split     {split}: {counted(images[split], 'image')} in {counted(shards, 'shard')}"
        for split, shards in per_split.items()
    ]
    if spec.views > 1:
        lines.append(f"views     {spec.views} of each training image, augmented ({spec.augmentation.policy})")
    lines += _problem_lines(plan)
    done = len(plan.examples) - plan.to_compute - plan.to_copy
    computed = f"{f'{done:,} done already, ' if done else ''}{plan.to_compute:,} to compute, {plan.to_copy:,} to copy"
    return [
        *lines,
        f"extract: {counted(plan.planned, 'image')} ({computed}), {counted(len(plan.units), 'shard')}, "
        f"{size / 1e6:,.1f} MB of features",
    ]


def _problem_lines(plan: ExtractionPlan) -> list[str]:
    """The files that are known to be no images, and how many more may turn out to be none."""
    if not plan.problems:
        return []
    count, most = len(plan.problems), plan.job.max_dead
    such = "; ".join(f"{printable(key)} ({problem})" for key, problem in sorted(plan.problems.items())[:FIRST_PROBLEMS])
    more = f"{most - count:,} more may fail when decoded" if most > count else "one more that can't be decoded stops it"
    return [
        f"unread    {counted(count, 'file')} will be dead letters: {such}{'; ...' if count > FIRST_PROBLEMS else ''}",
        f"          the job goes on with {most:,} at most (--max_bad_fraction): {more}",
    ]


def estimate(plan: ExtractionPlan, share: float = 1.0) -> str:
    """The engine, and the time to go from all of reading, decoding, resizing and the backbone on a few of the images.

    Args:
        plan: what is to be done.
        share: the most of the whole job that the estimate may cost; where it would cost more, the time is left out.
    """
    if not plan.to_compute:
        return "time      that of copying" if plan.to_do else "time      none: every shard is done already"
    job, spec = plan.job, plan.job.spec
    engine = shared_engine(spec, job.backbone_source, job.engine, job.quantized)
    views = max(unit.views for unit in plan.to_do if unit.to_compute)  # of nearly all images, where there are several
    units = [unit for unit in plan.to_do if unit.views == views]
    fresh = (ImageToRead(e.path, e.digest) for unit in units for e in unit.examples if e.stored_at is None)
    few = list(islice(fresh, engine.streams * max(1, engine.batch_size // views)))  # a batch for each stream
    kind = f"{engine.name} in {spec.compute_dtype}, batches of {engine.batch_size}, {engine.streams} streams"
    if PASSES * len(few) * views > share * plan.inferences:
        return f"engine    {kind}"
    rate = _rate(engine, spec, few, job.max_pixels, views)
    what = "images" if views == 1 else "views"
    return f"engine    {kind}\ntime      about {plan.inferences / rate:,.0f} s at {pace(rate, what)} here"


def _rate(engine: Engine, spec: FeatureSpec, images: Sequence[ImageToRead], max_pixels: int, views: int) -> float:
    """Views a second from files to features; the first pass warms up, and is what counts where it is long."""
    for _ in range(PASSES):
        started = time.monotonic()
        for _ in stream_features(images, spec, engine, max_pixels, views if views > 1 else 0):
            pass
        if (passed := time.monotonic() - started) >= LONG_PASS_S:
            break
    return len(images) * views / max(passed, 1e-9)
