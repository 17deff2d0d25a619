"""What `headstart audit` finds in real photographs, of faults that were planted there, and of photographs as they are."""

from __future__ import annotations

import pathlib

import numpy as np
import pytest

from headstart.features.dataset.examples import Example
from headstart.features.dataset.sources import read_source
from headstart.features.places.identity import digest_of
from headstart.features.spec import FeatureSpec, Tap
from headstart.training.auditing.findings import Images
from headstart.training.auditing.shortcuts import find_shortcuts
from headstart.training.auditing.thumbnails import ImageFiles, read_thumbnails
from tests.benchmarks.audit import audited, compared
from tests.benchmarks.planted import listed, plant, saved_anew

PHOTOS = pathlib.Path("/work/shared/data/cats_and_dogs_small")
PER_CLASS = 200

pytestmark = pytest.mark.skipif(not PHOTOS.is_dir(), reason=f"{PHOTOS} is not here: real photographs are needed")


@pytest.mark.slow
def test_faults_are_found(tmp_path: pathlib.Path) -> None:
    planted = plant(listed(str(PHOTOS), PER_CLASS), str(tmp_path / "planted"), flips=0.05, copies=15)
    result = audited(planted.folder)
    found = compared(planted)
    assert len(planted.flipped) == 20 and found.recall["wrong labels"] >= 0.7 and found.precision["wrong labels"] >= 0.8
    assert found.recall["re-encoded"] >= 0.9 and found.recall["mirrored"] >= 0.9 and found.recall["cropped"] >= 0.7
    assert found.precision["copies"] >= 0.9
    assert result.findings[0].kind == "leaks" and result.score and result.score.without.examples < result.score.all.examples
    assert not result.count("shortcuts") and not result.count("groups") and result.count("outliers") <= 4


@pytest.mark.slow
def test_clean_photographs_raise_few_alarms(tmp_path: pathlib.Path) -> None:
    clean = plant(listed(str(PHOTOS), PER_CLASS, seed=1), str(tmp_path / "clean"))
    result = audited(clean.folder)
    assert result.count("label_errors") <= 4 and result.count("outliers") <= 4
    assert result.count("leaks") + result.count("duplicates") <= 3
    assert not any(result.count(kind) for kind in ("conflicts", "shortcuts", "groups", "small_classes"))


def test_a_class_that_is_darker_is_a_shortcut(tmp_path: pathlib.Path) -> None:
    planted = plant(listed(str(PHOTOS), PER_CLASS), str(tmp_path / "dark"))
    saved_anew(planted.folder, "dogs", brightness=0.7)
    examples = [
        Example(image.key, digest_of(image.path), image.labels, image.split) for image in read_source(planted.folder).images
    ]
    labels = np.array([int(example.labels == ("dogs",)) for example in examples])
    held = np.array([example.split == "test" for example in examples])
    spec = FeatureSpec("A", "", (8, 8), (Tap("x"),), "none")
    thumbnails = read_thumbnails(ImageFiles(planted.folder, spec, 10**9), examples)
    images = Images(examples, labels, ["cats", "dogs"], "test", held)
    found = find_shortcuts(images, thumbnails, [example.digest for example in examples], 0)
    assert "brightness" in [row["property"] for row in found.rows] and found.at_stake > 0.1
