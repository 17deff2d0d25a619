"""The how-to pages' commands, one after the other, as they stand, on images made here and a small network in the default one's
place. Blocks that begin with "# not run" need what is not here: their flags alone are looked at, by tests/test_docs.py.
"""

from __future__ import annotations

import csv
import pathlib
import re
import shlex
from collections.abc import Callable

import numpy as np
import pytest

from headstart.cli import main
from tests.conftest import draw, small_backbone_flags

PAGES = pathlib.Path(__file__).parent.parent / "docs" / "how-to"
NOT_RUN = "# not run"
NEEDS_OTHER_MACHINES = {"spark.md", "dataflow.md", "serving.md", "object-stores.md"}
KINDS = {"cats": "anemone", "dogs": "fern", "sick": "anemone", "well": "fern"}
SMALLER = {"train": ["--epochs", "2"], "extract": small_backbone_flags, "fit": small_backbone_flags}


def blocks(page: str) -> list[tuple[str, str]]:
    """The language and text of each block of commands or Python that is run."""
    text = (PAGES / page).read_text(encoding="utf-8")
    found = re.findall(r"^```(sh|python)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [(language, block) for language, block in found if not block.startswith(NOT_RUN)]


def write_images(folder: str, counts: dict[str, int], name: str = "{kind}.{number}.jpg", seed: int = 0) -> None:
    """Writes folder/CLASS/NAME, as many of each class as asked for."""
    generator = np.random.default_rng(seed)
    for label, count in counts.items():
        for number in range(count):
            path = pathlib.Path(folder, label, name.format(kind=label[:-1], number=number, group=number // 4))
            path.parent.mkdir(parents=True, exist_ok=True)
            draw(KINDS[label], generator).save(path)


def run(line: str) -> None:
    """Runs a line of a page, made cheap where it does not say how."""
    words = shlex.split(line, comments=True)[1:]
    more = SMALLER.get(words[0], [])
    main_words = words if "--backbone" in words or "--refit" in words else [*words, *(more() if callable(more) else more)]
    assert main(main_words) == 0, line


def run_page(page: str) -> None:
    """Runs what a page says."""
    for language, block in blocks(page):
        if language == "python":
            exec(compile(block, page, "exec"), {})
        else:
            for line in block.replace("\\\n", " ").splitlines():
                run(line)


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
    pytest.importorskip("tf2onnx")
    write_images("photos", {"cats": 20, "dogs": 20})
    classifier("classifier.keras")


def few_images() -> None:
    write_images("few", {"cats": 12, "dogs": 12})
    write_images("unlabelled", {"cats": 6, "dogs": 6}, seed=1)


def patients() -> None:
    """Scans, four of each patient, and a table of them, patients of two hospitals."""
    write_images("scans", {"sick": 40, "well": 40}, "{kind}_patient{group}_{number}.jpg")
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


@pytest.mark.parametrize("page", INPUTS)
def test_a_page(page: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, loaded_once: None) -> None:
    monkeypatch.chdir(tmp_path)
    INPUTS[page]()
    run_page(page)


def test_every_page_is_run_but_for_what_needs_other_machines() -> None:
    pages = {path.name for path in PAGES.glob("*.md")}
    assert pages == set(INPUTS)
    assert {page for page in pages if NOT_RUN in (PAGES / page).read_text(encoding="utf-8")} <= NEEDS_OTHER_MACHINES
