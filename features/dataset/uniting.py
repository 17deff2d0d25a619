"""A folder whose images may have several labels: copies of one content in, one image with the labels of all of them out."""

from __future__ import annotations

import dataclasses
from itertools import groupby

import numpy as np

from headstart.features.dataset.columns import Digests, Few
from headstart.features.dataset.sources import Source, SourceOptions, read_source
from headstart.features.errors import UserError
from headstart.features.places import place
from headstart.features.places.identity import digest_of


def unites(path: str, source: Source) -> bool:
    """Whether copies are to be united: in a folder, whose images may have several labels."""
    return bool(source.label_delimiter) and place.is_folder(path)


def united(source: Source, digests: Digests) -> tuple[Source, np.ndarray]:
    """The source with each content once in each split, as the first of its files by name; and these rows, int64 [n].

    Args:
        source: what a folder holds, whose images may have several labels.
        digests: the content of each of its images; one that could not be read stays as it is.

    Raises:
        UserError: for copies of one content in several groups, of which the one image would be in one alone.
    """
    copies = digests.copied()
    copies = copies[digests.array[copies] != b""]
    labels, keep = source.images.columns["labels"].values(), np.ones(len(digests), bool)
    splits = source.images.columns["split"].values()
    found = zip(copies.tolist(), digests.take(copies).values(), source.images.take(copies))
    for _, same in groupby(found, key=lambda copy: copy[1]):
        rows, _, images = zip(*sorted(same))
        if len(groups := sorted({image.group for image in images})) > 1:
            raise UserError(
                "bad-input",
                f"{images[0].key!r} and {images[1].key!r} are copies of one image in the groups {groups[0]!r} and "
                f"{groups[1]!r}: put both into one group",
            )
        union = tuple(sorted({label for image in images for label in image.labels}))
        firsts = {splits[row]: row for row in reversed(rows)}
        for row in rows:
            labels[row], keep[row] = union, firsts[splits[row]] == row
    kept = np.flatnonzero(keep)
    of_all = source.images.replaced(labels=Few.of(labels)).take(kept)
    return dataclasses.replace(source, images=of_all, copies=len(keep) - len(kept)), kept


def read_united(path: str, options: SourceOptions, least_classes: int = 2) -> Source:
    """What `read_source` gives; of a folder whose images may have several labels, with its copies united: all are read.

    Raises:
        UserError: as `read_source` and `united` do.
    """
    source = read_source(path, options, least_classes)
    if not unites(path, source):
        return source

    def digest(name: str) -> str:
        try:
            return digest_of(name)
        except OSError:
            return ""  # whoever reads it next says why

    paths = source.images.paths.values()
    return united(source, Digests.of(place.at_once(digest, paths, path)))[0]
