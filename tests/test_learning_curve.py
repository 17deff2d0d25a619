"""The learning curve: the law against known ones, its interval against simulation, nested parts, the command."""

from __future__ import annotations

import csv
import json
import pathlib
import re
import shutil
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from headstart.cli import main
from headstart.training.probing.learners import ClassLearner, SetLearner
from headstart.training.probing.learning_curve import PLOT, RESULT, TABLE, part_sizes
from headstart.training.probing.power_law import EXPONENTS, Curve, Laws, fit_curve, fit_laws, replicated
from headstart.training.scoring.bootstrap import telling_groups
from tests.conftest import CLASSES, extracted, write_photos

SIZES = [8.0, 13.0, 20.0, 32.0, 50.0, 80.0, 125.0, 200.0]


@settings(max_examples=40, deadline=None)
@given(st.floats(0, 0.3), st.floats(0.05, 2), st.sampled_from(list(EXPONENTS[10:-5])))
def test_a_law_is_found_again(floor: float, scale: float, exponent: float) -> None:
    law = Laws(np.array([floor]), np.array([scale]), np.array([exponent]))
    found = fit_laws(SIZES, law.errors(SIZES), np.ones(len(SIZES)))
    np.testing.assert_allclose(found.errors([400, 1000]), law.errors([400, 1000]), atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=8, max_size=8))
def test_a_law_never_rises_and_is_no_worse_than_the_mean(errors: list[float]) -> None:
    given_errors = np.array([errors])
    found = fit_laws(SIZES, given_errors, np.ones(8))
    assert found.scales[0] >= 0 and found.floors[0] >= 0
    worst = np.square(given_errors - given_errors.mean()).sum()
    assert np.square(found.errors(SIZES) - given_errors).sum() <= worst + 1e-9


def answered(law: Laws, images: int, draws: int, seed: int) -> np.ndarray:
    """Whether images are classified rightly, bool [draws, K, images]: some are hard for all probes, and luck comes to it."""
    generator = np.random.default_rng(seed)
    hard, luck = generator.normal(0, 1, images), generator.normal(0, 0.4, (draws, len(SIZES), images))
    luck += generator.normal(0, 0.05, (draws, len(SIZES), 1))  # of a draw of training images
    from scipy.stats import norm

    bounds = norm.isf(law.errors(SIZES)[0], scale=np.sqrt(1 + 0.4**2 + 0.05**2))  # [K]
    return hard + luck < bounds[:, None]


def curve_of(correct: np.ndarray, groups: list[str]) -> Curve:
    """The curve of classified images, bool [draws, K, images]."""
    weights = replicated(groups, 0)
    telling = telling_groups(correct[0, -1], groups)
    return fit_curve(SIZES, ~correct @ weights / weights.sum(0), len(groups), 0, len(set(groups)), telling)


@pytest.mark.slow
@pytest.mark.parametrize("law", [(0.02, 0.6, 0.6), (0.0, 0.5, 0.35), (0.1, 1.0, 1.0)])
def test_the_interval_holds_what_more_images_bring(law: tuple[float, float, float]) -> None:
    truth, names = Laws(*(np.array([each]) for each in law)), [f"{number}" for number in range(400)]
    now, later = truth.errors([200, 600])[0]
    inside, trials = np.zeros(2), 40
    for trial in range(trials):
        curve = curve_of(answered(truth, 400, 5, trial), names)
        for which, (value, true) in enumerate(((curve.error(600), later), (curve.gain(400), now - later))):
            assert value[1] <= value[0] <= value[2]
            inside[which] += value[1] - 1e-9 <= true <= value[2] + 1e-9
    assert (inside >= 0.85 * trials).all(), inside / trials  # 0.95 less three standard errors


@pytest.mark.parametrize("images", [20, 60, 150])
def test_of_few_images_the_interval_holds_it_too_or_is_not_printed(images: int) -> None:
    truth, names = Laws(np.array([0.02]), np.array([0.6]), np.array([0.6])), [f"{number}" for number in range(images)]
    now, later = truth.errors([200, 600])[0]
    missed, trials = np.zeros(2), 40
    for trial in range(trials):
        curve = curve_of(answered(truth, images, 5, trial), names)
        for which, (value, true) in enumerate(((curve.error(600), later), (curve.gain(400), now - later))):
            assert np.isnan(value[1]) == (curve.telling < 5)
            missed[which] += value[1] > true or value[2] < true
    assert (missed <= 4).all(), missed / trials


def test_all_right_is_not_all_known() -> None:
    curve = curve_of(np.ones((5, len(SIZES), 30), bool), [f"{number}" for number in range(30)])
    assert np.isnan(curve.gain(400)[1:]).all() and np.isnan(curve.error(600)[1:]).all()


def test_more_images_to_score_on_narrow_the_interval() -> None:
    law = Laws(np.array([0.05]), np.array([0.8]), np.array([0.5]))
    few, many = (curve_of(answered(law, images, 5, 0), [f"{n}" for n in range(images)]) for images in (100, 2000))
    assert many.error(400)[2] - many.error(400)[1] < 0.6 * (few.error(400)[2] - few.error(400)[1])
    grouped = curve_of(answered(law, 2000, 5, 0), [f"{n // 50}" for n in range(2000)])
    assert grouped.errors.tolist() == many.errors.tolist()


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 5), st.integers(20, 60), st.integers(1, 4))
def test_parts_are_nested_stratified_and_keep_groups_whole(seed: int, classes: int, each: int, together: int) -> None:
    labels = np.repeat(np.arange(classes), each)
    groups = [f"{label}-{number // together}" for label in range(classes) for number in range(each)]
    shares = part_sizes(each, 6)
    parts = ClassLearner(classes).parts(labels, groups, shares, seed)
    for share, part, larger in zip(shares, parts, [*parts[1:], np.arange(len(labels))]):
        assert set(part.tolist()) <= set(larger.tolist())
        counts = np.bincount(labels[part], minlength=classes)
        assert (counts >= 1).all() and (np.abs(counts - share * each) <= together).all()
        names = {groups[number] for number in part.tolist()}
        assert sum(group in names for group in groups) == len(part)
    assert len(parts[-1]) == len(labels)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(30, 80), st.integers(1, 3))
def test_parts_of_several_labels_have_each_in_proportion(seed: int, count: int, together: int) -> None:
    generator = np.random.default_rng(seed)
    labels = (generator.random((count, 3)) < (0.2, 0.5, 0.6)).astype(np.uint8)
    labels[:2], learner = 1, SetLearner()
    groups = [f"{number // together}" for number in range(count)]
    shares = part_sizes(learner.images_a_class(labels), 4)
    parts = learner.parts(labels, groups, shares, seed)
    for share, part, larger in zip(shares, parts, [*parts[1:], np.arange(count)]):
        assert set(part.tolist()) <= set(larger.tolist())
        assert (np.abs(labels[part].sum(0) - share * labels.sum(0)) <= 4 * together).all()
        assert set(groups[number] for number in part.tolist()).isdisjoint(
            groups[number] for number in set(range(count)) - set(part.tolist())
        )
    assert len(parts[-1]) == count
    other = learner.parts(labels, groups, shares, seed + 1)
    assert [part.tolist() for part in learner.parts(labels, groups, shares, seed)] == [part.tolist() for part in parts]
    assert any(one.tolist() != two.tolist() for one, two in zip(parts[:-1], other))


@pytest.fixture(scope="module")
def larger(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A store of 24 training and 8 validation images of each class, 3 of these with a wrong label, and a test split."""
    folder = tmp_path_factory.mktemp("larger")
    counts = {"train": 24, "validation": 8, "test": 4}
    write_photos(folder / "photos", {split: dict.fromkeys(CLASSES, count) for split, count in counts.items()}, seed=2)
    for name, wrong in zip(CLASSES, (*CLASSES[1:], CLASSES[0])):
        for path in sorted((folder / "photos/validation" / name).glob("*"))[:3]:
            path.rename(folder / "photos/validation" / wrong / f"from_{name}_{path.name}")
    return extracted(folder / "photos", folder / "store")


def test_the_command(larger: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["learning-curve", str(larger), "--sizes", "4", "--draws", "3"]
    for run in ("one", "two"):
        assert main([*flags, "--run", str(tmp_path / run), "--more", "50"]) == 0
    told = capsys.readouterr().out
    assert "accuracy on validation of linear probes at top_activation:avg, learned from parts of train" in told
    assert "50 more a class should bring about" in told
    rows = re.findall(r"a class +[\d.]+% +([\d.]+)%  \[([\d.]+), ([\d.]+)\]", told)
    assert len(rows) == 2 * 4 and all(float(low) <= float(fitted) <= float(high) for fitted, low, high in rows)
    one, two = tmp_path / "one", tmp_path / "two"
    assert (one / TABLE).read_bytes() == (two / TABLE).read_bytes() and (one / PLOT).read_bytes() == (two / PLOT).read_bytes()
    with open(one / TABLE, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["images_a_class"] for row in rows][::3] == ["5", "24"]
    assert all(float(row["low"]) <= float(row["fitted"]) <= float(row["high"]) for row in rows)
    assert len({rows[-1][f"draw_{number}"] for number in range(3)}) == 1  # all of them learned from all images
    summary = json.loads((one / RESULT).read_text(encoding="utf-8"))
    assert summary["examples"] == {"train": 72, "validation": 24} and summary["more"] == 50
    assert summary["gain"]["low"] <= summary["gain"]["value"] <= summary["gain"]["high"]
    with Image.open(one / PLOT) as plot:
        assert plot.width > 600
    assert main([*flags, "--run", str(one), "--more", "100000"]) == 0
    assert "nothing is said of more than 10 times the images that there are: 216 more, not 100,000" in capsys.readouterr().out


def test_the_test_split_is_never_opened(larger: pathlib.Path, tmp_path: pathlib.Path) -> None:
    store = tmp_path / "store"
    shutil.copytree(larger, store)
    for shard in store.rglob("*-test.tfrecord*"):
        content = shard.read_bytes()
        shard.write_bytes(bytes(len(content)))
    assert len(list(store.rglob("*-test.tfrecord*"))) == 1
    assert main(["learning_curve", str(store), "--run", str(tmp_path / "run"), "--sizes", "4", "--draws", "3"]) == 0


def test_what_it_cannot_learn_from(
    store: pathlib.Path, lopsided: pathlib.Path, larger: pathlib.Path, tmp_path: pathlib.Path, one_line: Callable[[], str]
) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken/mine.txt").write_text("", encoding="utf-8")
    for path, run, words in (
        (
            store,
            "a",
            "has 36 images of 3 classes to learn from: a learning curve needs two classes or more, and 20 images of each",
        ),
        (lopsided, "a", "has no validation split"),
        (larger, "taken", "holds something else than a learning curve"),
    ):
        assert main(["learning_curve", str(path), "--run", str(tmp_path / run)]) == 2
        assert words in one_line()
