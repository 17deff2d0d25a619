"""What an earlier use of a network left on this machine: all that decides the network in, its files out.

What takes TensorFlow and Keras seconds to find out is kept for OpenVINO, which needs neither of them to run it: facts, the
frozen graph, the network's file. They lie in the cache's folder: networks/KEY/NAME.SHA256.ENDING. KEY is a digest of all that
decides them; a file that is not what its name says counts as none. What is not there is made as it was the first time.
"""

from __future__ import annotations

import contextlib
import functools
import glob
import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any, BinaryIO

from headstart.features import files, keras_internals
from headstart.features.backbones.efficientnet_lite import VARIANTS
from headstart.features.backbones.source import BackboneSource
from headstart.features.places.cache import cache_bytes, cache_root, make_room
from headstart.features.runtime import gpu_possible, keras_backend
from headstart.features.spec import Tap

FACTS, GRAPH, NETWORK = "facts.json", "graph.pb", "network.keras"
LIMIT = 5_000_000_000  # bytes of all of them together, or what the cache may take, where that is less
PACKAGES = ("headstart", "tensorflow", "keras", "openvino", "numpy")


@dataclass(frozen=True)
class Kept:
    """The files that are kept of one network: the folder that they lie in, there or not."""

    folder: str

    def find(self, name: str) -> str | None:
        """The path of a file of FACTS, GRAPH and NETWORK, if it is there and whole; then it counts as used now."""
        stem, _, ending = name.partition(".")
        for path in glob.glob(os.path.join(glob.escape(self.folder), f"{stem}.*.{ending}")):
            with contextlib.suppress(OSError):
                if files.sha256_file(path) == path.split(".")[-2]:
                    os.utime(path)
                    return path
        return None

    def keep(self, name: str, content: BinaryIO) -> None:
        """Keeps a file of this content; where the disk is full or may not be written to, nothing is kept."""
        stem, _, ending = name.partition(".")
        digest = files.sha256_of(iter(lambda: content.read(1 << 20), b""))
        size, limit = content.tell(), min(LIMIT, cache_bytes())
        if size > limit:
            return
        with contextlib.suppress(OSError):
            make_room(os.path.dirname(self.folder), limit - size, keep=set())
            os.makedirs(self.folder, exist_ok=True)
            with files.atomic(os.path.join(self.folder, f"{stem}.{digest}.{ending}")) as target:
                content.seek(0)
                shutil.copyfileobj(content, target)


def kept_of(
    source: BackboneSource, image_size: tuple[int, int] | None, preprocessing: str, taps: Sequence[Tap]
) -> Kept | None:
    """What is kept of a network, tapped as is asked for; None where nothing may be.

    That is of a model of the user's own and of files that bring code, because that may be changed and nobody would see it.
    """
    if source.is_custom or source.unsafe:
        return None
    carrier = VARIANTS[source.name].package if source.name in VARIANTS else ""
    asked = [source.name, source.weights, source.version(), image_size, preprocessing, [(tap.layer, tap.pool) for tap in taps]]
    return kept_by(asked, *filter(None, [carrier]))


def kept_by(asked: Any, *packages: str) -> Kept | None:
    """The same, by all that decides a network beside this project's code and the versions of what computes; JSON.

    None where another than OpenVINO on a CPU may be the one to run it.
    """
    if keras_backend() != "tensorflow" or gpu_possible():
        return None
    try:
        versions = [*map(_version, (*PACKAGES, *packages))]
    except metadata.PackageNotFoundError:
        return None
    key = hashlib.sha256(json.dumps([asked, versions, _code()]).encode("utf-8", "surrogateescape")).hexdigest()
    return Kept(os.path.join(cache_root(), "networks", key))


_version = functools.cache(metadata.version)


@functools.cache
def _code() -> str:
    """sha256 over the modules that make a network: of this version others may be about, while it is worked on."""
    backbones = os.path.dirname(os.path.abspath(__file__))
    freeze = os.path.join(os.path.dirname(backbones), "engines", "freeze.py")
    paths = [*sorted(glob.glob(os.path.join(glob.escape(backbones), "*.py"))), freeze, keras_internals.__file__]
    return files.sha256_of(map(files.read_bytes, paths))
