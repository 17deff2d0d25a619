"""headstart probe: feature stores in, a linear probe for each of their taps, and a table that says which one transfers.

The test split is never opened: regularisation is chosen inside the training split, the tap on the validation split.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from headstart.features import files
from headstart.features.dataset.examples import Example, drawn_together
from headstart.features.errors import UserError
from headstart.features.places import mirror, place
from headstart.features.progress import Progress
from headstart.features.runtime import quietly
from headstart.features.shown import Shown
from headstart.features.spec import DTYPE_BYTES, Tap
from headstart.features.store.feature_store import FeatureStore
from headstart.training.evaluation.report import ends
from headstart.training.pages.page import REPORT
from headstart.training.plots.accuracy_by_depth import accuracy_by_depth
from headstart.training.probing import ridge
from headstart.training.probing.depth_points import depth_points
from headstart.training.probing.probe_config import ProbeConfig
from headstart.training.probing.probe_page import write_page
from headstart.training.scoring.bootstrap import RANKING, bootstrap_intervals, bounded_replicates
from headstart.training.scoring.comparisons import PairedDifference, against_best
from headstart.training.scoring.intervals import accuracy_interval
from headstart.training.scoring.set_comparisons import sets_against_best
from headstart.training.scoring.set_measures import mean_average_precision, telling_of, value

TABLE, RESULT, PLOT = "probe.csv", "probe.json", "probe.png"
SPLITS = ("train", "validation")
HARDLY = 0.03  # by how much a smaller tap may be worse at most to be named
WORTH_TELLING = 0.01


@dataclass(frozen=True)
class TapProbe:
    """One tap's probe. Accuracy with its 95% interval is the validation split's, and was used to choose the tap.

    Where images may have several labels, it is the mean average precision.
    """

    store: str
    backbone: str
    tap: str
    depth: float
    accuracy: float
    low: float
    high: float
    features: int
    bytes_per_image: int
    regularisation: float
    training_accuracy: float  # cross-validated
    correct: np.ndarray  # bool [N], for comparing pairs; of several labels the scores, float [N, C]


@dataclass(frozen=True, repr=False)
class ProbeResult(Shown):
    """All probes, the most accurate first (ties by cross-validation), each compared with the first, and what to do."""

    probes: list[TapProbe]
    against_best: list[PairedDifference]
    advice: str
    seconds: float
    measure: str = "accuracy"  # what accuracies are: of several labels an image, the mean average precision

    def words(self) -> str:
        """Each tap's accuracy, or mean average precision, on validation, and the advice."""
        width = max(len(found.tap) for found in self.probes)
        rows = [f"{each.tap:<{width}} {each.accuracy:6.1%} {ends(each.low, each.high)}" for each in self.probes]
        return "\n".join([*rows, f"Advice: {self.advice}"])


@quietly
def probe(config: ProbeConfig) -> ProbeResult:
    """Probes every tap and writes RUN/report.html, probe.csv, probe.json and probe.png.

    Raises:
        UserError: for a store that is not complete or lacks a split, stores of other images or classes, or a folder that holds
            something else.
    """
    started = time.monotonic()
    check_output_folder(config.run)
    stores = [FeatureStore.open(path) for path in config.stores]
    rows, groups = dict[str, list[list[int]]](), dict[str, list[str]]()
    for split in SPLITS:
        rows[split], groups[split] = _common_rows(stores, split, config.max_examples)
    taps = [(store, index, tap) for index, store in enumerate(stores) for tap in store.spec.taps]
    progress, probes = Progress("probe", len(taps), unit="taps"), list[TapProbe]()
    for store, index, tap in taps:
        probes.append(_probe_tap(store, tap, {split: rows[split][index] for split in SPLITS}, groups, config.seed))
        progress.update(len(probes))
    progress.close()
    probes.sort(key=_rank)
    answers, held_out = [found.correct for found in probes], groups["validation"]
    if stores[0].label_delimiter:
        measure, truth = "mean average precision", stores[0].labels("validation")[rows["validation"][0]]
        against = sets_against_best(truth, answers, held_out, config.seed)
    else:
        measure, against = "accuracy", against_best(answers, held_out, config.seed)
    result = ProbeResult(probes, against, advise(probes, against), round(time.monotonic() - started, 2), measure)
    _save(config, result, stores, {split: len(rows[split][0]) for split in SPLITS})
    return result


def _rank(found: TapProbe) -> tuple[float, float, int]:
    """Most accurate first, then by cross-validation, then the smallest; nan, of a single group, would leave no order."""
    validated = 0.0 if math.isnan(found.training_accuracy) else found.training_accuracy
    return -found.accuracy, -validated, found.bytes_per_image


def check_output_folder(run: str) -> None:
    """Looks at the folder that a probe is to be left in.

    Raises:
        UserError: when it holds something else.
    """
    if place.names_in(run, "--run") - {TABLE, RESULT, PLOT, REPORT}:
        raise UserError("output-taken", f"--run {run!r} holds something else than a probe: give a new or empty folder")


def _common_rows(stores: Sequence[FeatureStore], split: str, limit: int) -> tuple[list[list[int]], list[str]]:
    """For each store the rows of a split to use, the same images in the same order; and the groups of these images.

    Raises:
        UserError: for a store without the split, without an image in common, or with other labels for the same ones.
    """
    tables = []
    for store in stores:
        if split not in store.splits:
            raise UserError(
                "missing-split", f"{store.path!r} has no {split} split, and a probe needs it; it has {', '.join(store.splits)}"
            )
        examples = store.examples(split)
        tables.append(dict(zip(_occurrences(examples), enumerate(examples))))
    names = sorted(name for name in tables[0] if all(name in table for table in tables))  # by digest: any part is a sample
    if not names:
        raise UserError(
            "other-dataset", f"{stores[0].path!r} and the other stores have no image of the {split} split in common"
        )
    for store, table in zip(stores, tables):
        same = store.class_names == stores[0].class_names and bool(store.label_delimiter) == bool(stores[0].label_delimiter)
        if not same or any(table[name][1].labels != tables[0][name][1].labels for name in names):
            raise UserError(
                "other-dataset", f"{store.path!r} and {stores[0].path!r} label the same images differently: extract both again"
            )
    if (left := max(map(len, tables)) - len(names)) > 0:
        print(f"warning: {left} images of the {split} split are not in every store and are left out", file=sys.stderr)
    chosen = [tables[0][name][1] for name in names[:limit]]
    return [[table[name][0] for name in names[:limit]] for table in tables], drawn_together(chosen)


def _occurrences(examples: Sequence[Example]) -> Iterator[tuple[str, int]]:
    """Content digests, numbered where a content comes more than once."""
    seen = Counter[str]()
    for example in examples:
        yield example.digest, seen[example.digest]
        seen[example.digest] += 1


def _probe_tap(store: FeatureStore, tap: Tap, rows: dict[str, list[int]], groups: dict[str, list[str]], seed: int) -> TapProbe:
    (features, labels), (unseen, truth) = (read_tap(store, tap, split, rows[split]) for split in SPLITS)
    if store.label_delimiter:
        fitted = ridge.fit_sets(features, labels, groups["train"], seed)
        correct = fitted.scores(unseen).astype(np.float64)
        measure = mean_average_precision(truth, correct)
        accuracy = float(value(measure, len(truth)))
        replicates, (_, telling) = bounded_replicates(*truth.shape), telling_of(truth, groups["validation"])
        low, high = bootstrap_intervals({"": measure}, groups["validation"], seed, replicates, {"": RANKING}, telling)[""]
    else:
        fitted = ridge.fit(features, labels, len(store.class_names), groups["train"], seed)
        correct = fitted.predict(unseen) == truth
        accuracy, (low, high) = float(correct.mean()), accuracy_interval(correct, groups["validation"])
    return TapProbe(
        store.path,
        store.spec.backbone,
        tap.name,
        tap.depth,
        accuracy,
        low,
        high,
        features.shape[1],
        tap.size * DTYPE_BYTES[store.spec.store_dtype],
        fitted.regularisation,
        fitted.accuracy,
        correct,
    )


def read_tap(store: FeatureStore, tap: Tap, split: str, rows: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """The rows' features, float32 [N, D], a map that was stored whole averaged; and their labels, as the store has them."""
    stored, found = store.features(split, tap.name), list[np.ndarray]()
    for start in range(0, len(rows), 256):
        wide = stored.take(np.asarray(rows[start : start + 256]) * stored.views).astype(np.float32)
        found.append((wide.mean((1, 2)) if tap.pool == "none" and wide.ndim == 4 else wide).reshape(len(wide), -1))
    return np.concatenate(found), store.labels(split)[rows]


def advise(probes: Sequence[TapProbe], against_best: Sequence[PairedDifference]) -> str:
    """One sentence: which tap to take, whether a smaller one would do, and what that says of the images.

    Only differences that were seen count, and a smaller tap only where it is known to be hardly worse.
    """
    best = probes[0]
    several = len({found.store for found in probes}) > 1

    def named(found: TapProbe) -> str:
        return f"{found.tap} of {found.store}" if several else found.tap

    parts = [f"take {named(best)} ({best.accuracy:.1%})"]
    alike = [found for found, against in zip(probes, against_best) if found is best or against.low >= -HARDLY]
    smallest = min(alike, key=lambda found: found.bytes_per_image)
    if smallest.bytes_per_image < best.bytes_per_image:
        times = best.bytes_per_image / smallest.bytes_per_image
        parts.append(f"or {named(smallest)}, {times:.1f} times smaller and at most {100 * HARDLY:.0f} points worse")
    own = [pair for pair in zip(probes, against_best) if pair[0].store == best.store]
    return "; ".join([*parts, *_about_the_last_map(best, own)]) + "."


def _about_the_last_map(best: TapProbe, own: Sequence[tuple[TapProbe, PairedDifference]]) -> list[str]:
    """What the last map of the best tap's backbone says of the images; nothing where it is not in the store, or alone."""
    depths = {found.depth for found, _ in own}
    if len(depths) == 1 or max(depths) < 1:
        return []
    if best.depth == max(depths):
        lower = [(found, against) for found, against in own if found.depth < best.depth]
        if all(against.significant for _, against in lower):
            return ["the last map serves best: these images are near to what the backbone learned from"]
        found, against = next(pair for pair in lower if not pair[1].significant)
        return [_untold(f"{found.tap} is worse", best, against)]
    last, against = next(pair for pair in own if pair[0].depth == max(depths))
    if against.significant:
        worse = -100 * against.difference
        return [f"the last map is {worse:.1f} points worse: these images are far from what the backbone learned from"]
    return [_untold(f"the last map ({last.tap}) is worse", best, against)]


def _untold(what: str, best: TapProbe, against: PairedDifference) -> str:
    """That a difference was not seen; and how many images would show one as large as it looks, if that is a number."""
    if math.isnan(against.low):
        return f"too few groups to tell whether {what}"
    half, gap = (against.high - against.low) / 2, abs(against.difference)
    if gap < WORTH_TELLING:
        return f"whether {what} can't be told, and hardly matters"
    needed = len(best.correct) * (half / gap) ** 2
    digits = 10 ** max(0, math.floor(math.log10(needed)) - 1)  # of which two are worth to be said
    return f"too few images to tell whether {what}: about {round(needed / digits) * digits:,} would do"


def _save(config: ProbeConfig, result: ProbeResult, stores: Sequence[FeatureStore], examples: dict[str, int]) -> None:
    """The table, the plot, the page and the summary into the run's folder."""
    folder = mirror.here(config.run)
    os.makedirs(folder, exist_ok=True)
    rows = [_row(found, against, result.measure) for found, against in zip(result.probes, result.against_best)]
    files.write_bytes(os.path.join(folder, TABLE), files.csv_bytes(rows))
    title = f"Linear probes: validation {result.measure} by depth"
    title += f", {result.probes[0].backbone}" if len(config.stores) == 1 else ""
    points = depth_points(config.stores, result.probes)

    def draw(path: str) -> None:
        accuracy_by_depth(points, path, title, result.measure)

    draw(os.path.join(folder, PLOT))
    summary = {"advice": result.advice, "seconds": result.seconds, "examples": examples, "probes": rows}
    summary |= {"measure": result.measure} if result.measure != "accuracy" else {}
    files.write_bytes(os.path.join(folder, RESULT), json.dumps(summary, indent=1, ensure_ascii=True).encode())
    write_page(folder, config, result, stores, examples, draw)
    mirror.push(config.run, RESULT)


def _row(found: TapProbe, against: PairedDifference, measure: str) -> dict[str, Any]:
    """A probe as plain values, None where a number is undefined; accuracies by the name of what they are."""
    named = measure.replace(" ", "_")
    row = {name.replace("accuracy", named): each for name, each in vars(found).items() if name != "correct"}
    row |= {"difference": against.difference, "difference_low": against.low, "difference_high": against.high}
    plain = {name: None if isinstance(each, float) and math.isnan(each) else each for name, each in row.items()}
    return {**plain, "difference_seen": against.significant}
