"""The probe: each tap against a fit by hand, a test split that is never read, stores compared, and what is advised."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
import os
import pathlib
import re
import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from headstart.cli import main
from headstart.commands.probe import describe
from headstart.features.dataset.examples import from_csv, to_csv
from headstart.features.store.feature_store import FeatureStore
from headstart.features.store.verify import faults
from headstart.training.pages.page import REPORT
from headstart.training.plots.accuracy_by_depth import accuracy_by_depth
from headstart.training.probing import ridge
from headstart.training.probing.probe import PLOT, RESULT, TABLE, ProbeResult, TapProbe, _rank, advise, probe
from headstart.training.probing.probe_config import ProbeConfig
from headstart.training.scoring.comparisons import PairedDifference
from tests.conftest import IMAGE_SIZE, PER_SPLIT, generation, rewrite_manifest, small_backbone
from tests.pages import alone

TAPS = ("block2b_add:none", "block3b_add:grid2", "")
NAMES = ["block2b_add:none", "block3b_add:grid2", "top_activation:avg"]
EXAMPLES = {split: 3 * PER_SPLIT[split] for split in ("train", "validation")}


def extracted(folder: pathlib.Path, path: pathlib.Path, **options: Any) -> pathlib.Path:
    from headstart.pipelines.extract import extract
    from headstart.pipelines.extract_config import ExtractConfig

    extract(ExtractConfig(**{"input": str(folder), "store": str(path)} | small_backbone() | options))
    return path


def probed(run: pathlib.Path, *stores: pathlib.Path, **options: Any) -> ProbeResult:
    return probe(ProbeConfig(stores=tuple(map(str, stores)), run=str(run), **options))


def rows(run: pathlib.Path) -> list[dict[str, str]]:
    with open(run / TABLE, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def taps(photos: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The features of `photos` at three depths, the first as a whole map."""
    return extracted(photos, tmp_path_factory.mktemp("taps") / "taps", taps=TAPS)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return tmp_path_factory.mktemp("probe") / "run"


@pytest.fixture(scope="module")
def result(taps: pathlib.Path, run: pathlib.Path) -> ProbeResult:
    return probed(run, taps)


@pytest.fixture(scope="module")
def mobile(photos: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """MobileNet's features of `photos` less a tenth of a class, and of an image that is in no other store."""
    folder = tmp_path_factory.mktemp("mobile")
    shutil.copytree(photos, folder / "photos")
    for name in ("00.jpg", "03.png"):
        (folder / "photos/train/fern" / name).unlink()
    Image.new("RGB", (40, 40), (0, 99, 0)).save(folder / "photos/train/fern/new.png")
    return extracted(folder / "photos", folder / "mobile", backbone="MobileNet", weights="random:0", preprocessing="auto")


# One store.


@pytest.mark.parametrize("number", range(3))
def test_a_tap_is_probed_as_by_hand(number: int, result: ProbeResult, taps: pathlib.Path) -> None:
    store, name = FeatureStore.open(str(taps)), NAMES[number]
    (found,) = (each for each in result.probes if each.tap == name)
    (x, y), (unseen, truth) = (store.to_numpy(split, name)[:2] for split in EXAMPLES)
    if name.endswith(":none"):
        assert x.ndim == 4
        x, unseen = (each.astype(np.float32).mean((1, 2)) for each in (x, unseen))
    x, unseen = (each.astype(np.float32).reshape(len(each), -1) for each in (x, unseen))
    fitted = ridge.fit(x, y, 3, [example.digest for example in store.examples("train")])
    assert np.array_equal(found.correct, fitted.predict(unseen) == truth)
    assert found.features == x.shape[1] and found.accuracy == found.correct.mean()
    assert (found.regularisation, found.training_accuracy) == (fitted.regularisation, fitted.accuracy)
    assert 0 <= found.low < found.accuracy < found.high or found.accuracy == found.high == 1
    tap = store.tap(name)
    assert (found.depth, found.bytes_per_image) == (tap.depth, 2 * int(np.prod(tap.shape)))


def test_the_table_begins_with_the_most_accurate(result: ProbeResult, run: pathlib.Path) -> None:
    assert set(os.listdir(run)) == {TABLE, RESULT, PLOT, REPORT}
    written = rows(run)
    assert [row["tap"] for row in written] == [found.tap for found in result.probes]
    assert sorted(NAMES) == sorted(row["tap"] for row in written)
    order = [(-float(row["accuracy"]), -float(row["training_accuracy"]), int(row["bytes_per_image"])) for row in written]
    assert order == sorted(order)
    assert (written[0]["difference"], written[0]["difference_seen"]) == ("0.0", "False")
    for row in written:
        assert float(row["low"]) <= float(row["accuracy"]) <= float(row["high"])
        assert float(row["difference"]) == pytest.approx(float(row["accuracy"]) - float(written[0]["accuracy"]))


def test_the_json_says_the_same(result: ProbeResult, run: pathlib.Path) -> None:
    summary = json.loads((run / RESULT).read_text(encoding="ascii"))
    assert summary["advice"] == result.advice and summary["examples"] == EXAMPLES
    as_text = [{name: "" if value is None else str(value) for name, value in row.items()} for row in summary["probes"]]
    assert as_text == rows(run)


def test_the_plot_is_a_picture(result: ProbeResult, run: pathlib.Path) -> None:
    with Image.open(run / PLOT) as image:
        assert image.format == "PNG" and np.asarray(image.convert("L")).std() > 5


def test_the_page_has_it_all(result: ProbeResult, taps: pathlib.Path, run: pathlib.Path) -> None:
    page = alone(run / REPORT)
    assert page.sections == ["result", "taps", "depth", "data", "repeat"] and len(page.all("svg")) == 1
    assert result.advice[1:] in page.texts["result"]
    assert f"Learned from {EXAMPLES['train']} images of train, measured on {EXAMPLES['validation']}" in page.texts["result"]
    for found in result.probes:
        assert re.search(rf"{re.escape(found.tap)}\s*{found.depth:.0%}\s*{100 * found.accuracy:.1f}%", page.texts["taps"])
    assert f"headstart probe {taps} --run {run}" in page.texts["repeat"]


def test_the_advice_is_a_sentence_that_names_the_best(result: ProbeResult) -> None:
    assert result.advice.startswith(f"take {result.probes[0].tap} (") and result.advice.endswith(".")
    assert "\n" not in result.advice and ". " not in result.advice


def test_tells_it_all_in_a_terminal(result: ProbeResult, taps: pathlib.Path, run: pathlib.Path) -> None:
    first, head, *table, advice, where = describe(ProbeConfig(stores=(str(taps),), run=str(run)), result).splitlines()
    assert "used for selection" in first and "store" not in head and head.split()[:3] == ["tap", "depth", "accuracy"]
    assert [row.split()[0] for row in table] == [found.tap for found in result.probes]
    assert "the best" in table[0] and not any("the best" in row for row in table[1:])
    assert advice == f"Advice: {result.advice}" and where.startswith(f"{run}: {REPORT}, {TABLE}, {RESULT}, {PLOT} (")
    assert max(map(len, table)) < 120


def test_the_same_again(result: ProbeResult, taps: pathlib.Path, run: pathlib.Path, tmp_path: pathlib.Path) -> None:
    probed(tmp_path, taps)
    for name in (TABLE, PLOT):
        assert (tmp_path / name).read_bytes() == (run / name).read_bytes()
    before = (tmp_path / TABLE).stat().st_mtime_ns
    probed(tmp_path, taps)  # over an older probe
    assert (tmp_path / TABLE).read_bytes() == (run / TABLE).read_bytes()
    assert (tmp_path / TABLE).stat().st_mtime_ns > before


def test_the_test_split_is_never_read(
    result: ProbeResult, taps: pathlib.Path, run: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(taps, tmp_path / "copy")
    shards = list((tmp_path / "copy").glob("generations/*/*-test.tfrecord-*-of-?????"))
    assert shards
    for shard in shards:
        shard.write_bytes(bytes(shard.stat().st_size))
    assert any(faults("copy"))
    probed(tmp_path / "run", tmp_path / "copy")
    for row, whole in zip(rows(tmp_path / "run"), rows(run), strict=True):
        assert row | {"store": ""} == whole | {"store": ""}


@pytest.mark.parametrize("limit", [2, 7])
def test_no_more_examples_than_asked_for(limit: int, store: pathlib.Path, tmp_path: pathlib.Path) -> None:
    (found,) = probed(tmp_path / "run", store, max_examples=limit).probes
    opened = FeatureStore.open(str(store))
    (x, y), (unseen, truth) = (
        [each[:limit] for each in opened.to_numpy(split, "top_activation:avg")[:2]] for split in EXAMPLES
    )
    digests = [example.digest for example in opened.examples("train")][:limit]
    fitted = ridge.fit(x.astype(np.float32), y, 3, digests)
    assert np.array_equal(found.correct, fitted.predict(unseen.astype(np.float32)) == truth)
    summary = json.loads((tmp_path / "run" / RESULT).read_text(encoding="ascii"))
    assert summary["examples"] == {"train": limit, "validation": limit}


def test_declared_groups_stay_together(store_copy: pathlib.Path, tmp_path: pathlib.Path) -> None:
    table = from_csv((generation(store_copy) / "examples.csv").read_bytes())
    grouped = [type(each)(each.key, each.digest, each.labels, each.split, f"{each.split} {each.labels[0]}") for each in table]
    (generation(store_copy) / "examples.csv").write_bytes(to_csv(grouped))
    rewrite_manifest(store_copy)
    (found,) = probed(tmp_path / "run", store_copy).probes
    assert found.training_accuracy == 0  # nothing of a class is known when its only group is left out


def test_where_nothing_can_be_left_out_nothing_is_claimed(store_copy: pathlib.Path, tmp_path: pathlib.Path) -> None:
    table = from_csv((generation(store_copy) / "examples.csv").read_bytes())
    grouped = [type(each)(each.key, each.digest, each.labels, each.split, "one") for each in table]
    (generation(store_copy) / "examples.csv").write_bytes(to_csv(grouped))
    rewrite_manifest(store_copy)
    probed(tmp_path / "run", store_copy)
    (row,) = rows(tmp_path / "run")
    assert (row["training_accuracy"], row["difference_low"], row["difference_seen"]) == ("", "", "False")
    assert "NaN" not in (tmp_path / "run" / RESULT).read_text(encoding="ascii")


# Several stores.


def test_two_backbones_on_the_images_that_both_have(
    taps: pathlib.Path, mobile: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = probed(tmp_path / "run", taps, mobile)
    assert "warning: 2 images of the train split are not in every store and are left out" in capsys.readouterr().err
    summary = json.loads((tmp_path / "run" / RESULT).read_text(encoding="ascii"))
    assert summary["examples"] == {"train": 34, "validation": 12}
    assert sorted((found.backbone, found.tap) for found in result.probes) == [
        ("MobileNet", "conv_pw_13_relu:avg"),
        *(("own:stand_in", name) for name in NAMES),
    ]
    told = describe(ProbeConfig(stores=(str(taps), str(mobile)), run="run"), result)
    assert told.count(str(mobile)) >= 1 and told.splitlines()[1].split()[:3] == ["tap", "store", "depth"]
    opened, other = FeatureStore.open(str(mobile)), FeatureStore.open(str(taps))
    common = {example.digest for example in other.examples("train")}
    kept = [row for row, example in enumerate(opened.examples("train")) if example.digest in common]
    x, y, _ = opened.to_numpy("train")
    fitted = ridge.fit(x[kept].astype(np.float32), y[kept], 3, [opened.examples("train")[row].digest for row in kept])
    unseen, truth, _ = opened.to_numpy("validation")
    (found,) = (each for each in result.probes if each.backbone == "MobileNet")
    assert np.array_equal(found.correct, fitted.predict(unseen.astype(np.float32)) == truth)


def test_the_order_of_stores_changes_no_figure(taps: pathlib.Path, mobile: pathlib.Path, tmp_path: pathlib.Path) -> None:
    figures = []
    for run, stores in (("a", (taps, mobile)), ("b", (mobile, taps))):
        probed(tmp_path / run, *stores, max_examples=20)
        figures.append({(row["store"], row["tap"]): row["accuracy"] for row in rows(tmp_path / run)})
    assert figures[0] == figures[1]


def test_between_identical_taps_no_difference_is_seen(
    store: pathlib.Path, store_copy: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    result = probed(tmp_path / "run", store, store_copy)
    told = describe(ProbeConfig(stores=(str(store), str(store_copy)), run="run"), result).splitlines()
    assert "the best" in told[2] and str(store) in told[2]
    assert "no difference seen" in told[3] and str(store_copy) in told[3]
    assert [found.difference for found in result.against_best] == [0, 0]
    assert result.advice == f"take top_activation:avg of {store} ({result.probes[0].accuracy:.1%})."


def test_stores_of_one_name_are_two_lines_in_the_plot(
    store: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[list[str]] = []

    def draw(points: Any, *others: Any) -> None:
        drawn.append([point.series for point in points])
        accuracy_by_depth(points, *others)

    monkeypatch.setattr("headstart.training.probing.probe.accuracy_by_depth", draw)
    monkeypatch.chdir(tmp_path)
    for folder in ("a", "b"):
        shutil.copytree(store, tmp_path / folder / "store")
    probed(tmp_path / "run", pathlib.Path("a/store"), pathlib.Path("b/store"))
    assert drawn == 2 * [["a/store avg", "b/store avg"]]  # beside the table, and on the page
    shutil.copytree(store, tmp_path / "c")
    probed(tmp_path / "run", pathlib.Path("a/store"), pathlib.Path("c"))
    assert drawn[2:] == 2 * [["store avg", "c avg"]]


# What is refused, in one line.


def refused(one_line: Callable[[], str], run: pathlib.Path, *argv: object) -> str:
    assert main(["probe", *map(str, argv), "--run", str(run)]) == 2
    return one_line()


def test_stores_of_other_images(
    store: pathlib.Path, lopsided: pathlib.Path, tmp_path: pathlib.Path, one_line: Callable[[], str]
) -> None:
    assert "no image of the train split in common" in refused(one_line, tmp_path / "run", store, lopsided)
    assert not (tmp_path / "run").exists()


def test_other_labels_for_the_same_images(
    store: pathlib.Path, store_copy: pathlib.Path, tmp_path: pathlib.Path, one_line: Callable[[], str]
) -> None:
    swapped = {"fern": "gentian", "gentian": "fern", "anemone": "anemone"}
    table = from_csv((generation(store_copy) / "examples.csv").read_bytes())
    table = [type(each)(each.key, each.digest, (swapped[each.labels[0]],), each.split, each.group) for each in table]
    (generation(store_copy) / "examples.csv").write_bytes(to_csv(table))
    rewrite_manifest(store_copy)
    line = refused(one_line, tmp_path / "run", store, store_copy)
    assert f"{str(store_copy)!r} and {str(store)!r} label the same images differently: extract both again" in line


def test_other_classes_for_the_same_images(
    store: pathlib.Path, store_copy: pathlib.Path, tmp_path: pathlib.Path, one_line: Callable[[], str]
) -> None:
    rewrite_manifest(store_copy, lambda manifest: manifest["class_names"].append("lily"))
    assert "label the same images differently" in refused(one_line, tmp_path / "run", store, store_copy)


def test_a_store_named_twice(store: pathlib.Path, tmp_path: pathlib.Path, one_line: Callable[[], str]) -> None:
    assert "a store is named twice" in refused(one_line, tmp_path / "run", store, f"{store}{os.sep}")


def test_a_store_without_validation(lopsided: pathlib.Path, tmp_path: pathlib.Path, one_line: Callable[[], str]) -> None:
    line = refused(one_line, tmp_path / "run", lopsided)
    assert f"{str(lopsided)!r} has no validation split, and a probe needs it; it has train" in line


def test_a_run_that_holds_something_else(store: pathlib.Path, tmp_path: pathlib.Path, one_line: Callable[[], str]) -> None:
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    assert "holds something else than a probe" in refused(one_line, tmp_path, store)
    assert "is a file: give the name of a folder" in refused(one_line, tmp_path / "notes.txt", store)
    assert os.listdir(tmp_path) == ["notes.txt"]


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--max_examples", "1"], "--max_examples must be at least 2, not 1"),
        (["--seed", "-1"], "--seed must be at least 0, not -1"),
        (["--max_examples", "many"], "--max_examples takes a whole number, not 'many'"),
    ],
)
def test_bad_values(flags: list[str], told: str, tmp_path: pathlib.Path, one_line: Callable[[], str]) -> None:
    assert told in refused(one_line, tmp_path / "run", "store", *flags)


def test_no_store(tmp_path: pathlib.Path, one_line: Callable[[], str]) -> None:
    assert "headstart extract INPUT --store" in refused(one_line, tmp_path / "run", tmp_path / "none")


def test_the_command_prints_what_it_found(
    store: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["probe", str(store), "--run", str(tmp_path / "run")]) == 0
    captured = capsys.readouterr()
    assert "top_activation:avg" in captured.out and "Advice: take top_activation:avg (" in captured.out
    assert f"{IMAGE_SIZE}" not in captured.err.replace(str(tmp_path), "")


# What is advised.


def found(tap: str, depth: float, accuracy: float, size: int = 100, store: str = "store") -> TapProbe:
    none = np.zeros(100, bool)
    return TapProbe(store, "VGG16", tap, depth, accuracy, accuracy, accuracy, size // 2, size, 1.0, accuracy, none)


SAME, UNSEEN = PairedDifference(0.0, 0.0, 0.0), PairedDifference(-0.01, -0.03, 0.01)
UNKNOWN = PairedDifference(-0.2, math.nan, math.nan)


def worse(points: float) -> PairedDifference:
    return PairedDifference(-points / 100, -points / 100 - 0.01, -points / 100 + 0.01)


@pytest.mark.parametrize(
    ("probes", "against", "advice"),
    [
        ([found("a:avg", 1.0, 0.9)], [SAME], "take a:avg (90.0%)."),
        ([found("a:avg", 1.0, 0.9), found("a:max", 1.0, 0.8)], [SAME, worse(10)], "take a:avg (90.0%)."),
        (
            [found("last:avg", 1.0, 0.9), found("mid:avg", 0.4, 0.5)],
            [SAME, worse(40)],
            "take last:avg (90.0%); the last map serves best: these images are near to what the backbone learned from.",
        ),
        (
            [found("mid:avg", 0.4, 0.958), found("last:avg", 1.0, 0.835)],
            [SAME, worse(12.3)],
            "take mid:avg (95.8%); the last map is 12.3 points worse: "
            "these images are far from what the backbone learned from.",
        ),
        (
            [found("mid:avg", 0.4, 0.9), found("last:avg", 1.0, 0.89)],
            [SAME, UNSEEN],
            "take mid:avg (90.0%); too few images to tell whether the last map (last:avg) is worse: about 400 would do.",
        ),
        (  # the best tap of the last map counts, not the worst
            [found("mid:avg", 0.4, 0.9), found("last:grid3", 1.0, 0.89), found("last:avg", 1.0, 0.5)],
            [SAME, UNSEEN, worse(40)],
            "take mid:avg (90.0%); too few images to tell whether the last map (last:grid3) is worse: about 400 would do.",
        ),
        (
            [found("mid:grid3", 0.4, 0.9, 900), found("mid:avg", 0.4, 0.89, 100), found("last:avg", 1.0, 0.5, 50)],
            [SAME, UNSEEN, worse(40)],
            "take mid:grid3 (90.0%); or mid:avg, 9.0 times smaller and at most 3 points worse; "
            "the last map is 40.0 points worse: these images are far from what the backbone learned from.",
        ),
        (  # one group: nothing is known, and so nothing was seen
            [found("mid:avg", 0.4, 0.9), found("last:avg", 1.0, 0.7)],
            [SAME, UNKNOWN],
            "take mid:avg (90.0%); too few groups to tell whether the last map (last:avg) is worse.",
        ),
        (  # 20 images: half as many right, and nobody can tell; it is not advised
            [found("mid:grid3", 0.4, 0.7, 900), found("last:avg", 1.0, 0.45, 100)],
            [SAME, PairedDifference(-0.25, -0.6, 0.1)],
            "take mid:grid3 (70.0%); too few images to tell whether the last map (last:avg) is worse: about 200 would do.",
        ),
        (  # the last map looks best, and a lower one may be as good
            [found("last:avg", 1.0, 0.9), found("mid:avg", 0.4, 0.89)],
            [SAME, PairedDifference(-0.001, -0.05, 0.048)],
            "take last:avg (90.0%); whether mid:avg is worse can't be told, and hardly matters.",
        ),
        (  # the last map was not extracted: nothing is said of it
            [found("early:avg", 0.2, 0.9), found("mid:avg", 0.4, 0.5)],
            [SAME, worse(40)],
            "take early:avg (90.0%).",
        ),
        (  # of two stores only the best one's last map tells how near the images are
            [found("a:avg", 0.4, 0.9, store="s"), found("b:avg", 1.0, 0.8, store="t"), found("a:max", 1.0, 0.7, store="s")],
            [SAME, worse(10), worse(20)],
            "take a:avg of s (90.0%); the last map is 20.0 points worse: "
            "these images are far from what the backbone learned from.",
        ),
        (
            [found("a:avg", 1.0, 0.9, 300, "s"), found("a:avg", 1.0, 0.9, 200, "t")],
            [SAME, UNSEEN],
            "take a:avg of s (90.0%); or a:avg of t, 1.5 times smaller and at most 3 points worse.",
        ),
    ],
)
def test_advice(probes: list[TapProbe], against: list[PairedDifference], advice: str) -> None:
    assert advise(probes, against) == advice


def test_of_equals_the_cross_validated_then_the_smallest_comes_first() -> None:
    tied = [found(name, 0.5, 0.9, size) for name, size in (("a:avg", 300), ("b:avg", 100), ("c:avg", 200))]
    known = [dataclasses.replace(each, training_accuracy=accuracy) for each, accuracy in zip(tied, (0.8, 0.7, 0.8))]
    assert [each.tap for each in sorted(known, key=_rank)] == ["c:avg", "a:avg", "b:avg"]
    unknown = [dataclasses.replace(each, training_accuracy=float("nan")) for each in tied]  # of a single group
    assert [each.tap for each in sorted(unknown, key=_rank)] == ["b:avg", "c:avg", "a:avg"]
