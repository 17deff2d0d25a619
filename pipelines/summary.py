"""What an extraction came to, in lines for people, from the store and from what workers said of their units."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from headstart.features.dataset.dataset_table import DEAD_LETTERS, split_counts
from headstart.features.dataset.dead_letter import by_class
from headstart.features.engines.stopwatch import STEPS
from headstart.features.formatting import counted
from headstart.features.places import place
from headstart.features.store.feature_store import FeatureStore
from headstart.pipelines.extraction_plan import ExtractionPlan
from headstart.pipelines.units.markers import ShardMarker

MAX_REASONS = 5  # of dead letters
LONG_S = 10.0  # of work, from which on it is worth to know where it went


def closing_lines(store: FeatureStore, plan: ExtractionPlan, seconds: float) -> list[str]:
    """What was stored, and what was lost."""
    totals, manifest = store.manifest.totals, store.manifest
    done = f"{store.path}: {totals.stored:,} of {totals.planned:,} images stored in {seconds:.1f} s"
    if not totals.dead:
        return [done]
    files = [place.join(store.path, each.folder, DEAD_LETTERS) for each in manifest.generations]
    where = " and ".join(file for file in files if place.read(file)) if len(files) > 1 else files[0]
    by = ", ".join(f"{split or 'no split'} {count}" for split, count in manifest.dead_by_split.items())
    lines = [f"{done}; {counted(totals.dead, 'dead letter')} ({by}), each with its reason in {where}"]
    why = Counter(f"{letter.stage}: {letter.reason}" for letter in store.dead_letters)
    lines += [f"dead       {count:,}  {reason}" for reason, count in why.most_common(MAX_REASONS)]
    planned = Counter({name: each.total() for name, each in split_counts(plan.examples, manifest.class_names).items()})
    planned[""] = plan.examples.labels.counts().get((), 0)
    planned.update(by_class(plan.unread, manifest.label_delimiter))
    return lines + uneven_dead_letters(planned, manifest.dead_by_class)


def uneven_dead_letters(planned: Counter[str], dead: dict[str, int]) -> list[str]:
    """A line for each class that lost far more of its images than the others together: 3 or more, and 3 times the share."""
    lines = []
    for label, lost in dead.items():
        others = (sum(dead.values()) - lost) / max(1, planned.total() - planned[label])
        share = lost / planned[label]
        if lost >= 3 and share > 3 * others:
            lines.append(f"warning: the class {label!r} lost {share:.1%} of its images, the others {others:.1%}")
    return lines


def work_lines(markers: Sequence[ShardMarker], earlier: Iterable[ShardMarker] = ()) -> list[str]:
    """How many images were computed and copied, and where the time of all threads of all workers went, if it was long.

    Args:
        markers: of all units.
        earlier: those of them that earlier starts of the job finished.
    """
    seconds = {step: sum(marker.seconds.get(step, 0.0) for marker in markers) for step in STEPS}
    if sum(seconds.values()) < LONG_S:
        return []
    computed = sum(marker.computed for marker in markers)
    copied = sum(marker.shard.examples for marker in markers) - computed
    before = sum(marker.shard.examples for marker in earlier)
    whose = f" ({before:,} images by earlier starts, whose time counts too)" if before else ""
    parts = ", ".join(f"{step} {taken:,.1f} s" for step, taken in seconds.items() if taken >= 0.05)
    return [f"work       {computed:,} images computed, {copied:,} copied{whose}; of all threads together: {parts}"]
