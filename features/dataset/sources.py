"""Where images come from: a folder, a table or files of records in, images with labels, splits and groups out. No pixels.

It stands here and not with the Beam code because evaluation and prediction read folders too.
"""

from __future__ import annotations

import dataclasses
import posixpath
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from headstart.features.dataset.columns import Below, Columns, Few, Text, each
from headstart.features.dataset.folder import files_below, images_of
from headstart.features.dataset.inputs import check_exists, image_root
from headstart.features.dataset.labels import labels_in
from headstart.features.dataset.record_files import RecordImage, read_all
from headstart.features.dataset.record_inputs import RecordInput, RecordOptions, is_record_input, record_input
from headstart.features.dataset.splits import SPLIT_NAMES
from headstart.features.dataset.table_rows import one_hot_hint, read_numbered
from headstart.features.errors import UserError, nearest
from headstart.features.places import place


@dataclass(frozen=True)
class ImageFile:
    """One image to read: key (its path below the input, with /), path, labels ('' split and group when not given)."""

    key: str
    path: str
    labels: tuple[str, ...]
    split: str = ""
    group: str = ""


class Images(Columns[ImageFile]):
    """A table of images."""

    row = ImageFile
    kinds = {"key": Text, "path": Text, "labels": Few, "split": Few, "group": Text}  # noqa: RUF012

    @property
    def paths(self) -> Text | Below:
        """Absolute paths, for processes in other folders."""
        paths = self.columns["path"]
        if isinstance(paths, Below):
            return Below(place.absolute(paths.folder), paths.names)
        return Text.of(map(place.absolute, each(paths)))


@dataclass(frozen=True)
class Source:
    """What an input holds: its images by key, whether splits and groups came with it, and what is left out.

    `left_out` counts files outside any class folder, `copies` those whose content another image is; `no_images` are keys of
    files that are none by name and content. An image may have several labels where there is a delimiter.
    """

    root: str
    images: Images
    has_splits: bool
    has_groups: bool
    left_out: int = 0
    no_images: Text = field(default_factory=lambda: Text.of(()))
    label_delimiter: str = ""
    copies: int = 0
    class_names: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        labels = self.images.columns["labels"].counts()
        names = {label for each in labels for label in each if label}  # a record that is a dead letter has none
        object.__setattr__(self, "class_names", tuple(sorted(names)))

    @property
    def is_several(self) -> bool:
        """Whether an image may have several labels."""
        return bool(self.label_delimiter)

    @property
    def reasons(self) -> dict[str, int]:
        """How many files are left out, by the reason."""
        copies = {"copies": self.copies} if self.copies else {}
        return {"outside_classes": self.left_out, "no_images": len(self.no_images), **copies}

    @property
    def notes(self) -> list[str]:
        """What is left out, a line each."""
        outside = f"{self.left_out} files stand outside any class folder and are left out"
        such = "".join(self.no_images.take(slice(1)).values())
        others = f"{len(self.no_images)} files are no images and are left out, such as {such}"
        copies = f"{self.copies} files are copies of images in other class folders: one image each, with the labels of all"
        return [outside] * bool(self.left_out) + [others] * bool(len(self.no_images)) + [copies] * bool(self.copies)


@dataclass(frozen=True)
class SourceOptions(RecordOptions):
    """How an input is read; one field for each flag of `headstart extract` that says so."""

    layout: str = "auto"
    group_by: str = ""
    image_column: str = "path"
    label_column: str = "label"
    split_column: str = "split"
    group_column: str = "group"


def read_source(path: str, options: SourceOptions = SourceOptions(), least_classes: int = 2) -> Source:
    """Lists the images of a folder, of a CSV or Parquet table or of files of records.

    A folder is `root/SPLIT/CLASS/**` when every top folder is named train, val, valid, validation, dev or test, else
    `root/CLASS/**`. A table has a header, and paths relative to itself; its cells are parted by comma, semicolon, tab or |.

    Raises:
        UserError: for a missing or empty input, a folder that can't be listed, one class only, a table that lacks a column, a
            path twice, an empty label where images have one each, or a pattern that does not fit.
    """
    if is_record_input(path):
        records = record_input(path, options)
        return source_of_records(path, records, read_all(records.files, records.fields), options, least_classes)
    if place.is_folder(path):
        source = _read_folder(path, options)
    elif place.entry(path):
        source = _read_table(path, options)
    else:
        check_exists(path)
        raise UserError("bad-input", f"the input {path!r} is neither a folder of images nor a CSV table")
    if not source.images:
        what = f"no class folders, only {source.left_out} files" if source.left_out else "no images"
        raise UserError(
            "bad-input", f"{path!r} holds {what}: expected {path}/CLASS/image.jpg, or {path}/train/CLASS/image.jpg"
        )
    return _checked(path, source, options, least_classes)


def source_of_records(
    path: str, records: RecordInput, images: Iterable[RecordImage], options: SourceOptions, least_classes: int = 2
) -> Source:
    """What `read_source` gives, of the images that were found in files of records.

    Raises:
        UserError: as `read_source` does.
    """
    splits = {file.name: file.split for file in records.files if records.has_splits}
    delimiter = options.label_delimiter
    found = Images.of(
        ImageFile(each.key, each.path, labels_in(each.label, delimiter), splits.get(each.key.rpartition("/")[0], ""))
        for each in images
    )
    if not found:
        raise UserError("bad-input", f"{path!r} holds no images: its {len(records.files)} files have no records")
    source = Source(path, found, records.has_splits, False, label_delimiter=delimiter)
    return _checked(path, source, options, least_classes)


def image_paths(path: str, keys: Iterable[str], options: SourceOptions = SourceOptions()) -> dict[str, str]:
    """Where the images of an input lie, by their keys; only files of records have to be read to know it.

    Args:
        path: the input.
        keys: of images; of a key that files of records do not hold, nothing is said.
        options: how the input is read.
    """
    if is_record_input(path):
        return {image.key: image.path for image in read_source(path, options, least_classes=1).images}
    root = image_root(path)
    return {key: place.join(root, key) for key in keys}


def _checked(path: str, source: Source, options: SourceOptions, least_classes: int) -> Source:
    """A source with its groups, if it has enough classes."""
    if not source.class_names:
        damaged = ", or can't be read" if is_record_input(path) else ""
        raise UserError("bad-input", f"{path!r} holds no label at all: every image is without one{damaged}")
    if not source.label_delimiter and len(source.class_names) < least_classes:
        raise UserError(
            "bad-input", f"{path!r} holds one class only ({source.class_names[0]!r}): a classifier needs two or more"
        )
    return _grouped(source, options.group_by) if options.group_by else source


def _refuse(error: OSError) -> None:
    raise UserError(
        "bad-input",
        f"the folder {error.filename!r} can't be listed ({error.strerror}), and what it holds would be missing: make it "
        f"readable, or move it out of the input",
    ) from error


def _read_folder(root: str, options: SourceOptions) -> Source:
    keys = Text.of(files_below(root, _refuse))
    tops = {key.split("/")[0] for key in each(keys) if "/" in key}
    by_split = options.layout == "split" or (options.layout == "auto" and _looks_split(tops))
    if options.layout == "split" and (unknown := sorted(top for top in tops if top.lower() not in SPLIT_NAMES)):
        raise UserError(
            "bad-flag", f"--layout split: the top folders must be named train, validation or test, not {unknown[0]!r}"
        )
    depth = 2 if by_split else 1
    inside = keys.take(np.fromiter((key.count("/") >= depth for key in each(keys)), bool, len(keys)))
    if by_split and len(keys) and not len(inside):
        raise UserError(
            "bad-input", f"{root!r} holds images right in {', '.join(sorted(tops))}: if those are classes, say --layout class"
        )
    chosen, no_images = images_of(root, inside)
    images = Images.of(
        ImageFile(
            key,
            "",
            labels_in(key.split("/", depth)[depth - 1], options.label_delimiter),
            SPLIT_NAMES[key.split("/")[0].lower()] if by_split else "",
        )
        for key in each(chosen)
    )
    images = images.replaced(key=chosen, path=Below(root, chosen))
    return Source(root, images, by_split, False, len(keys) - len(inside), no_images, options.label_delimiter)


def _looks_split(tops: set[str]) -> bool:
    return bool(tops) and all(top.lower() in SPLIT_NAMES for top in tops)


def _read_table(path: str, options: SourceOptions) -> Source:
    columns, rows = read_numbered(path, {options.image_column, options.label_column})
    for name, flag in ((options.image_column, "--image_column"), (options.label_column, "--label_column")):
        if name not in columns:
            _, first = next(rows, ("", {}))
            raise UserError(
                "bad-input",
                f"{path!r} has no column {name!r} ({flag}).{nearest(name, columns)} It has: {', '.join(columns)}"
                f"{one_hot_hint(columns, first)}",
            )
    images = Images.of(_from_row(path, where, row, options) for where, row in rows)
    if not images:
        raise UserError("bad-input", f"the table {path!r} lists no images: it has no rows below its header")
    images = images.replaced(path=Below(place.folder_of(path), images.columns["key"]))
    if twice := Text.of(each(images.paths)).repeated().values():
        raise UserError(
            "bad-input", f"{path!r} lists {twice[0]!r} more than once ({len(twice)} paths in all): keep one row for each image"
        )
    with_split = sum(count for split, count in images.columns["split"].counts().items() if split)
    if 0 < with_split < len(images):
        raise UserError(
            "bad-input",
            f"{path!r} gives a split for {with_split} of {len(images)} rows: fill the column, or leave all of it empty",
        )
    has_groups, delimiter = any(each(images.columns["group"])), options.label_delimiter
    return Source(place.folder_of(path), images, with_split > 0, has_groups, label_delimiter=delimiter)


def _from_row(path: str, where: str, row: dict[str, str | None], options: SourceOptions) -> ImageFile:
    key, label = ((row.get(name) or "").strip() for name in (options.image_column, options.label_column))
    split, group = ((row.get(name) or "").strip() for name in (options.split_column, options.group_column))
    if options.label_delimiter and None in row:
        raise UserError(
            "bad-input",
            f"{path!r}, {where}: more cells than columns: quote labels where --label_delimiter is the table's own",
        )
    if not key or not (label or options.label_delimiter):
        missing = options.image_column if not key else options.label_column
        told = f"{path!r}, {where}: the column {missing!r} is empty; every image needs a path and a label"
        raise UserError("bad-input", f"{told} (where some have none, or several: --label_delimiter)" if key else told)
    split = SPLIT_NAMES.get(split.lower(), split)
    if split and not split.isidentifier():
        raise UserError("bad-input", f"{path!r}, {where}: a split's name is made of letters, digits and _, not {split!r}")
    key = key if place.is_remote(key) else posixpath.normpath(key)
    return ImageFile(key, "", labels_in(label, options.label_delimiter), split, group)


def _grouped(source: Source, pattern: str) -> Source:
    """Takes each image's group from its key: the pattern's first parenthesis, or all that it matches."""
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise UserError("bad-flag", f"--group_by {pattern!r} is not a regular expression: {error}") from None

    def group_of(image: ImageFile) -> str:
        match = compiled.search(image.key)
        if not match:
            raise UserError(
                "bad-flag", f"--group_by {pattern!r} finds no group in the key {image.key!r}: it must match every key"
            )
        group = match.group(1) if compiled.groups else match.group()
        if not group:
            raise UserError(
                "bad-flag",
                f"--group_by {pattern!r} finds an empty group in the key {image.key!r}: it must name one in every key",
            )
        return group

    groups = Text.of(map(group_of, source.images))
    return dataclasses.replace(source, images=source.images.replaced(group=groups), has_groups=True)
