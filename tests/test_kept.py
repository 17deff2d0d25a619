"""What is kept of a network: the same features from it, and nothing where anything is in doubt."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from headstart.cli import main
from headstart.features.backbones import backbone as backbone_module
from headstart.features.backbones import kept as kept_module
from headstart.features.backbones.backbone import Backbone, resolve_backbone, resolve_for_spec
from headstart.features.backbones.build import build
from headstart.features.backbones.kept import FACTS, GRAPH, NETWORK, Kept, kept_of
from headstart.features.backbones.source import BackboneSource
from headstart.features.engines import factory
from headstart.features.engines.options import has_openvino
from headstart.features.errors import UserError
from headstart.features.runtime import CACHE, gpu_possible, keras_backend
from headstart.features.spec import FeatureSpec, Tap
from headstart.features.store.feature_store import FeatureStore
from headstart.pipelines.finish import _network_file

ROOT = pathlib.Path(__file__).resolve().parent.parent
NET, SIZE = BackboneSource("EfficientNetLite0", "random:0"), (32, 32)
FLAGS = ["--backbone", NET.name, "--weights", NET.weights, "--image_size", "32", "--tap", "block3b_add:none", "--tap", ""]
HEAVY = """
import sys
from headstart.cli import main
status = main(sys.argv[1:])
print(*sorted({"tensorflow", "keras"} & set(sys.modules)))
sys.exit(status)
"""

pytestmark = pytest.mark.skipif(
    gpu_possible() or not has_openvino() or keras_backend() != "tensorflow", reason="OpenVINO does not run the networks here"
)


def loaded(*argv: str | pathlib.Path) -> str:
    """Which of TensorFlow and Keras a command loads, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", HEAVY, *map(str, argv)],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=110,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


def contents(folder: pathlib.Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def kept_files() -> list[pathlib.Path]:
    return sorted(path for path in pathlib.Path(os.environ[CACHE]).rglob("*") if path.is_file())


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is built from here on; no network is shared with what came before."""
    made: list[Any] = []
    monkeypatch.setattr(backbone_module, "build", lambda *given: made.append(given) or build(*given))
    monkeypatch.setattr(backbone_module, "_built", None)
    return made


def spec_of(found: Backbone) -> FeatureSpec:
    return FeatureSpec(
        found.name, found.weights_digest, found.image_size, found.taps, found.preprocessing, architecture=found.architecture
    )


def extracted(photos: pathlib.Path, store: pathlib.Path) -> dict[str, bytes]:
    """The files of a store, made by this process, which has built no network yet."""
    backbone_module._built = None
    factory._engine.cache_clear()
    assert main(["extract", str(photos), "--store", str(store), *FLAGS]) == 0
    return contents(store)


def test_a_kept_network_makes_the_same_store_without_tensorflow(
    photos: pathlib.Path, tmp_path: pathlib.Path, built: list[Any]
) -> None:
    first = extracted(photos, tmp_path / "first")
    assert {path.name.split(".")[0] for path in kept_files()} == {"facts", "graph", "network"} and len(built) == 1
    assert loaded("extract", photos, "--store", tmp_path / "again", *FLAGS) == ""
    assert contents(tmp_path / "again") == first
    for path in kept_files():  # a bit of each is another one
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    assert extracted(photos, tmp_path / "damaged") == first and len(built) == 2


def test_features_are_copied_without_tensorflow(photos: pathlib.Path, tmp_path: pathlib.Path) -> None:
    extracted(photos, tmp_path / "store")
    before = FeatureStore.open(str(tmp_path / "store"))
    copy = shutil.copytree(photos, tmp_path / "photos")
    for split in copy.iterdir():
        (split / "fern").rename(split / "bracken")
    assert loaded("extract", copy, "--store", tmp_path / "store", *FLAGS) == ""
    after = FeatureStore.open(str(tmp_path / "store"))
    assert after.class_names == ["anemone", "bracken", "gentian"]
    for tap in before.spec.taps:
        kept, found = (store.to_numpy("train", tap.name).features.tobytes() for store in (before, after))
        assert kept == found


@pytest.mark.slow
def test_a_run_s_model_that_was_asked_before_answers_the_same_without_tensorflow(
    photos: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    run = tmp_path / "run"
    train = ["train", tmp_path / "store", "--run", run, "--epochs", "1", "--tap", "top_activation", "--solver", "adam"]
    extracted(photos, tmp_path / "store")
    assert main([*map(str, train)]) == 0
    shutil.rmtree(os.environ[CACHE])

    def answers(name: str) -> bytes:
        assert main(["predict", str(run), str(photos), "--output", str(tmp_path / name)]) == 0
        return (tmp_path / name).read_bytes()

    first = answers("first.csv")
    assert [path.name.split(".")[0] for path in kept_files()] == ["graph", "graph"]  # of the backbone and the head
    assert loaded("predict", run, photos, "--output", tmp_path / "again.csv") == ""
    assert (tmp_path / "again.csv").read_bytes() == first
    assert loaded("predict", run, photos, "--output", tmp_path / "parts", "--images_per_file", "8") == ""
    assert main([*map(str, train), "--seed", "1"]) == 0
    assert answers("other.csv") != first and len(kept_files()) == 4


def test_what_is_known_is_not_built_again(built: list[Any]) -> None:
    found = resolve_backbone(NET, SIZE)
    assert resolve_backbone(NET, SIZE) == found and resolve_for_spec(spec_of(found), NET) == found
    assert len(built) == 1
    assert found.extractor.outputs[0].shape[1:] == found.taps[0].shape


@pytest.mark.parametrize(
    "spoil", [lambda path: path.unlink(), lambda path: path.write_bytes(b""), lambda path: path.write_bytes(b"{}")]
)
def test_a_file_that_is_gone_or_damaged_counts_as_none(built: list[Any], spoil: Callable[[pathlib.Path], Any]) -> None:
    found = resolve_backbone(NET, SIZE)
    for path in kept_files():
        spoil(path)
    backbone_module._built = None
    assert resolve_backbone(NET, SIZE) == found and len(built) == 2


def test_a_network_s_file_is_the_same_whatever_else_is_kept(built: list[Any], tmp_path: pathlib.Path) -> None:
    def saved(folder: str) -> bytes:
        (tmp_path / folder).mkdir()
        found = resolve_backbone(NET, SIZE, taps=[Tap("block3b_add")])
        return pathlib.Path(_network_file(found, str(tmp_path / folder))).read_bytes()

    first = saved("built")
    for path in kept_files():
        if path.name.startswith("network."):
            path.unlink()
    backbone_module._built = None
    assert saved("by its facts") == first == saved("kept") and len(built) == 2
    assert os.listdir(tmp_path / "kept") == []


def test_other_weights_than_a_spec_s_are_refused_by_what_is_kept(built: list[Any]) -> None:
    spec, other = spec_of(resolve_backbone(NET, SIZE)), BackboneSource(NET.name, "random:1")
    resolve_backbone(other, SIZE, spec.preprocessing, spec.taps)
    with pytest.raises(UserError, match=r"'random:1' of EfficientNetLite0 have digest .* give every worker the same weights"):
        resolve_for_spec(spec, other)
    assert len(built) == 2


def test_nothing_is_kept_of_what_is_refused() -> None:
    with pytest.raises(UserError, match="has no layer 'nosuch'"):
        resolve_backbone(NET, SIZE, taps=[Tap("nosuch")])
    with pytest.raises(UserError, match="at least"):
        resolve_backbone(BackboneSource("VGG16", "random:0"), (8, 8))
    assert kept_files() == []


def key(source: BackboneSource = NET, size: Any = SIZE, preprocessing: str = "lite", taps: Any = (Tap("a"),)) -> str | None:
    found = kept_of(source, size, preprocessing, taps)
    return found and found.folder


def test_whatever_decides_a_network_decides_where_it_is_kept(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = tmp_path / "a.weights.h5"
    weights.write_bytes(b"one")
    of_file = BackboneSource(NET.name, str(weights))
    keys = [
        key(), key(size=None), key(size=(32, 64)), key(preprocessing="auto"), key(taps=[Tap("a", "avg")]), key(of_file),
        key(BackboneSource("EfficientNetLite0", "random:1")), key(BackboneSource("MobileNetV2", "random:0")),
    ]  # fmt: skip
    weights.write_bytes(b"other")
    keys.append(key(of_file))
    for name in kept_module.PACKAGES:
        with monkeypatch.context() as patch:
            patch.setattr(kept_module, "_version", lambda asked, name=name: "9.9" if asked == name else "1.0")
            keys.append(key())
    with monkeypatch.context() as patch:
        patch.setattr(kept_module, "_code", lambda: "other")
        keys.append(key())
    assert None not in keys and len(set(keys)) == len(keys)
    assert key(taps=[Tap("a", shape=(1, 2), depth=0.5)]) == key()  # what is found out, and not asked for


def test_where_there_is_doubt_nothing_is_kept(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert key(BackboneSource("own", str(tmp_path))) is None
    assert key(BackboneSource(NET.name, NET.weights, unsafe=True)) is None
    for name, value in (("gpu_possible", True), ("keras_backend", "jax")):
        with monkeypatch.context() as patch:
            patch.setattr(kept_module, name, lambda value=value: value)
            assert key() is None
    monkeypatch.setattr(kept_module, "PACKAGES", ("nosuch-package",))
    assert key() is None


def test_the_least_used_go_when_there_is_no_room(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_module, "LIMIT", 25)
    entries = [Kept(str(tmp_path / "networks" / name)) for name in "abc"]

    def keep(entry: Kept, size: int, used: int) -> None:
        (tmp_path / "content").write_bytes(bytes(size))
        with open(tmp_path / "content", "rb") as file:
            entry.keep(GRAPH, file)
        for path in pathlib.Path(entry.folder).glob("*"):
            os.utime(path, (used, used))

    keep(entries[0], 10, used=1)
    keep(entries[1], 10, used=2)
    assert entries[0].find(GRAPH)  # now it was used last
    keep(entries[2], 10, used=3)
    assert [bool(entry.find(GRAPH)) for entry in entries] == [True, False, True]
    keep(entries[1], 26, used=4)  # more than all may take
    assert [bool(entry.find(name)) for entry in entries for name in (FACTS, GRAPH, NETWORK)].count(True) == 2


def test_a_cache_that_can_not_be_written_to_is_no_fault(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv(CACHE, str(tmp_path / "file"))
    assert resolve_backbone(NET, SIZE) == resolve_backbone(NET, SIZE)
    assert (tmp_path / "file").read_bytes() == b""


@pytest.mark.slow
@pytest.mark.parametrize("chosen", ["file", "broken file", "both"])
def test_keras_s_backend_is_told_as_keras_tells_it(chosen: str, tmp_path: pathlib.Path) -> None:
    (tmp_path / "home").mkdir()
    environment = {name: value for name, value in os.environ.items() if name != "KERAS_BACKEND"}
    if chosen == "both":
        environment["KERAS_BACKEND"] = "numpy"
    if chosen in ("file", "both"):
        (tmp_path / "home" / "keras.json").write_text('{"backend": "torch"}' if chosen == "both" else '{"backend": "numpy"}')
    if chosen == "broken file":
        (tmp_path / "home" / "keras.json").write_text('{"backend"')
    code = "from headstart.features.runtime import keras_backend as told; one = told(); import keras; print(one, told())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**environment, "PYTHONPATH": str(ROOT), "KERAS_HOME": str(tmp_path / "home")}, capture_output=True, text=True,
    )  # fmt: skip
    expected = "tensorflow" if chosen == "broken file" else "numpy"
    assert done.stdout.split() == [expected, expected], done.stderr
