"""The how-to pages' commands, one after the other, as they stand, on images made here and a small network in the default one's
place. Blocks that begin with "# not run" need what is not here: their flags alone are looked at, by tests/test_docs.py.
"""

from __future__ import annotations

import csv
import pathlib
import re
import shlex
import shutil
from collections.abc import Callable

import numpy as np
import pytest

from headstart.cli import main
from headstart.features.places import place
from headstart.training.scoring.intervals import accuracy_interval
from tests.conftest import draw, small_backbone_flags
from tests.servers import BUCKET, s3

PAGES = pathlib.Path(__file__).parent.parent / "docs" / "how-to"
NOT_RUN = "# not run"
NEVER_RUN = {"spark.md", "dataflow.md"}
PARTLY_RUN = {"serving.md", "object-stores.md"}
KINDS = {"cats": "anemone", "dogs": "fern", "sick": "anemone", "well": "fern"}
SMALLER = {"train": lambda: ["--epochs", "10"], "extract": small_backbone_flags}


def blocks(page: str) -> list[tuple[str, str]]:
    """The language and text of each block of commands or Python that is run."""
    text = (PAGES / page).read_text(encoding="utf-8")
    found = re.findall(r"^```(sh|python)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [(language, block) for language, block in found if not block.startswith(NOT_RUN)]


def write_images(folder: str, counts: dict[str, int], name: str = "{number}.jpg", seed: int = 0) -> None:
    """Writes folder/CLASS/NAME, as many of each class as asked for; four after each other are of one patient."""
    generator = np.random.default_rng(seed)
    for number, label in enumerate(label for label, count in counts.items() for _ in range(count)):
        path = pathlib.Path(folder, label, name.format(number=number, patient=number // 4))
        path.parent.mkdir(parents=True, exist_ok=True)
        draw(KINDS[label], generator).save(path)


def run_line(line: str) -> None:
    """Runs a command of a page, made cheap where it does not say how."""
    words = shlex.split(line, comments=True)[1:]
    more = [] if {"--backbone", "--refit"} & set(words) else SMALLER.get(words[0], list)()
    assert main([*words, *more]) == 0, line


def run_page(page: str, after_the_first: Callable[[], None] = lambda: None) -> None:
    """Runs what a page says; something may happen after its first block."""
    for number, (language, block) in enumerate(blocks(page)):
        if language == "python":
            exec(compile(block, page, "exec"), {})
        else:
            for line in block.replace("\\\n", " ").splitlines():
                run_line(line)
        if number == 0:
            after_the_first()


def classifier(path: str, size: int = 32) -> None:
    """A little classifier whose layers are named as in the page."""
    import keras

    keras.utils.set_random_seed(0)
    image = keras.Input((size, size, 3))
    x = keras.layers.Conv2D(8, 3, 2, padding="same", activation="relu", name="block_13_expand_relu")(image)
    x = keras.layers.Conv2D(16, 3, 2, padding="same", activation="relu", name="out_relu")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    keras.Model(image, keras.layers.Dense(5, activation="softmax")(x)).save(path)


def own_network() -> None:
    write_images("photos", {"cats": 20, "dogs": 20})
    classifier("classifier.keras")


def few_images() -> None:
    write_images("few", {"cats": 12, "dogs": 12})


def patients() -> None:
    """Scans of patients of two hospitals, and a table of them."""
    write_images("scans", {"sick": 40, "well": 40}, "patient{patient}_{number}.jpg")
    paths = sorted(pathlib.Path("scans").glob("*/*.jpg"))
    with open("scans.csv", "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "label", "patient", "hospital"])
        for path in paths:
            patient = path.stem.rpartition("_")[0]
            rows.writerow([path, path.parent.name, patient, "north" if int(patient[-1]) % 2 else "south"])


def imbalanced() -> None:
    write_images("rare", {"cats": 30, "dogs": 60})


INPUTS: dict[str, Callable[[], None]] = {
    "own-network.md": own_network,
    "few-images.md": few_images,
    "patients.md": patients,
    "imbalanced.md": imbalanced,
}


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, loaded_once: None) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("page", INPUTS)
def test_a_page(page: str) -> None:
    INPUTS[page]()
    run_page(page)


@pytest.mark.slow
def test_retraining() -> None:
    write_images("photos", {"cats": 40, "dogs": 40})
    run_page("retraining.md", lambda: write_images("photos", {"cats": 20, "dogs": 20}, "new.{number}.jpg", seed=1))
    assert pathlib.Path("shipped/1/saved_model.pb").exists()


@pytest.mark.slow
def test_serving(run: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("tf2onnx")
    shutil.copytree(run, "run")
    draw("fern", np.random.default_rng(5)).save("photo.jpg")
    run_page("serving.md")
    answers = re.findall(r"^fern (0\.\d+)$", capsys.readouterr().out, re.MULTILINE)
    assert len(answers) == 2 and float(answers[0]) == pytest.approx(float(answers[1]), abs=0.01)


@pytest.mark.slow
def test_object_stores() -> None:
    pytest.importorskip("obstore", reason="object stores need the extra `remote`")
    pytest.importorskip("moto", reason="an S3 server for tests comes with the extra `test`")
    write_images("photos", {"cats": 20, "dogs": 20})
    with s3() as server, server.spoken_to("cache"):
        for path in pathlib.Path("photos").glob("*/*"):
            place.write(f"s3://{BUCKET}/{path}", path.read_bytes())
        run_page("object-stores.md")
        assert place.exists(f"s3://{BUCKET}/predicted/summary.json")


def test_every_page_is_run_but_for_what_needs_other_machines() -> None:
    texts = {path.name: path.read_text(encoding="utf-8") for path in PAGES.glob("*.md")}
    assert set(texts) == {*INPUTS, "retraining.md", *PARTLY_RUN, *NEVER_RUN}
    assert {page for page, text in texts.items() if NOT_RUN in text} == PARTLY_RUN | NEVER_RUN
    assert all(not blocks(page) for page in NEVER_RUN) and all(blocks(page) for page in texts.keys() - NEVER_RUN)


@pytest.mark.parametrize(
    ("page", "said"),
    [
        ("few-images.md", r"(?P<share>\d+)% with (?P<right>\d+)"),
        ("imbalanced.md", r"of (?P<right>\d+) right \D*(?:100\D+)?(?P<share>\d+)%"),
    ],
)
def test_where_an_interval_begins_when_all_are_right(page: str, said: str) -> None:
    found = list(re.finditer(said, (PAGES / page).read_text(encoding="utf-8")))
    assert len(found) >= 2
    for each in found:
        right = int(each["right"])
        low, _ = accuracy_interval(np.ones(right, bool), [str(number) for number in range(right)])
        assert int(each["share"]) == round(100 * low), each[0]
