"""`headstart compare`: what two runs answer to the same images, laid side by side."""

from __future__ import annotations

import csv
import json
import pathlib
import re
import shutil
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from headstart.cli import main
from headstart.features import files
from headstart.features.dataset.examples import Example
from headstart.training.comparing.compare import compare
from headstart.training.comparing.compare_config import CompareConfig
from headstart.training.comparing.differing import Differing, DifferingSets, table_of
from headstart.training.evaluation import report
from headstart.training.scoring.comparisons import mcnemar
from tests.pages import alone

NAMES = ["fern", "gentian"]


def evaluated(
    folder: pathlib.Path, right: np.ndarray, order: int = 1, keys: int = 0, split: str = "test", copies: int = 1
) -> str:
    """A run's folder as `compare` reads it: an evaluation in which some images were classified rightly.

    As many in a row as there are copies have one content.
    """
    labels = np.arange(len(right)) % 2
    probabilities = np.where(right[:, None] == (labels[:, None] == np.arange(2)), 0.75, 0.25)
    path = folder / "evaluation" / split
    path.mkdir(parents=True)
    config = {"train": {"head": "linear"}, "max_pixels": 10**6}
    metrics = {"input": str(folder / "photos"), "dataset_digest": "another's", "split": split}
    for name, content in (("config.json", config), ("metrics.json", {}), (f"evaluation/{split}/metrics.json", metrics)):
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    examples = [
        Example(f"{number + keys}.jpg", f"{number // copies:064x}"[::-1], (NAMES[label],), split)
        for number, label in enumerate(labels)
    ]
    report.write_predictions(str(path / "predictions.csv"), examples[::order], labels[::order], probabilities[::order], NAMES)
    return str(folder)


@pytest.fixture
def pair(tmp_path: pathlib.Path) -> tuple[str, str]:
    """A run that is right on 60 of 100 images, and one that is right on 12 others and wrong on 2 of them; in another order."""
    right = np.arange(100) < 60
    other = right.copy()
    other[60:72], other[:2] = True, False
    return evaluated(tmp_path / "a", right), evaluated(tmp_path / "b", other, order=-1)


def test_what_two_runs_differ_by(pair: tuple[str, str]) -> None:
    found = compare(CompareConfig(*pair))
    assert (found.examples, found.accuracy, found.other) == (100, 0.6, 0.7)
    assert (found.better, found.worse, found.p) == (12, 2, mcnemar([1] * 12 + [-1] * 2))
    assert found.difference.difference == pytest.approx(0.1)
    assert found.difference.low > 0 and found.difference.significant
    assert found.why_not == f"the images are no longer at {str(pathlib.Path(pair[1]) / 'photos')!r}"
    assert [(each.value, each.count, each.better, each.worse) for each in found.parts["class"]] == [
        ("fern", 50, 6, 1), ("gentian", 50, 6, 1)
    ]  # fmt: skip
    with open(found.table, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["key"] for row in rows} == {f"{number}.jpg" for number in (0, 1, *range(60, 72))}
    row = next(row for row in rows if row["key"] == "61.jpg")
    assert row == {
        "key": "61.jpg", "truth": "gentian", "predicted_a": "fern", "probability_a": "0.75", "predicted_b": "gentian",
        "probability_b": "0.75",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("order", "flags", "status"),
    [
        (1, [], 0),
        (-1, [], 0),
        (-1, ["--max_drop", "0.05"], 1),
        (-1, ["--max_drop", "0.1"], 0),
        (1, ["--max_drop", "0"], 0),
    ],
)
def test_the_command_and_its_status(
    order: int, flags: list[str], status: int, pair: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", *pair[::order], *flags]) == status
    told = capsys.readouterr().out
    assert f"difference {'+' if order == 1 else '-'}10.00 points [" in told
    assert "McNemar's exact p 0.013" in told
    verdict = f"accuracy of B is {'better' if order == 1 else 'worse'} by 0.1000: --max_drop {flags[1]} is" if flags else ""
    assert verdict + " exceeded" * (status == 1) in told and ("is kept" in told) == bool(flags and not status)


def test_a_run_of_before_its_store_grew(
    pair: tuple[str, str], tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first run's test split is of other images; it was evaluated on the second's under a name of its own."""
    before = evaluated(tmp_path / "before", np.ones(60, bool))
    shutil.copytree(pathlib.Path(pair[0], "evaluation", "test"), pathlib.Path(before, "evaluation", "store-1-test"))
    assert main(["compare", before, pair[1]]) == 0
    told = capsys.readouterr().out
    assert f"  A 60.00%  {before}, evaluated as store-1-test\n" in told and f"  B 70.00%  {pair[1]}\n" in told


def test_copies_of_a_photo_say_nothing_new(tmp_path: pathlib.Path) -> None:
    """Whichever of the two evaluations says which images are copies; where none does, each image stands for itself."""
    right = np.arange(60) < 40
    other = right ^ (np.arange(60) % 7 == 0)
    runs = {
        copies: [
            evaluated(tmp_path / f"{name}{copies}", each.repeat(copies), copies=copies)
            for name, each in (("a", right), ("b", other))
        ]
        for copies in (1, 4)
    }
    alone, together = (compare(CompareConfig(*runs[copies])) for copies in (1, 4))
    ends = alone.difference.low, alone.difference.high
    assert (together.difference.low, together.difference.high) == pytest.approx(ends) and together.p == pytest.approx(alone.p)
    assert [part.p for part in together.parts["class"]] == [pytest.approx(alone.p)] * 2  # labels alternate
    for run in runs[4]:
        without_contents(pathlib.Path(run))
        found = compare(CompareConfig(*runs[4]))
        same = (found.difference.low, found.difference.high) == pytest.approx(ends)
        assert same == (run == runs[4][0]) and found.difference.difference == together.difference.difference


def without_contents(run: pathlib.Path) -> None:
    """An evaluation as it was before it said what the images' contents are."""
    path = run / "evaluation" / "test" / "predictions.csv"
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        del row["content"]
    path.write_bytes(files.csv_bytes(rows))


def test_a_run_is_no_better_than_itself(pair: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", pair[0], pair[0], "--max_drop", "0"]) == 0
    told = capsys.readouterr().out
    assert "+0.00 points [-" in told and ": no difference was seen" in told  # 100 images alike are no proof
    assert "no pictures: the two answer all images alike\nas a page: " in told
    assert told.endswith("accuracy is the same: --max_drop 0 is kept\n")


def test_other_images_are_refused(pair: tuple[str, str], tmp_path: pathlib.Path, one_line: Callable[[], str]) -> None:
    other = evaluated(tmp_path / "c", np.ones(100, bool), keys=1)
    assert main(["compare", pair[0], other]) == 2
    line = one_line()
    assert "were not evaluated on the same images with the same labels (100 and 100): run headstart evaluate again" in line
    assert main(["compare", *pair, "--split", "validation"]) == 2
    assert f"{pair[1]!r} has no evaluation 'validation'; it has test: run headstart evaluate" in one_line()
    assert main(["compare", pair[0], str(tmp_path / "nothing")]) == 2
    assert "there is no run at" in one_line()


def test_a_figure_that_is_undefined_is_told(pair: tuple[str, str], one_line: Callable[[], str]) -> None:
    for run in pair:
        path = pathlib.Path(run, "evaluation", "test", "metrics.json")
        path.write_text(json.dumps({**json.loads(path.read_text()), "auroc": {"value": None}}), encoding="utf-8")
    assert main(["compare", *pair, "--metric", "auroc"]) == 2
    assert f"auroc of {pair[0]!r} on test is undefined: compare by another --metric" in one_line()


def test_two_real_runs(store: pathlib.Path, run_copy: pathlib.Path, tmp_path: pathlib.Path) -> None:
    from headstart.training.evaluation.evaluate import evaluate
    from headstart.training.evaluation.evaluate_config import EvaluateConfig
    from headstart.training.train import train
    from headstart.training.train_config import TrainConfig

    other = train(TrainConfig(store=str(store), run=str(tmp_path / "other"), epochs=1, batch_size=12))
    scores = [evaluate(EvaluateConfig(run=path, split="test")).scores.accuracy.value for path in (str(run_copy), other.path)]
    found = compare(CompareConfig(str(run_copy), other.path))
    assert [found.accuracy, found.other] == scores and found.examples == 12
    assert found.drop == scores[0] - scores[1]
    losses = [
        json.loads((pathlib.Path(path) / "evaluation/test/metrics.json").read_text())["log_loss"]["value"]
        for path in (str(run_copy), other.path)
    ]
    argv = ["compare", str(run_copy), other.path, "--metric", "log_loss", "--max_drop"]
    assert losses[1] > losses[0]  # of one epoch
    assert main([*argv, str(losses[1] - losses[0] + 1e-6)]) == 0 and main([*argv, str(losses[1] - losses[0] - 1e-6)]) == 1


def test_images_that_chose_a_run_are_marked(
    pair: tuple[str, str], run_copy: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", *pair]) == 0
    assert capsys.readouterr().out.startswith("test: 100 examples")
    assert main(["evaluate", str(run_copy), "--split", "validation"]) == 0
    capsys.readouterr()
    assert main(["compare", str(run_copy), str(run_copy), "--split", "validation"]) == 0
    assert capsys.readouterr().out.startswith("validation (used for selection by A and B): ")
    page = (run_copy / "evaluation/validation/report.html").read_text(encoding="utf-8")
    assert "used for selection by A and B" in page


def test_by_group_and_by_a_column(pair: tuple[str, str], tmp_path: pathlib.Path, one_line: Callable[[], str]) -> None:
    table = tmp_path / "cameras.csv"
    rows = [f"{number}.jpg,{'old' if number < 62 else 'new'}" for number in range(100)]
    table.write_text("\n".join(["path,camera", *rows]), encoding="utf-8")
    found = compare(CompareConfig(*pair, by=("camera",), by_table=str(table)))
    assert list(found.parts) == ["class", "camera"]
    new, old = found.parts["camera"]
    assert (new.value, new.count, new.accuracy, new.other, new.better, new.worse) == ("new", 38, 0.0, 10 / 38, 10, 0)
    assert (old.value, old.count, old.accuracy, old.other, old.better, old.worse) == ("old", 62, 60 / 62, 60 / 62, 2, 2)
    (tmp_path / "b/photos").mkdir()
    assert main(["compare", *pair, "--by", "camera"]) == 2
    assert "is no table with such a column" in one_line()
    assert main(["compare", *pair, "--by_table", str(table)]) == 2
    assert "--by_table belongs to --by COLUMN" in one_line()


def test_pictures(pair: tuple[str, str], tmp_path: pathlib.Path) -> None:
    photos = tmp_path / "b" / "photos"
    photos.mkdir()
    for number in range(100):
        Image.new("RGB", (30, 20), (number, 0, 0)).save(photos / f"{number}.jpg")
    found = compare(CompareConfig(*pair))
    assert not found.why_not
    page = alone(tmp_path / "b/evaluation/test/report.html")
    assert page.sections == ["result", "runs", "parts", "differing", "repeat"] and len(page.all("img")) == 14
    assert "Accuracy of B is 70.0% on test, of A 60.0%: +10.00 points (95% interval +" in page.texts["result"]
    assert "McNemar's exact p" in page.texts["result"] and "0.013" in page.texts["result"]
    assert re.search(r"fern\s*50\s*60.0%\s*70.0%\s*6\s*1\s*", page.texts["parts"])
    assert "compared.csv, beside this page" in page.texts["differing"]
    assert f"headstart compare {pair[0]} {pair[1]}" in page.texts["repeat"]
    with Image.open(found.sheet) as sheet:
        assert sheet.width > 8 * 150 and sheet.height > 2 * 150  # 14 of them
    shutil.rmtree(photos)
    found = compare(CompareConfig(*pair))
    assert found.sheet == "" and not (tmp_path / "b/evaluation/test/compared.png").exists()  # of other answers, perhaps
    assert (
        "Without pictures: the images are no longer at" in alone(tmp_path / "b/evaluation/test/report.html").texts["differing"]
    )


def test_which_has_fewer_labels_wrong() -> None:
    rows = [
        {"key": "1", "truth": "a|b", "predicted": decided} for decided in ("a|b", "a", "b|a", "c", "", "a|b|c")
    ]  # 0, 1, 0, 3, 2 and 1 labels wrong
    other = [{**row, "truth": "a+b", "predicted": row["predicted"].replace("|", "+")} for row in rows]
    both = DifferingSets(
        [rows[0], rows[1], rows[1], rows[3], rows[0]], [other[1], other[0], other[5], other[4], other[2]], ("|", "+")
    )
    assert [(row, both.kind(row), both.badness(row)) for row in both.rows] == [(0, 1, 1), (1, 0, 1), (2, 2, 1), (3, 0, 3)]
    assert both.caption(3) == "1\nis a|b\nA c\nB -"
    assert table_of(both).decode().splitlines()[:2] == ["key,truth,predicted_a,predicted_b", "1,a|b,a|b,a"]


def test_which_alone_is_right() -> None:
    right, wrong, other = (
        {"key": "1", "truth": "fern", "predicted": name, f"p:{name}": "0.5"} for name in ("fern", "gentian", "moss")
    )
    both = Differing([wrong, right, wrong, right], [right, wrong, other, right])
    assert [(row, both.kind(row)) for row in both.rows] == [(0, 0), (1, 1), (2, 2)]
