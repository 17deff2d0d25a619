"""A folder in, the names of its images out: what is none by name and content, or hidden, is left out. Reads no pixels."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import numpy as np

from headstart.features.dataset.columns import Below, Text, batches, each
from headstart.features.dataset.listing import listing
from headstart.features.errors import UserError
from headstart.features.places import place

NOT_IMAGES = {"thumbs.db", "desktop.ini", "__macosx", "lost+found"}
IMAGE_SUFFIXES = (
    *(".avif", ".bmp", ".cr2", ".cr3", ".dib", ".dng", ".gif", ".heic", ".heif", ".ico", ".jfif", ".jp2", ".jpe", ".jpeg"),
    *(".jpg", ".jxl", ".nef", ".png", ".psd", ".raw", ".svg", ".tga", ".tif", ".tiff", ".webp"),
)
HEAD_BYTES = 4096  # of a file, from which its format is told


def image_files(folder: str) -> tuple[Below, Below, list[OSError]]:
    """All images below a folder in sorted order, the files that are no images, and an error for each unlisted folder."""
    errors = list[OSError]()
    images, others = images_of(folder, Text.of(files_below(folder, errors.append)))
    return Below(folder, images), Below(folder, others), errors


def images_of(root: str, keys: Text) -> tuple[Text, Text]:
    """The keys that are images by name or content, in their order, and the others, sorted."""
    found = (is_image for some in batches(each(keys)) for is_image in _are_images(root, some))
    is_image = np.fromiter(found, bool, len(keys))
    others = keys.take(~is_image)
    return keys.take(is_image), others.take(others.order())


def _are_images(root: str, keys: list[str]) -> list[bool]:
    unsure = [key for key in keys if not _named_as_image(key)]
    holds_none = place.at_once(lambda key: _holds_no_image(place.join(root, key)), unsure, root)
    no_images = {key for key, none in zip(unsure, holds_none) if none}
    return [key not in no_images for key in keys]


def _named_as_image(name: str) -> bool:
    return name.lower().endswith(IMAGE_SUFFIXES)


def _holds_no_image(path: str) -> bool:
    """Whether a file is known to hold none; one that is there and can't be read may."""
    from headstart.features.images.file_kinds import image_format

    try:
        return place.entry(path) is None or not image_format(place.head(path, HEAD_BYTES))  # a link may lead nowhere
    except FileNotFoundError:
        return True
    except (OSError, UserError):
        return False


def files_below(root: str, failed: Callable[[OSError], None]) -> Iterator[str]:
    """Paths below a folder, with /, sorted. A link to a folder is followed as if it were one, if not to one that it lies in.

    Args:
        root: the folder.
        failed: is told of each folder that can't be listed.
    """
    if place.is_remote(root):
        names = listing(root).columns["name"]
        yield from (name for name in each(names) if all(map(_wanted, name.split("/"))))
        return
    for folder, folders, names in os.walk(root, onerror=failed, followlinks=True):
        folders[:] = [name for name in sorted(folders) if _wanted(name) and not _goes_round(root, os.path.join(folder, name))]
        relative = os.path.relpath(folder, root).replace(os.sep, "/")
        for name in sorted(filter(_wanted, names)):
            yield name if relative == "." else f"{relative}/{name}"


def _goes_round(root: str, path: str) -> bool:
    """Whether a folder below a root is a link to one that it lies in, and would never come to an end."""
    if not os.path.islink(path):
        return False
    target, above = os.path.realpath(path), os.path.dirname(path)
    while os.path.commonpath((target, os.path.realpath(above))) != target:
        if len(above) <= len(root):
            return False
        above = os.path.dirname(above)
    return True


def _wanted(name: str) -> bool:
    return not name.startswith(".") and name.lower() not in NOT_IMAGES
