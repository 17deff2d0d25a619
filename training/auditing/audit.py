"""headstart audit: a store, and its images where they are at hand, in; what may be wrong with the dataset out.

The split that is held out (test, or else validation) chooses nothing here: its labels are compared with what the others say.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from headstart.features import files
from headstart.features.dataset.columns import Text
from headstart.features.dataset.dividing import linked
from headstart.features.dataset.examples import Example
from headstart.features.dataset.inputs import check_exists
from headstart.features.errors import UserError
from headstart.features.formatting import printable
from headstart.features.places import mirror, place
from headstart.features.runtime import quiet
from headstart.features.shown import Shown
from headstart.features.store.feature_store import FeatureStore
from headstart.training.auditing import duplicates, group_names, label_errors, outliers, shortcuts, small_classes
from headstart.training.auditing.audit_config import KINDS, AuditConfig
from headstart.training.auditing.audit_page import write_page
from headstart.training.auditing.findings import Finding, Images, Row
from headstart.training.auditing.neighbours import nearest
from headstart.training.auditing.score import Score, Scored, scored_by_probe, scored_by_run, with_and_without
from headstart.training.auditing.space import read_space, softly_whitened
from headstart.training.auditing.thumbnails import ImageFiles, Thumbnail, read_thumbnails
from headstart.training.pages.page import REPORT
from headstart.training.plots.contact_sheet import draw_sheet

RESULT = "audit.json"
LEAST = 20  # images
HELD_OUT = ("test", "validation")


@dataclass(frozen=True, repr=False)
class Audit(Shown):
    """What was found, what may matter most to the score first.

    Args:
        findings: one of each kind, those of which nothing was found too.
        images: how many were audited.
        at_hand: of how many of them the pixels could be looked at.
        tap: whose features were compared.
        held_out: the split whose score is spoken of, and which chose nothing; '' where there is none.
        score: of it with and without copies, where there are some.
        seconds: that it took.
    """

    findings: list[Finding]
    images: int
    at_hand: int
    tap: str
    held_out: str
    score: Score | None
    seconds: float

    def words(self) -> str:
        """A line for each kind of which something was found."""
        found = [f"{each.kind}: {printable(each.words)}" for each in self.findings if each.count]
        return "\n".join([f"{self.images:,} images, compared at {self.tap}", *(found or ["nothing was found"])])

    def count(self, kind: str) -> int:
        """How much was found of a kind."""
        return next(found.count for found in self.findings if found.kind == kind)


def audit(config: AuditConfig) -> Audit:
    """Audits a dataset and writes DIR/report.html, audit.json, and a table and a contact sheet for each kind found.

    Args:
        config: what `headstart audit` takes.

    Raises:
        UserError: for a store that is not complete, of one class, or of fewer than 20 images; for images that are not there, a
            run that was not evaluated on them, or a folder that holds something else.
    """
    started = time.monotonic()
    store = check_names(config)
    images = read_images(store)
    scored = scored_by_run(config.run, images) if config.run else None
    image_files = _image_files(config, store)
    thumbnails = read_thumbnails(image_files, images.examples) if image_files else [None] * len(images.examples)
    with quiet(), threadpool_limits(1, "blas"):  # what is done often is small; and sums are the same on any machine
        findings, score = _findings(config, store, images, thumbnails, scored)
    findings.sort(key=lambda found: (-found.at_stake, KINDS.index(found.kind)))
    at_hand, tap = sum(thumbnail is not None for thumbnail in thumbnails), store.tap(config.tap).name
    seconds = round(time.monotonic() - started, 2)
    result = Audit(findings, len(images.examples), at_hand, tap, images.held_out_split, score, seconds)
    _save(config, result, images, store, image_files if at_hand else None)
    return result


def check_names(config: AuditConfig) -> FeatureStore:
    """The store, once all that a configuration names was looked at.

    Raises:
        UserError: as `audit` does.
    """
    held = place.names_in(config.output, "--output") - {mirror.RECORD}
    ours = {RESULT, REPORT, *(f"{kind}.{suffix}" for kind in KINDS for suffix in ("csv", "png"))}
    if held - ours:
        raise UserError("output-taken", f"--output {config.output!r} holds something else than an audit: give an empty folder")
    store = FeatureStore.open(config.store)
    store.tap(config.tap)
    if config.images:
        check_exists(config.images)
    total, classes = sum(map(store.count, store.splits)), len(store.class_names)
    if total < LEAST:
        raise UserError("bad-input", f"{store.path!r} holds {total} images, and an audit needs {LEAST}: extract more")
    if classes < 2 or len({label for split in store.splits for label in store.examples(split).labels.counts()}) < 2:
        raise UserError("bad-input", f"{store.path!r} holds images of one class only, and an audit needs two or more")
    return store


def read_images(store: FeatureStore) -> Images:
    """All images of a store, split after split in their order."""
    examples = [example for split in store.splits for example in store.examples(split)]
    labels = np.concatenate([store.labels(split) for split in store.splits])
    several = len(store.splits) > 1
    held_out = next((split for split in HELD_OUT if several and split in store.splits), "")
    splits = np.array([example.split for example in examples], object)
    return Images(examples, labels, store.class_names, held_out, splits == held_out, store.label_delimiter)


def _image_files(config: AuditConfig, store: FeatureStore) -> ImageFiles | None:
    """Where the images lie; None where they are no longer, and nobody said where else."""
    path = config.images or store.manifest.provenance.input
    try:
        check_exists(path)
        return ImageFiles(path, store.spec, store.manifest.max_pixels)
    except UserError:
        if config.images:
            raise
        return None


def _findings(
    config: AuditConfig, store: FeatureStore, images: Images, thumbnails: Sequence[Thumbnail | None], scored: Scored | None
) -> tuple[list[Finding], Score | None]:
    """A finding of each kind, and the score with and without copies; scored is what a run says of the images held out."""
    space = read_space(store, store.tap(config.tap).name)
    points = softly_whitened(space.standard)
    pairs = duplicates.find_pairs([example.digest for example in images.examples], nearest(points), thumbnails)
    groups = together(images.examples, duplicates.clusters(len(images.examples), pairs))
    answers = label_errors.answer(images, space.standard, groups, config.seed)
    score, held = None, images.held_out
    if held.any() and len(np.unique(images.kinds[~held])) > 1:
        of = config.run or "a linear probe on the other splits"
        scored = scored or scored_by_probe(space.standard, images, [each.strength for each in answers])
        own = [groups[number] for number in np.flatnonzero(held).tolist()]
        score = with_and_without(of, scored, duplicates.leaked(images, pairs)[held], own)
    named = None if store.manifest.groups_declared else group_names.find_groups(images, points, config.seed)
    return [
        duplicates.leaks(images, pairs, score),
        duplicates.duplicates(images, pairs),
        duplicates.conflicts(images, pairs),
        label_errors.label_errors(images, answers),
        shortcuts.find_shortcuts(images, thumbnails, groups, config.seed),
        group_names.undeclared_groups(images, named),
        outliers.outliers(images, outliers.outlyingness(nearest(space.plain, outliers.NEAREST))),
        small_classes.small_classes(images),
    ], score


def together(examples: Sequence[Example], clusters: np.ndarray) -> list[str]:
    """N names: images have the same one when they are copies, or of one declared group, or through others of both."""
    of_cluster, _ = linked(clusters, len(examples), *Text.of([example.group for example in examples]).codes())
    return [str(name) for name in of_cluster[clusters]]


def _save(config: AuditConfig, result: Audit, images: Images, store: FeatureStore, image_files: ImageFiles | None) -> None:
    """Tables, contact sheets, the page and the summary into the folder; those of an older audit go."""
    folder = mirror.here(config.output)
    os.makedirs(folder, exist_ok=True)
    place.remove(os.path.join(folder, name) for name in os.listdir(folder) if name != mirror.RECORD)

    def pixels(number: int) -> np.ndarray | None:
        return image_files.picture(images.examples[number]) if image_files else None

    for found in result.findings:
        if found.rows:
            files.write_bytes(os.path.join(folder, f"{found.kind}.csv"), files.csv_bytes(found.rows))
        if found.strips and image_files:
            title = f"{found.kind.replace('_', ' ')}: {found.count:,}"
            draw_sheet(title, found.strips, pixels, os.path.join(folder, f"{found.kind}.png"))
    files.write_json(os.path.join(folder, RESULT), to_json(config, result, images))
    write_page(folder, config, result, store, pixels)
    mirror.push(config.output, RESULT)


def to_json(config: AuditConfig, result: Audit, images: Images) -> Row:
    """What audit.json holds."""
    keys = ("images", "at_hand", "tap", "held_out", "seconds")
    found = {
        each.kind: {"count": each.count, "at_stake": each.at_stake, "words": each.words if each.count else "", **each.figures}
        for each in result.findings
    }
    return {
        **{key: getattr(result, key) for key in keys},
        "config": vars(config),
        "classes": dict(Counter(label for example in images.examples for label in example.labels)),
        "score": result.score.to_json() if result.score else None,
        "findings": found,
        "ranked": [each.kind for each in result.findings if each.count],
    }
