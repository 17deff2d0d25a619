"""`headstart report`: one page of a run that needs nothing but itself."""

from __future__ import annotations

import errno
import json
import os
import pathlib
import re
import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from headstart.cli import main
from headstart.training.pages.album import Album
from headstart.training.pages.elements import html, table
from headstart.training.predicting import pictures
from headstart.training.reporting.report import leave_report, leave_training_report
from headstart.training.runs.run_folder import Run
from tests.conftest import small_backbone_flags
from tests.pages import Page, alone

HOSTILE = '<script>alert("1")</script>&amp;'
SECTIONS = ["result", "data", "learning", "confusion", "classes", "certainty", "examples", "map", "attention"]
SECTIONS += ["augmentation", "repeat"]
LEFT = "left.html"  # a copy of the page that evaluation left


def written(run: pathlib.Path, *flags: str) -> tuple[Page, bytes]:
    """The page of a run."""
    assert main(["report", str(run), *flags]) == 0
    return alone(run / "report.html"), (run / "report.html").read_bytes()


@pytest.fixture(scope="module")
def evaluated(run: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A run that was evaluated on its test split."""
    path = pathlib.Path(shutil.copytree(run, tmp_path_factory.mktemp("evaluated") / "run"))
    assert main(["evaluate", str(path), "--by", "folder"]) == 0
    shutil.copy(path / "report.html", path / LEFT)
    return path


def test_a_page_that_needs_nothing_but_itself(evaluated: pathlib.Path) -> None:
    page, content = written(evaluated)
    assert page.sections == SECTIONS
    assert written(evaluated)[1] == content  # the same bytes again


def test_evaluation_leaves_what_takes_no_network(evaluated: pathlib.Path) -> None:
    page = alone(evaluated / LEFT)
    assert page.sections == [*SECTIONS[:7], "more", *SECTIONS[9:]]
    assert "of the 12 images of test" in page.texts["result"] and page.all("img")
    assert f"headstart report {evaluated} adds them" in page.texts["more"]


def test_a_page_of_very_many_answers_waits_until_it_is_asked_for(
    evaluated: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = evaluated / "report.html"
    monkeypatch.setattr("headstart.training.reporting.report.AT_ONCE", 100)
    report.unlink(missing_ok=True)
    assert leave_report(str(evaluated), "test") == f"headstart report {evaluated}" and not report.exists()


def test_a_training_that_can_not_be_measured_any_more_leaves_a_page_all_the_same(
    run: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = pathlib.Path(shutil.copytree(run, tmp_path / "run"))
    config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    (path / "config.json").write_text(json.dumps({**config, "store": "", "input": str(tmp_path / "gone")}), encoding="utf-8")
    assert leave_training_report(Run.open(str(path))) == str(path / "report.html")
    (told,) = capsys.readouterr().err.splitlines()
    assert told.startswith("warning: the run is whole, and its page shows no evaluation: the images that") and "gone" in told
    assert alone(path / "report.html").sections == ["result", "data", "learning", "augmentation", "repeat"]


def test_training_leaves_a_page_of_what_chose_and_does_not_open_test(
    store: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert main(["train", str(store), "--run", str(run), "--epochs", "1"]) == 0
    assert capsys.readouterr().out.endswith(f"as a page: {run / 'report.html'}\n")
    page = alone(run / "report.html")
    assert page.sections == [*SECTIONS[:7], "more", *SECTIONS[9:]]
    assert "of the 12 images of validation" in page.texts["result"] and page.all("img")
    assert "This split chose the model, or was trained on: its figures flatter the run." in page.texts["result"]
    assert f"headstart evaluate {run} --split test" in page.texts["result"]
    assert os.listdir(run / "evaluation") == ["validation"]
    assert main(["train", str(store), "--run", str(run), "--head", "linear", "--refit"]) == 0
    page = alone(run / "report.html")  # whoever was fitted to all of it says nothing of validation
    assert page.sections == ["result", "data", "learning", "augmentation", "repeat"]
    assert f"headstart evaluate {run} --split test" in page.texts["result"] and not (run / "evaluation").exists()


def test_a_page_that_fails_takes_nothing_with_it(
    store: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("headstart.training.reporting.report.page", fail)
    assert main(["train", str(store), "--run", str(tmp_path / "run"), "--epochs", "1"]) == 2
    told = capsys.readouterr()
    assert told.out.startswith("trained 1 epoch in ") and "the disk is full" in told.err
    assert Run.open(str(tmp_path / "run")).metrics["best_epoch"] == 1


def test_the_page_says_what_evaluation_found(evaluated: pathlib.Path) -> None:
    page, _ = written(evaluated)
    metrics = json.loads((evaluated / "evaluation" / "test" / "metrics.json").read_text())
    assert f"{100 * metrics['accuracy']['value']:.1f}% of the 12 images of test are classified rightly" in page.texts["result"]
    assert "By folder" in page.texts["classes"] and "test/fern" in page.texts["classes"]
    assert re.search(r"fern\s*12\s*4\s*4\s*20", page.texts["data"])  # train, validation, test, all
    assert "there is no dead letter" in page.texts["data"]
    assert "headstart train" in page.texts["repeat"] and "--epochs 20 --solver adam --batch_size 12" in page.texts["repeat"]
    points = [found for found in page.all("input") if found["type"] == "radio"]
    assert len(points) == 12
    wrong = 12 - round(12 * metrics["accuracy"]["value"])
    assert sum("taken for" in (found["aria-label"] or "") for found in points) == wrong
    assert len(page.all("img")) == 12 + 12 + 2 * (min(6, wrong) + min(6, 12 - wrong))


def test_names_are_text_and_nothing_else(evaluated: pathlib.Path, tmp_path: pathlib.Path) -> None:
    run = pathlib.Path(shutil.copytree(evaluated, tmp_path / "run"))
    replace_everywhere(run, "fern", HOSTILE)
    page, content = written(run)
    assert not page.all("script") and b"<script" not in content
    assert HOSTILE in page.texts["classes"] and HOSTILE in page.texts["confusion"]


def replace_everywhere(run: pathlib.Path, name: str, other: str) -> None:
    """Gives a class another name in all that a run and its evaluation say; its images' folder is called so too."""

    def renamed(value: Any) -> Any:
        if isinstance(value, dict):
            return {renamed(key): renamed(each) for key, each in value.items()}
        if isinstance(value, list):
            return [renamed(each) for each in value]
        return value.replace(name, other) if isinstance(value, str) and "/run" not in value else value

    for path in (run / "config.json", run / "evaluation" / "test" / "metrics.json"):
        path.write_text(json.dumps(renamed(json.loads(path.read_text()))))
    quoted = other.replace('"', '""')
    for path in (run / "examples.csv", run / "evaluation" / "test" / "predictions.csv"):
        lines = path.read_text().splitlines()
        cells = [[f'"{cell.replace(name, quoted)}"' if name in cell else cell for cell in line.split(",")] for line in lines]
        path.write_text("\r\n".join(map(",".join, cells)) + "\r\n")


def test_without_images_or_store(
    run: pathlib.Path, store_copy: pathlib.Path, photos: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    moved = pathlib.Path(shutil.copytree(run, tmp_path / "moved"))
    config = json.loads((moved / "config.json").read_text())
    config["store"] = str(store_copy)
    (moved / "config.json").write_text(json.dumps(config))
    assert main(["evaluate", str(moved)]) == 0
    shutil.rmtree(store_copy)
    page, _ = written(moved)
    assert not page.all("img") and not page.all("input")
    for name in ("examples", "map", "attention"):
        assert str(store_copy) in page.texts[name] or "no longer" in page.texts[name]
    assert "headstart train" in page.texts["repeat"]


def test_an_image_that_changed_is_not_shown(evaluated: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = pictures.read_same
    monkeypatch.setattr(pictures, "read_same", lambda path, digest: None if "fern" in path else read(path, digest))
    page, _ = written(evaluated)
    assert "4 of these images are gone or have changed" in page.texts["examples"]


def test_images_of_another_folder(evaluated: pathlib.Path, flat: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(evaluated), str(flat)]) == 0
    name = next(path.name for path in (evaluated / "evaluation").iterdir() if path.name.startswith("flat"))
    page, _ = written(evaluated, "--split", name)
    assert len([found for found in page.all("input") if found["type"] == "radio"]) == 12
    assert page.all("img") and f"--split {name}" in page.texts["repeat"]


@pytest.mark.slow
def test_a_fine_tuned_run(run: pathlib.Path, photos: pathlib.Path, tmp_path: pathlib.Path) -> None:
    tuned = tmp_path / "tuned"
    command = ["finetune", str(photos), "--init_from", str(run), "--run", str(tuned), "--unfreeze_last", "1", "--epochs", "1"]
    assert main(command) == 0 and main(["evaluate", str(tuned)]) == 0
    page, _ = written(tuned)
    assert "1 layers of the network and the head" in page.texts["data"] and "standard, of every image" in page.texts["data"]
    assert "A row is a training image" in page.texts["augmentation"] and "Not drawn" not in page.texts["map"]
    assert f"headstart finetune {photos} --run {tuned} --init_from {run} --unfreeze_last 1" in page.texts["repeat"]
    assert len([found for found in page.all("input") if found["type"] == "radio"]) == 12  # features from the images


@pytest.mark.slow
def test_stored_views_are_shown(photos: pathlib.Path, tmp_path: pathlib.Path) -> None:
    store, run = str(tmp_path / "store"), tmp_path / "run"
    views = ["--views", "3", "--augment", "light"]
    assert main(["extract", str(photos), "--store", store, *small_backbone_flags(), *views]) == 0
    assert main(["train", store, "--run", str(run), "--epochs", "1"]) == 0 and main(["evaluate", str(run)]) == 0
    page, _ = written(run)
    assert "light, 3 stored views of each training image" in page.texts["data"]
    sheet = next(found for found in page.all("img") if "augmented" in (found["alt"] or ""))
    assert (sheet["width"], sheet["height"]) == ("104", "140")  # four images of 32 pixels, three views of each


def test_a_run_that_was_not_evaluated(run: pathlib.Path, one_line: Callable[[], str]) -> None:
    assert main(["report", str(run)]) == 2
    assert "run headstart evaluate" in one_line()


def test_pictures_stop_where_the_page_is_full() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (2, 96, 96, 3), np.uint8)
    album = Album(most=10_000)
    assert [bool(album.picture(image, "noise")) for image in noise] == [True, False]
    assert 0 <= album.left < 10_000


def test_whatever_is_put_into_html_is_escaped() -> None:
    assert str(html('<a title="{}">{}</a>', '"><b>', "<\x1b")) == '<a title="&#34;&gt;&lt;b&gt;">&lt;?</a>'
    assert "<td>&lt;i&gt;</td>" in table("t", ("a", "b"), [("x", "<i>")])
