"""A folder in, the names of its images out: what is none by name and content, or hidden, is left out. Reads no pixels."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from headstart.features.errors import UserError
from headstart.features.places import place

NOT_IMAGES = {"thumbs.db", "desktop.ini", "__macosx", "lost+found"}
IMAGE_SUFFIXES = (
    *(".avif", ".bmp", ".cr2", ".cr3", ".dib", ".dng", ".gif", ".heic", ".heif", ".ico", ".jfif", ".jp2", ".jpe", ".jpeg"),
    *(".jpg", ".jxl", ".nef", ".png", ".psd", ".raw", ".svg", ".tga", ".tif", ".tiff", ".webp"),
)
HEAD_BYTES = 4096  # of a file, from which its format is told


def image_files(folder: str) -> tuple[list[str], list[str], list[OSError]]:
    """All images below a folder in sorted order, the files that are no images, and an error for each unlisted folder."""
    errors = list[OSError]()
    keys, no_images = images_of(folder, list(files_below(folder, errors.append)))
    images, others = ([place.join(folder, key) for key in found] for found in (keys, no_images))
    return images, others, errors


def images_of(root: str, keys: list[str]) -> tuple[list[str], list[str]]:
    """The keys that are images by name or content, and the others."""
    unsure = [key for key in keys if not _named_as_image(key)]
    found = place.at_once(lambda key: _holds_no_image(place.join(root, key)), unsure, root)
    no_images = {key for key, holds_none in zip(unsure, found) if holds_none}
    return [key for key in keys if key not in no_images], sorted(no_images)


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
    """Paths below a folder, with /, sorted. A link to a folder elsewhere is followed once, one to a folder inside never.

    Args:
        root: the folder.
        failed: is told of each folder that can't be listed.
    """
    if place.is_remote(root):
        yield from (each.name for each in place.entries(root) if all(map(_wanted, each.name.split("/"))))
        return
    inside, followed = os.path.realpath(root), set[str]()

    def follow(path: str) -> bool:
        if not os.path.islink(path):
            return True
        target = os.path.realpath(path)
        if target in followed or os.path.commonpath((inside, target)) == inside:
            return False
        followed.add(target)
        return True

    for folder, folders, names in os.walk(root, onerror=failed, followlinks=True):
        folders[:] = [name for name in sorted(folders) if _wanted(name) and follow(os.path.join(folder, name))]
        relative = os.path.relpath(folder, root).replace(os.sep, "/")
        for name in sorted(filter(_wanted, names)):
            yield name if relative == "." else f"{relative}/{name}"


def _wanted(name: str) -> bool:
    return not name.startswith(".") and name.lower() not in NOT_IMAGES
