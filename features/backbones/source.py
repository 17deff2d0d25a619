"""What `--backbone` and `--weights` say in, and out comes where a base comes from. Standard library only."""

from __future__ import annotations

import os
from dataclasses import dataclass

from headstart.features.backbones.catalogue import BACKBONES, backbone_info
from headstart.features.errors import UserError
from headstart.features.places import place
from headstart.features.places.cache import local_path

CUSTOM = "own"  # what specs on disk call a custom model
AUTO = "auto"


@dataclass(frozen=True)
class BackboneSource:
    """Where a base comes from; it travels with every work unit.

    name is one of `BACKBONES`, and weights are `imagenet`, `random:SEED`, or the path of a `.keras`, `.weights.h5` or `.h5`
    file; or name is CUSTOM, and weights the path of the model itself, a `.keras` file or the folder of a SavedModel. unsafe
    lets such a file bring code along.
    """

    name: str
    weights: str
    unsafe: bool = False

    @classmethod
    def parse(cls, backbone: str, weights: str = "imagenet", unsafe: bool = False) -> BackboneSource:
        """What `--backbone` and `--weights` say, paths made absolute, for workers in other folders.

        Raises:
            UserError: for a backbone that is neither in the table nor a model, for weights that are not there, and for a model
                with weights beside it.
        """
        if not _is_path(backbone):
            backbone_info(backbone)
            check_weights(weights)
            return cls(backbone, place.absolute(weights) if _is_file(weights) else weights, unsafe)
        if weights != "imagenet":
            raise UserError("bad-flag", f"{backbone!r} brings its own weights: leave --weights out")
        if not place.exists(backbone):
            raise UserError(
                "missing-input",
                f"there is no model {backbone!r}; --backbone is a .keras file, a SavedModel's folder or a name",
            )
        return cls(CUSTOM, place.absolute(backbone), unsafe)

    @property
    def is_custom(self) -> bool:
        """Whether it is the user's own model and not one of the catalogue."""
        return self.name == CUSTOM

    @property
    def path(self) -> str:
        """Where weights that are a file, or a custom model, are on this machine: a copy where they lie in an object store.

        Raises:
            UserError: when they can't be fetched.
        """
        if not place.is_remote(self.weights):
            return self.weights
        if place.entry(self.weights) is None:
            raise UserError(
                "bad-model", f"{self.weights!r} is no file: a model in an object store is a .keras file, and no folder"
            )
        return local_path(self.weights)

    def version(self) -> tuple[tuple[str, int, int, int], ...]:
        """A weights file, or a SavedModel's folder, may change under its name: path, size, time and inode of each file."""
        path = self.path if _is_file(self.weights) or self.is_custom else ""
        if path and place.is_remote(self.weights):
            return ((path, 0, 0, 0),)  # a copy of something else has another name; its time is that of its last use
        inside = (os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names)
        found = sorted([path] if os.path.isfile(path) else inside)
        return tuple((path, each.st_size, each.st_mtime_ns, each.st_ino) for path in found for each in [os.stat(path)])


def check_preprocessing(source: BackboneSource, asked: str) -> None:
    """Raises UserError when another preprocessing is asked for than a network of the table was trained with."""
    if source.is_custom:
        return
    trained_with = backbone_info(source.name).preprocessing
    if asked not in (AUTO, trained_with):
        raise UserError(
            "bad-flag",
            f"{source.name} was trained with the preprocessing {trained_with}, not {asked}: leave --preprocessing out",
        )


def check_weights(weights: str) -> None:
    """Raises UserError for weights that are neither imagenet, random:SEED nor a file of a kind that is read."""
    if weights == "imagenet":
        return
    if weights.startswith("random:"):
        random_seed(weights)
        return
    if not _is_file(weights):
        raise UserError("missing-input", f"--weights is imagenet, random:SEED or a file, and there is no file {weights!r}")
    if not weights.endswith((".keras", ".h5")):
        raise UserError("bad-model", f"weights are read from .keras, .weights.h5 and .h5 files, not from {weights!r}")


def random_seed(weights: str) -> int:
    """The SEED of `random:SEED`.

    Raises:
        UserError: when it is no whole number below 2**32.
    """
    text = weights.partition(":")[2]
    if not text.isdigit() or int(text) >= 2**32:
        raise UserError("bad-flag", f"random weights are named random:SEED with a whole number below 2**32, not {weights!r}")
    return int(text)


def _is_path(backbone: str) -> bool:
    return backbone not in BACKBONES and (
        backbone.endswith((".keras", ".h5")) or os.sep in backbone or os.path.isdir(backbone) or os.path.isfile(backbone)
    )


def _is_file(weights: str) -> bool:
    """Whether weights are a file that is there."""
    named = weights == "imagenet" or weights.startswith("random:")
    return not named and place.entry(weights) is not None
