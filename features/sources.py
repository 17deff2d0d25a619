"""Where images come from: a folder or a table in, image files with labels, splits and groups out. Reads no pixels.

It stands here and not with the Beam code because evaluation and prediction read folders too.
"""

from __future__ import annotations

import csv
import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from features.errors import UserError, nearest
from features.examples import SPLIT_NAMES

NOT_IMAGES = {"thumbs.db", "desktop.ini", "__macosx"}
LAYOUTS = ("auto", "class", "split")


@dataclass(frozen=True)
class ImageFile:
    """One image to read: key (its path below the input, with /), path, labels ('' split and group when not given)."""

    key: str
    path: str
    labels: tuple[str, ...]
    split: str = ""
    group: str = ""


@dataclass(frozen=True)
class Source:
    """What an input holds: its images by key, and whether splits and groups came with it."""

    root: str
    images: tuple[ImageFile, ...]
    has_splits: bool
    has_groups: bool
    left_out: int = 0
    class_names: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        names = {label for image in self.images for label in image.labels}
        object.__setattr__(self, "class_names", tuple(sorted(names)))


@dataclass(frozen=True)
class SourceOptions:
    """How an input is read; one field for each flag of `headstart extract` that says so."""

    layout: str = "auto"
    group_by: str = ""
    image_column: str = "path"
    label_column: str = "label"
    split_column: str = "split"
    group_column: str = "group"


def read_source(path: str, options: SourceOptions = SourceOptions(), least_classes: int = 2) -> Source:
    """Lists the images of a folder or of a CSV table.

    A folder is `root/SPLIT/CLASS/**` when every top folder is named train, val, valid, validation, dev or test, else
    `root/CLASS/**`. A table has a header, and paths relative to itself.

    Raises:
        UserError: for a missing or empty input, one class only, a table that lacks a column, a path twice, an empty label,
            or a pattern that does not fit.
    """
    if os.path.isdir(path):
        source = _read_folder(path, options)
    elif os.path.isfile(path):
        source = _read_table(path, options)
    else:
        raise UserError(f"the input {path!r} does not exist: give a folder of images or a CSV table")
    if not source.images:
        raise UserError(f"{path!r} holds no images: expected {path}/CLASS/image.jpg, or {path}/train/CLASS/image.jpg")
    if len(source.class_names) < least_classes:
        raise UserError(f"{path!r} holds one class only ({source.class_names[0]!r}): a classifier needs two or more")
    return _grouped(source, options.group_by) if options.group_by else source


def image_root(path: str) -> str:
    """The folder that the keys of an input's images are relative to."""
    return path if os.path.isdir(path) else os.path.dirname(path)


def image_files(path: str) -> list[str]:
    """Every file below a folder in sorted order, hidden files and system leftovers aside; or the one file."""
    return [os.path.join(path, *name.split("/")) for name in _walk(path)] if os.path.isdir(path) else [path]


def _walk(root: str) -> Iterator[str]:
    """Paths below a folder, with /, sorted. A link to a folder elsewhere is followed once, one to a folder inside never."""
    inside, followed = os.path.realpath(root), set[str]()

    def follow(path: str) -> bool:
        if not os.path.islink(path):
            return True
        target = os.path.realpath(path)
        if target in followed or os.path.commonpath((inside, target)) == inside:
            return False
        followed.add(target)
        return True

    for folder, folders, names in os.walk(root, followlinks=True):
        folders[:] = [name for name in sorted(folders) if _wanted(name) and follow(os.path.join(folder, name))]
        relative = os.path.relpath(folder, root).replace(os.sep, "/")
        for name in sorted(filter(_wanted, names)):
            yield name if relative == "." else f"{relative}/{name}"


def _wanted(name: str) -> bool:
    return not name.startswith(".") and name.lower() not in NOT_IMAGES


def _read_folder(root: str, options: SourceOptions) -> Source:
    keys = list(_walk(root))
    tops = {key.split("/")[0] for key in keys if "/" in key}
    by_split = options.layout == "split" or (options.layout == "auto" and _looks_split(tops))
    if options.layout == "split" and (unknown := sorted(top for top in tops if top.lower() not in SPLIT_NAMES)):
        raise UserError(f"--layout split: the top folders must be named train, validation or test, not {unknown[0]!r}")
    depth = 2 if by_split else 1
    inside = [key for key in keys if key.count("/") >= depth]
    if by_split and keys and not inside:
        raise UserError(f"{root!r} holds images right in {', '.join(sorted(tops))}: if those are classes, say --layout class")
    images = []
    for key in inside:
        parts = key.split("/")
        split = SPLIT_NAMES[parts[0].lower()] if by_split else ""
        images.append(ImageFile(key, os.path.join(root, *parts), (parts[depth - 1],), split))
    return Source(root, tuple(images), by_split, False, left_out=len(keys) - len(inside))


def _looks_split(tops: set[str]) -> bool:
    return bool(tops) and all(top.lower() in SPLIT_NAMES for top in tops)


def _read_table(path: str, options: SourceOptions) -> Source:
    columns, rows = _read_rows(path)
    for name, flag in ((options.image_column, "--image_column"), (options.label_column, "--label_column")):
        if name not in columns:
            raise UserError(f"{path!r} has no column {name!r} ({flag}).{nearest(name, columns)} It has: {', '.join(columns)}")
    images = [_from_row(path, number, row, options) for number, row in enumerate(rows, start=2)]
    twice = [found for found, count in Counter(os.path.abspath(image.path) for image in images).items() if count > 1]
    if twice:
        raise UserError(f"{path!r} lists {twice[0]!r} more than once ({len(twice)} paths in all): keep one row for each image")
    with_split = sum(bool(image.split) for image in images)
    if 0 < with_split < len(images):
        raise UserError(
            f"{path!r} gives a split for {with_split} of {len(images)} rows: fill the column, or leave all of it empty"
        )
    return Source(os.path.dirname(path), tuple(images), with_split > 0, any(image.group for image in images))


def _read_rows(path: str) -> tuple[list[str], list[dict[str, str | None]]]:
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            return list(reader.fieldnames or ()), list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path!r} is neither a folder nor a CSV table in UTF-8: {error}") from error


def _from_row(path: str, number: int, row: dict[str, str | None], options: SourceOptions) -> ImageFile:
    key, label = ((row.get(name) or "").strip() for name in (options.image_column, options.label_column))
    split, group = ((row.get(name) or "").strip() for name in (options.split_column, options.group_column))
    if not key or not label:
        missing = options.image_column if not key else options.label_column
        raise UserError(f"{path!r}, line {number}: the column {missing!r} is empty; every image needs a path and a label")
    split = SPLIT_NAMES.get(split.lower(), split)
    if split and not split.isidentifier():
        raise UserError(f"{path!r}, line {number}: a split's name is made of letters, digits and _, not {split!r}")
    key = os.path.normpath(key).replace(os.sep, "/")
    return ImageFile(key, os.path.join(os.path.dirname(path), key), (label,), split, group)


def _grouped(source: Source, pattern: str) -> Source:
    """Takes each image's group from its key: the pattern's first parenthesis, or all that it matches."""
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise UserError(f"--group_by {pattern!r} is not a regular expression: {error}") from None
    images = []
    for image in source.images:
        match = compiled.search(image.key)
        if not match:
            raise UserError(f"--group_by {pattern!r} finds no group in the key {image.key!r}: it must match every key")
        group = match.group(1) if compiled.groups else match.group()
        if not group:
            raise UserError(
                f"--group_by {pattern!r} finds an empty group in the key {image.key!r}: it must name one in every key"
            )
        images.append(ImageFile(image.key, image.path, image.labels, image.split, group))
    return Source(source.root, tuple(images), source.has_splits, True, source.left_out)
