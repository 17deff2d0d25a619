"""`headstart predict --review`: which images to label next."""

from __future__ import annotations

import csv
import pathlib
import shutil
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image
from scipy.stats import entropy

from headstart.cli import main
from headstart.training.predicting.review import LIST, OF_SEVERAL, SHEET, Pool, margin, mean_entropy, spread

pytestmark = pytest.mark.usefixtures("loaded_once")


def answers(doubts: list[float]) -> list[np.ndarray]:
    """Probabilities of two classes, as uncertain as asked for."""
    return [np.array([1 - doubt / 2, doubt / 2], np.float32) for doubt in doubts]


def test_uncertainty() -> None:
    assert margin(np.array([0.25, 0.5, 0.25])) == 0.75
    assert [round(margin(each), 6) for each in answers([0.0, 0.4, 1.0])] == [0.0, 0.4, 1.0]


def test_uncertainty_of_a_set_is_the_mean_over_its_classes() -> None:
    assert [mean_entropy(np.float32(each)) for each in ([0.5, 0.5], [0, 1], [1, 0.5], [0, 0])] == [1, 0, 0.5, 0]
    share = 0.9
    expected = entropy([share, 1 - share], base=2)
    assert mean_entropy(np.array([share, 1 - share, 0, share])) == pytest.approx(3 / 4 * expected)
    pool = Pool(2, OF_SEVERAL)
    for key, shares in {"sure": [0.99, 0.01, 0.9], "one": [0.45, 0.0, 0.98], "many": [0.9, 0.3, 0.6]}.items():
        pool.add(key, np.float32(shares), np.float32([len(key), 1, 0]))
    first, second = pool.chosen()
    assert (first.key, first.classes, first.probabilities) == ("many", (2, 1), pytest.approx((0.6, 0.3)))
    assert (second.key, second.classes) == ("one", (0, 2)) and second.uncertainty < first.uncertainty


def test_of_images_like_each_other_one_comes_first() -> None:
    generator = np.random.default_rng(0)
    kinds = generator.normal(0, 5, (4, 16))
    features = (kinds[np.repeat(np.arange(4), 25)] + generator.normal(0, 0.1, (100, 16))).astype(np.float32)
    chosen = spread(features, np.linspace(1, 0.8, 100), 8)
    assert chosen[0] == 0 and {number // 25 for number in chosen[:4]} == {0, 1, 2, 3} and len(set(chosen)) == 8
    assert sorted(spread(features[:5], np.ones(5), 9)) == [0, 1, 2, 3, 4]
    assert sorted(spread(np.ones((3, 4), np.float32), np.ones(3), 3)) == [0, 1, 2]


def test_a_pool_keeps_the_least_certain_of_any_number() -> None:
    generator = np.random.default_rng(1)
    doubts = generator.permutation(np.linspace(0, 1, 3000)).tolist()
    pool = Pool(5)
    for number, probabilities in enumerate(answers(doubts)):
        pool.add(f"{number}", probabilities, generator.normal(0, 1, (2, 2, 8)).astype(np.float32))
    assert len(pool.kept) < 2 * pool.most
    chosen = pool.chosen()
    least = sorted(doubts)[-pool.most]
    assert len(chosen) == 5 and all(doubts[int(each.key)] >= least for each in chosen)
    assert doubts[int(chosen[0].key)] == max(doubts)
    assert chosen[0].classes in ((0, 1), (1, 0)) and chosen[0].uncertainty == pytest.approx(1, abs=1e-3)
    assert Pool(3).chosen() == []


def test_the_command(
    run: pathlib.Path, photos: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "new"
    shutil.copytree(photos / "test", folder)
    shutil.copy(folder / "fern" / "00.jpg", folder / "fern" / "copy.jpg")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff broken")
    out = tmp_path / "out"
    out.mkdir()
    flags = ["predict", str(run), str(folder), "--output", str(out / "predictions.csv")]
    assert main([*flags, "--review", "6"]) == 1
    assert f"to label next: {out / LIST}, {out / SHEET}" in capsys.readouterr().err
    with open(out / LIST, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    with open(out / "predictions.csv", encoding="utf-8", newline="") as file:
        predicted = {row["key"]: row for row in csv.DictReader(file)}
    assert [row["rank"] for row in rows] == ["1", "2", "3", "4", "5", "6"] and len({row["key"] for row in rows}) == 6
    assert not {str(folder / "fern" / "00.jpg"), str(folder / "fern" / "copy.jpg")} <= {row["key"] for row in rows}
    for row in rows:
        assert row["class_1"] == predicted[row["key"]]["class_1"]
        assert row["probability_1"] == predicted[row["key"]]["probability_1"]
        assert float(row["uncertainty"]) == pytest.approx(
            1 - float(row["probability_1"]) + float(row["probability_2"]), abs=1e-3
        )
    assert rows[0] == max(rows, key=lambda row: float(row["uncertainty"]))
    with Image.open(out / SHEET) as sheet:
        assert sheet.width > 6 * 150


def test_wrong_flags(run: pathlib.Path, photos: pathlib.Path, tmp_path: pathlib.Path, one_line: Callable[[], str]) -> None:
    flags = ["predict", str(run), str(photos), "--review"]
    for more, words in (
        (["5"], "say where with --output FILE"),
        (["-1", "--output", "a.csv"], "must be at least 0, not -1"),
        (["5", "--output", str(tmp_path / "review.csv")], "give --output another name"),
    ):
        assert main([*flags, *more]) == 2
        assert words in one_line()
