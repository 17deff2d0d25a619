"""The images of a dataset, found again: a table and the folder or table that it came from in, files to read out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from headstart.features.dataset.dataset_table import DatasetTable
from headstart.features.dataset.examples import Example
from headstart.features.dataset.labels import label_array
from headstart.features.dataset.sources import SourceOptions
from headstart.features.dataset.uniting import read_united
from headstart.features.engines.stream import ImageToRead
from headstart.features.errors import UserError
from headstart.features.places.identity import digest_of
from headstart.features.progress import Progress
from headstart.features.runtime import cores
from headstart.training.finetuning.image_batches import ImageSplit


def find_images(
    table: DatasetTable, class_names: Sequence[str], source: str, options: SourceOptions, splits: Sequence[str]
) -> dict[str, ImageSplit]:
    """Looks up a dataset's images, and compares all that must be the same.

    Args:
        table: the dataset.
        class_names: in the order of their ids.
        source: the folder or table to find the images in.
        options: how it is read.
        splits: which ones are wanted.

    Raises:
        UserError: for other classes, labels, splits or contents, for images that the dataset does not know, and missing ones.
    """
    found = read_united(source, options)
    if tuple(found.class_names) != tuple(class_names):
        raise UserError(
            "other-dataset",
            f"{source!r} has the classes {', '.join(found.class_names)}; the head was trained on {', '.join(class_names)}, in "
            f"that order: give the images that its features came from",
        )
    dead = {letter.key for letter in table.dead_letters}
    known = {example.key: example for example in table.table if example.key not in dead}
    images = {image.key: image for image in found.images}
    _none(
        [key for key in images if key not in known and key not in dead],
        f"images of {source!r} are not known to the dataset that the head was trained on: extract and train again",
    )
    _none([key for key in known if key not in images], f"images that the head was trained on are not in {source!r}")
    _none(
        [key for key, example in known.items() if images[key].labels != example.labels],
        f"images of {source!r} have another label than in the dataset that the head was trained on: extract and train again",
    )
    _none(
        [key for key, example in known.items() if found.has_splits and images[key].split != example.split],
        f"images of {source!r} stand in another split than in the dataset that the head was trained on",
    )
    chosen = {split: table.examples(split) for split in splits}
    paths = {image.key: image.path for image in found.images}
    _check_contents([example for split in splits for example in chosen[split]], paths)
    return {
        split: ImageSplit(
            [ImageToRead(paths[example.key], example.digest) for example in examples],
            label_array(examples.labels, class_names, bool(options.label_delimiter)),
        )
        for split, examples in chosen.items()
    }


def _check_contents(examples: Sequence[Example], paths: Mapping[str, str]) -> None:
    """Reads every file once before hours are spent on them."""
    progress, changed = Progress("check", len(examples)), list[str]()

    def digest(example: Example) -> str:
        try:
            return digest_of(paths[example.key], example.digest)
        except OSError as error:
            return error.strerror or str(error)

    with ThreadPoolExecutor(cores()) as pool:
        for done, (example, found) in enumerate(zip(examples, pool.map(digest, examples)), 1):
            if found != example.digest:
                changed.append(example.key)
            progress.update(done, len(changed))
    progress.close()
    _none(changed, "images are not what they were when their features were made: extract and train again")


def _none(keys: Sequence[str], what: str) -> None:
    if keys:
        raise UserError("changed-images", f"{len(keys)} {what} (such as {', '.join(map(repr, sorted(keys)[:3]))})")
