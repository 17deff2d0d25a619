"""Photographs with faults put into them on purpose, so that what an audit finds can be compared with what is there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageEnhance

SPLITS = {"train": 0.7, "validation": 0.1, "test": 0.2}


@dataclass
class Planted:
    """A folder SPLIT/CLASS/NAME, and what is wrong with it: keys of wrong labels, and (copy, original) by the kind of copy."""

    folder: str
    flipped: set[str] = field(default_factory=set)
    copies: dict[str, list[tuple[str, str]]] = field(default_factory=dict)


@dataclass(frozen=True)
class Photo:
    """A photograph of some class, before it has a place in the folder."""

    path: str
    label: str


def listed(folder: str, per_class: int, seed: int = 0) -> list[Photo]:
    """So many photographs of each class of a folder, whatever splits it has, in a random order."""
    from headstart.features.dataset.sources import read_source

    source, generator, found = read_source(folder), np.random.default_rng(seed), list[Photo]()
    for name in source.class_names:
        own = [image.path for image in source.images if image.labels[0] == name]
        found += [Photo(own[number], name) for number in generator.permutation(len(own))[:per_class]]
    return [found[number] for number in generator.permutation(len(found))]


def plant(photos: Sequence[Photo], folder: str, flips: float = 0.0, copies: int = 0, seed: int = 0) -> Planted:
    """Writes photographs as an image folder in three splits, with faults.

    Args:
        photos: in a random order.
        folder: where to.
        flips: this share of them, in all splits alike, goes into the folder of another class.
        copies: of each kind, so many training images have a copy in test: re-encoded, cropped, mirrored.
        seed: of what is drawn.
    """
    generator, planted = np.random.default_rng(seed), Planted(folder)
    names = sorted({photo.label for photo in photos})
    ends = np.cumsum([0, *(round(share * len(photos)) for share in SPLITS.values())])
    splits = [(split, photos[start:end]) for split, start, end in zip(SPLITS, ends, [*ends[1:-1], len(photos)])]
    kinds = ("re-encoded", "cropped", "mirrored")
    for split, some in splits:
        drawn = generator.permutation(len(some))
        wrong, originals = drawn[: round(flips * len(some))], drawn[-len(kinds) * copies :] if copies else ()
        for number, photo in enumerate(some):
            others = [name for name in names if name != photo.label]
            label = str(generator.choice(others)) if number in wrong else photo.label
            key = _put(photo.path, folder, split, label, f"{number:05}{os.path.splitext(photo.path)[1]}")
            if number in wrong:
                planted.flipped.add(key)
            if split == "train" and number in originals:
                kind = kinds[list(originals).index(number) % len(kinds)]
                path = os.path.join(folder, "test", label, f"copy-{number:05}.jpg")
                planted.copies.setdefault(kind, []).append((os.path.relpath(path, folder), key))
                os.makedirs(os.path.dirname(path), exist_ok=True)
                _copied(Image.open(photo.path).convert("RGB"), kind, generator).save(path, quality=70)
    return planted


def saved_anew(folder: str, name: str, brightness: float = 1.0, quality: int = 90) -> None:
    """Encodes all images once more, those of one class brighter or darker or in another quality: a shortcut."""
    for path in _files(folder):
        own = os.path.basename(os.path.dirname(path)) == name
        image = ImageEnhance.Brightness(Image.open(path).convert("RGB")).enhance(brightness if own else 1.0)
        image.save(path, "JPEG", quality=quality if own else 90)


def _copied(image: Image.Image, kind: str, generator: np.random.Generator) -> Image.Image:
    """A copy: 3/4 of the size; 80% of each side, anywhere; or left for right."""
    width, height = image.size
    if kind == "cropped":
        left, top = (int(generator.uniform(0, 0.2) * side) for side in image.size)
        return image.crop((left, top, left + int(0.8 * width), top + int(0.8 * height)))
    if kind == "mirrored":
        return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return image.resize((max(1, 3 * width // 4), max(1, 3 * height // 4)), Image.Resampling.BICUBIC)


def _put(path: str, folder: str, *parts: str) -> str:
    target = os.path.join(folder, *parts)
    os.makedirs(os.path.dirname(target), exist_ok=True)
    shutil.copyfile(path, target)
    return "/".join(parts)


def _files(folder: str) -> Iterable[str]:
    for top, _, names in os.walk(folder):
        yield from (os.path.join(top, name) for name in names)
