"""No byte of a store can change unseen, and a reader never pairs what one extraction wrote with what another did."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from headstart.cli import main
from headstart.features.dataset import dataset_table as table
from headstart.features.errors import UserError
from headstart.features.store.feature_store import FeatureStore
from headstart.features.store.manifest import MANIFEST
from headstart.features.store.verify import faults
from headstart.pipelines.extract import extract
from headstart.pipelines.extract_config import ExtractConfig
from tests.conftest import generation, little_base, rewrite_manifest

SMALL = 10_000  # bytes: of larger files, this many places are tried
SAMPLED = 150


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A little store with a dead letter, and the same after its two classes have changed names."""
    root = tmp_path_factory.mktemp("versions")
    base = little_base(root / "little.keras")
    for number in range(14):
        folder = root / "photos" / ("cat", "dog")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (8, 8, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    (root / "photos" / "cat" / "cut.png").write_bytes((root / "photos" / "cat" / "0.png").read_bytes()[:60])
    config = ExtractConfig(
        input=str(root / "photos"), store=str(root / "store"), backbone=str(base), preprocessing="tf", image_size="32",
        examples_per_shard=8, max_bad_fraction=0.2,
    )  # fmt: skip
    extract(config)
    shutil.copytree(root / "store", root / "first")
    for old, new in (("cat", "was cat"), ("dog", "cat"), ("was cat", "dog")):
        (root / "photos" / old).rename(root / "photos" / new)
    extract(config)
    return root / "first", root / "store"


@pytest.fixture
def store(versions: tuple[Path, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(versions[0], tmp_path / "store"))


def flipped(path: Path) -> Iterator[str]:
    """Changes one byte after the other, to its opposite and in one bit, and puts it back."""
    content = path.read_bytes()
    generator = np.random.default_rng(len(content))
    places = range(len(content)) if len(content) < SMALL else generator.choice(len(content), SAMPLED, replace=False).tolist()
    for at in places:
        for flip in (0xFF, 1 << int(generator.integers(8))):
            with open(path, "r+b") as file:
                file.seek(at)
                file.write(bytes([content[at] ^ flip]))
            yield f"byte {at} of {path.name} ^ {flip:02x}"
    path.write_bytes(content)


def files_of(store: Path) -> list[Path]:
    """All that the store is made of."""
    return [store / MANIFEST, *sorted(path for path in generation(store).iterdir())]


@pytest.mark.slow
def test_any_changed_byte_of_any_file_is_found(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = {path.name for path in files_of(store)}
    assert {"manifest.json", "dead_letters.jsonl", "backbone.keras", "sample.tfrecord", "features.json"} <= names
    unseen = [
        flip
        for path in files_of(store)
        for flip in flipped(path)
        if not next(faults(str(store)), "").startswith(str(path.relative_to(store)))
    ]
    assert unseen == []
    assert main(["verify", str(store)]) == 0, capsys.readouterr().out


@pytest.mark.parametrize("change", ["missing", "longer", "shorter"])
def test_a_file_of_another_length_is_found(change: str, store: Path) -> None:
    for path in files_of(store)[1:]:
        content = path.read_bytes()
        if change == "missing":
            path.unlink()
        else:
            path.write_bytes(content + b"\n" if change == "longer" else content[:-1])
        assert next(faults(str(store))).startswith(str(path.relative_to(store)))
        path.write_bytes(content)
    (store / "examples (copy).csv").touch()
    assert next(faults(str(store))) == "examples (copy).csv: not in the manifest"


@pytest.mark.parametrize("content", [b"[]", b"null", b"3", b'"x"', b"{}", b"", b'{"format": 6, "spl', b'{"format": "5"}'])
@pytest.mark.parametrize("name", ["manifest.json", "spec.json"])
def test_json_of_any_kind_is_refused_in_one_line(
    name: str, content: bytes, store: Path, one_line: Callable[[], str], capsys: pytest.CaptureFixture[str]
) -> None:
    path = store / MANIFEST if name == MANIFEST else generation(store) / name
    path.write_bytes(content)
    assert main(["info", str(store)]) == 2
    assert f"{name}' is" in (line := one_line()) and "delete the store and extract again" in line, line
    assert main(["verify", str(store)]) == 1
    assert capsys.readouterr().out.startswith(str(path.relative_to(store)))


def test_an_older_format_says_what_to_run(store: Path) -> None:
    rewrite_manifest(store, lambda manifest: manifest.update(format=5))
    with pytest.raises(
        UserError, match=r"a store of format 5, this version reads 6: delete it and run its `headstart extract"
    ):
        FeatureStore.open(str(store))


@pytest.mark.parametrize("change", ["dataset_digest", "totals", "fingerprint"])
def test_what_whoever_wrote_it_did_wrong_is_found(change: str, store: Path) -> None:
    def wrong(manifest: dict[str, Any]) -> None:
        manifest[change] = (
            {"stored": 1, "dead": 1, "planned": 9, "found": 9, "left_out": 0} if change == "totals" else "0" * 64
        )

    rewrite_manifest(store, wrong)
    expected = {"dataset_digest": "examples.csv: its digest", "totals": "manifest.json: stored 1", "fingerprint": "spec.json"}
    assert next(faults(str(store))).startswith(expected[change])


def readings(store: FeatureStore) -> dict[str, Callable[[], object]]:
    return {
        "features": lambda: store.features("train").all(),
        "labels": lambda: store.labels("train"),
        "sample": lambda: [image.label for image in store.sample()],
    }


def replace_with(store: Path, other: Path) -> None:
    """What another extraction does: a generation of its own, then the manifest."""
    shutil.copytree(generation(other), store / "generations" / generation(other).name)
    shutil.copy(other / MANIFEST, store / "new")
    os.replace(store / "new", store / MANIFEST)


def test_whoever_opened_a_store_goes_on_reading_what_it_was(store: Path, versions: tuple[Path, Path]) -> None:
    expected = {name: read() for name, read in readings(FeatureStore.open(str(store))).items()}
    opened = FeatureStore.open(str(store))
    replace_with(store, versions[1])
    for name, read in readings(opened).items():
        np.testing.assert_array_equal(read(), expected[name])  # type: ignore[arg-type]
    again = FeatureStore.open(str(store))
    assert not list(faults(again.path))
    np.testing.assert_array_equal(again.features("train").all(), expected["features"])  # the same images
    np.testing.assert_array_equal(again.labels("train"), 1 - expected["labels"])  # type: ignore[operator]  # other classes


@pytest.mark.parametrize("first", ["features", "labels", "sample"])
def test_what_was_cleaned_away_is_refused_and_never_mixed(first: str, store: Path, versions: tuple[Path, Path]) -> None:
    opened = FeatureStore.open(str(store))
    before = readings(opened)[first]()
    replace_with(store, versions[1])
    shutil.rmtree(store / opened.manifest.generations[0].folder)
    for name, read in readings(opened).items():
        if name == first and name != "sample":
            np.testing.assert_array_equal(read(), before)  # type: ignore[arg-type]  # it was read
        else:
            with pytest.raises(UserError, match=r"extracted again and cleaned since; open it again|is missing or damaged"):
                read()


def test_a_damaged_table_is_not_read(store: Path) -> None:
    path = generation(store) / table.TABLE
    opened = FeatureStore.open(str(store))
    path.write_text(path.read_text().replace(",cat,", ",dog,", 1))
    with pytest.raises(UserError, match=r"examples\.csv' is missing or damaged: delete the store and extract again"):
        opened.labels("train")
