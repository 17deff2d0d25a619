"""A run's answers to a split of a store, or to image files: what is to be scored."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from headstart.features.dataset.columns import Few
from headstart.features.dataset.examples import Example, dataset_digest
from headstart.features.dataset.inputs import absolute_input, image_root
from headstart.features.dataset.labels import label_array
from headstart.features.dataset.record_inputs import RecordOptions, is_record_input
from headstart.features.dataset.sources import ImageFile, SourceOptions, image_paths
from headstart.features.dataset.splits import split_hint
from headstart.features.dataset.uniting import read_united
from headstart.features.engines.stream import Unreadable
from headstart.features.errors import UserError
from headstart.features.places import place
from headstart.features.places.identity import digest_of
from headstart.features.progress import Progress
from headstart.features.store.feature_store import FeatureStore
from headstart.training.predicting.classify import class_ids, classify_files, classify_split
from headstart.training.runs.run_folder import Run


@dataclass(frozen=True)
class UnreadableImage:
    """An image that could not be classified, and why: the stage is `read` or `decode`."""

    key: str
    stage: str
    reason: str


@dataclass(frozen=True)
class Answers:
    """What is to be scored: examples in order, the run's answers, and what stands beside the score.

    source is the folder, table or files of records that the images are of, be they there or not.
    """

    name: str
    split: str
    examples: Sequence[Example]
    labels: np.ndarray  # int64 [N]; of several an image, uint8 [N, classes]
    probabilities: np.ndarray  # float32 [N, classes]
    groups_declared: bool
    unreadable: list[UnreadableImage]
    dataset_digest: str
    source: str


def of_store(run: Run, path: str, asked: str) -> Answers:
    """A split of a store, from its features.

    Args:
        run: the one that answers.
        path: the store's folder.
        asked: the split, or '' for test.

    Raises:
        UserError: for a split that does not exist, or other classes or features than the run's.
    """
    store = FeatureStore.open(path)
    split = asked or "test"
    if split not in store.splits:
        raise UserError(
            "missing-split",
            f"{store.path!r} has no split {split!r}; it has {', '.join(store.splits)}: name one with --split"
            f"{split_hint(split, store.splits)}",
        )
    check_same_task(run, store.label_delimiter, path)
    labels, probabilities = classify_split(run, store, split)
    own = store.manifest.dataset_digest == run.config["dataset_digest"]
    name = split if own else _other_name(store.path, store.manifest.dataset_digest, split)
    return Answers(
        name,
        split,
        store.examples(split),
        labels,
        probabilities,
        store.manifest.groups_declared,
        [],
        store.manifest.dataset_digest,
        store.manifest.provenance.input,
    )


def check_same_task(run: Run, label_delimiter: str, path: str) -> None:
    """Raises UserError when a run answers with one label an image, and others have several, or the other way round."""
    learned, held = ("several labels" if each else "one label" for each in (run.label_delimiter, label_delimiter))
    if learned != held:
        raise UserError("other-dataset", f"{run.home!r} was trained on {learned} an image, and {path!r} holds {held} an image")


def of_images(run: Run, path: str, asked: str, options: SourceOptions = SourceOptions()) -> Answers:
    """A folder or table of images, the run's own or another, or one of its splits.

    Args:
        run: the one that answers.
        path: the folder or table.
        asked: the split, or '' for test, or for all where there are no splits.
        options: how it is read; of images with several labels, what parts them is the run's own when it is ''.

    Raises:
        UserError: for a split that does not exist, classes that the run does not know, images of the run's own that have
            changed, or when none of them can be read.
    """
    own = not run.config.get("store") and absolute_input(path) == run.config["input"]
    several = bool(run.label_delimiter)
    options = dataclasses.replace(options, label_delimiter=options.label_delimiter or run.label_delimiter)
    images = own_images(run, asked or "test") if own else _other_images(path, asked, options)
    examples, rows, unreadable = _classified(run, images.chosen, images.digests)
    if own and (changed := [example.key for example in examples if example.digest != images.digests[example.key]]):
        raise UserError(
            "changed-images",
            f"{len(changed)} images in {path!r} are not what they were when the run was made (such as {changed[0]!r}): give "
            f"another folder as INPUT, or train again",
        )
    if not rows:
        raise UserError(
            "changed-images",
            f"none of the {len(images.chosen)} images in {path!r} can be read; the first: {vars(unreadable[0])}",
        )
    digest = run.config["dataset_digest"] if own else dataset_digest(examples, run.class_names, several)
    return Answers(
        images.split if own else _other_name(path, digest, images.split),
        images.split or "all",
        examples,
        label_array(Few.of([example.labels for example in examples]), run.class_names, several),
        np.stack(rows),
        images.has_groups,
        unreadable,
        digest,
        path,
    )


def _classified(
    run: Run, images: Sequence[ImageFile], digests: Mapping[str, str]
) -> tuple[list[Example], list[np.ndarray], list[UnreadableImage]]:
    """Examples and probabilities of the images that can be read, in order; and the others.

    digests are those that are expected, by key, of some or all of the images.

    Raises:
        UserError: for a label that the run does not know.
    """
    class_ids(run, sorted({label for image in images for label in image.labels}))
    examples, rows, unreadable = list[Example](), list[np.ndarray](), list[UnreadableImage]()
    progress = Progress("evaluate", len(images))
    for image, answer in zip(images, classify_files(run, [image.path for image in images])):
        if isinstance(answer, Unreadable):
            unreadable.append(UnreadableImage(image.key, answer.stage, answer.reason))
        else:
            digest = digest_of(image.path, digests.get(image.key, ""))
            examples.append(Example(image.key, digest, image.labels, image.split, image.group))
            rows.append(answer)
        progress.update(len(rows) + len(unreadable), len(unreadable))
    progress.close()
    return examples, rows, unreadable


@dataclass(frozen=True)
class Images:
    """Image files to measure on."""

    chosen: Sequence[ImageFile]
    split: str
    has_groups: bool
    digests: Mapping[str, str]  # by key, where they are of the run's own dataset


def _record_paths(run: Run) -> dict[str, str]:
    """Where the images of a run's own dataset lie that comes in files of records, by their keys."""
    asked = run.config["finetune"]
    options = SourceOptions(**{field.name: asked.get(field.name, "") for field in dataclasses.fields(RecordOptions)})
    return image_paths(run.config["input"], (), options)


def own_images(run: Run, split: str) -> Images:
    """A split of the dataset that the run was trained on, from its images."""
    splits, root = run.table.splits, image_root(run.config["input"])
    if split not in splits:
        raise UserError(
            "missing-split",
            f"{run.config['input']!r} has no split {split!r}; it has {', '.join(splits)}: name one with --split"
            f"{split_hint(split, splits)}",
        )
    paths = _record_paths(run) if is_record_input(run.config["input"]) else {}
    chosen = [
        ImageFile(example.key, paths.get(example.key) or place.join(root, example.key), example.labels, split, example.group)
        for example in run.table.examples(split)
    ]
    digests = {example.key: example.digest for example in run.table.examples(split)}
    return Images(chosen, split, run.config["groups_declared"], digests)


def _other_images(path: str, asked: str, options: SourceOptions) -> Images:
    """All of another folder or table, or one of its splits."""
    if not is_record_input(path) and not place.exists(path):
        raise UserError(
            "missing-input", f"the input {path!r} does not exist: give a folder or table of images, or a feature store"
        )
    source = read_united(path, options, least_classes=1)
    for note in source.notes:
        print(note, file=sys.stderr)
    splits = sorted({image.split for image in source.images})
    split = (asked or "test") if source.has_splits else ""
    if (source.has_splits or asked) and (asked or split) not in splits:
        held = ", ".join(splits) if source.has_splits else "no splits; leave --split out and all of it is used"
        raise UserError(
            "missing-split",
            f"{path!r} has no split {asked or split!r}; it has {held}{split_hint(asked, splits)}",
        )
    return Images([image for image in source.images if image.split == split], split, source.has_groups, {})


def _other_name(path: str, digest: str, split: str) -> str:
    """The folder of an evaluation on something else than the run's own store: no two of them meet."""
    return "-".join(part for part in (place.absolute(path).rpartition("/")[2], digest[:8], split) if part)
