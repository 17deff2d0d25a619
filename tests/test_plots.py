"""Plots that are PNGs with something on them, the same bytes twice, and no setting changed."""

from __future__ import annotations

import math
import pathlib
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from headstart.features.errors import UserError
from headstart.training.plots import canvas
from headstart.training.plots.accuracy_by_depth import COLOURS, DepthPoint, _spread, accuracy_by_depth
from headstart.training.plots.confused_pairs import confused_pairs
from headstart.training.plots.confusion_matrix import confusion_matrix
from headstart.training.plots.learning_curve import learning_curve

NAMES = ["Hündchen", "ねこ", "$5_a$", "кот", "new\nline", "a very long class name that goes on and on"]


def pixels(path: pathlib.Path) -> np.ndarray:
    """The PNG's pixels, uint8 [H, W, 3], of which some must differ."""
    with Image.open(path) as image:
        assert image.format == "PNG"
        content = np.asarray(image.convert("RGB"))
    assert content.std() > 5
    return content


def has(content: np.ndarray, colour: str) -> bool:
    """Whether a '#rrggbb' is among the pixels."""
    return bool((content == [int(colour[i : i + 2], 16) for i in (1, 3, 5)]).all(axis=-1).any())


def history(epochs: int, validation: bool = True) -> dict[str, list[float]]:
    falling = [2.0 / (i + 1) for i in range(epochs)]
    series = {"loss": falling, "accuracy": [1 - value / 3 for value in falling]}
    if validation:
        series |= {"val_loss": [value + 0.02 * i for i, value in enumerate(falling)], "val_accuracy": series["accuracy"]}
    return series


@pytest.mark.parametrize(("epochs", "validation"), [(1, True), (1, False), (25, True), (40, False)])
def test_learning_curve(tmp_path: pathlib.Path, epochs: int, validation: bool) -> None:
    best = epochs if validation else None
    learning_curve(history(epochs, validation), str(tmp_path / "curve.png"), "a $title$", best)
    content = pixels(tmp_path / "curve.png")
    half = content.shape[1] // 2
    assert has(content[:, :half], canvas.TRAIN) and has(content[:, half:], canvas.TRAIN)
    assert has(content, canvas.VALIDATION) == validation


def test_a_history_without_accuracy_is_drawn_and_one_without_epochs_refused(tmp_path: pathlib.Path) -> None:
    learning_curve({"loss": [1.0, 0.5]}, str(tmp_path / "curve.png"), "loss only")
    pixels(tmp_path / "curve.png")
    with pytest.raises(UserError, match=r"at least 1 epoch, got the keys \['accuracy', 'loss'\]"):
        learning_curve({"loss": [], "accuracy": []}, str(tmp_path / "none.png"), "none")
    assert not (tmp_path / "none.png").exists()


@pytest.mark.slow
@pytest.mark.parametrize("classes", [1, 2, 6, 40])
def test_confusion_matrix(tmp_path: pathlib.Path, classes: int) -> None:
    counts = np.random.default_rng(0).integers(0, 30, size=(classes, classes)) + 900 * np.eye(classes, dtype=int)
    counts[-1] = 0 if classes > 2 else counts[-1]  # a class without examples
    names = NAMES if classes == 6 else [f"class {i}" for i in range(classes)]
    confusion_matrix(counts, names, str(tmp_path / "matrix.png"))
    height, width, _ = pixels(tmp_path / "matrix.png").shape
    assert max(height, width) < 3000 and min(height, width) > 40 * classes


def test_confusion_matrix_of_the_wrong_size_is_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(UserError, match=r"matrix \[3, 3\], got shape \(2, 2\)"):
        confusion_matrix(np.eye(2, dtype=int), ["a", "b", "c"], str(tmp_path / "matrix.png"))


@pytest.mark.parametrize("count", [0, 1, 20])
def test_confused_pairs(tmp_path: pathlib.Path, count: int) -> None:
    pairs = [(NAMES[i % 6], NAMES[(i + 1) % 6], 30 - i) for i in range(count)]
    confused_pairs(pairs, str(tmp_path / "pairs.png"))
    assert has(pixels(tmp_path / "pairs.png"), canvas.TRAIN) == (count > 0)


# Accuracy by depth.


VGG = {"block1_pool": 2, "block2_pool": 4, "block3_pool": 7, "block4_pool": 10, "block5_conv1": 11, "block5_conv2": 12}
VGG |= {"block5_pool": 13}


def line(series: str, layers: dict[str, float] = VGG, height: float = 0.6, half: float = 0.03) -> list[DepthPoint]:
    """Accuracies that rise with depth, at most 1; layers are places in a network, of which the last is the end."""
    last = max(layers.values())
    found = [(layer, place / last, min(1.0, height + 0.3 * place / last)) for layer, place in layers.items()]
    return [DepthPoint(series, layer, depth, it, max(0.0, it - half), min(1.0, it + half)) for layer, depth, it in found]


def backbones(count: int, layers: int = 6) -> list[DepthPoint]:
    """Two series each of networks that have no layer in common."""
    names = [(f"Net{i}", {f"net{i}_block{j}": 1.0 + j + 0.1 * i for j in range(layers)}) for i in range(count)]
    return [point for name, own in names for head in ("avg", "grid3") for point in line(f"{name} {head}", own, 0.6)]


DEPTHS: dict[str, list[DepthPoint]] = {
    "one series": line("avg"),
    "two series": line("avg") + line("grid3", height=0.65),
    "three backbones": backbones(3),
    "eight series": [point for i in range(8) for point in line(f"head {i}", height=0.3 + 0.04 * i)],
    "all right": line("avg", height=1.0) + line("grid3", height=1.0),
    "a single point": [DepthPoint("avg", "pool", 0.0, 0.0, math.nan, math.nan)],
    "equal depth": [DepthPoint("avg", f"layer{i}", 1.0, 0.8, 0.7, 0.9) for i in range(7)],
    "long names": line("ねこ $5_a$ " * 9, {f"convnext_tiny_stage_{i}_block_{9 - i}_identity" * 3: 1 + i for i in range(7)}),
    "many layers": line("avg", {f"layer{i}": 1 + i for i in range(60)}),
}


@pytest.fixture
def drawn(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[list[DepthPoint]], Any]:
    """Draws points and returns the figure, as it was when it was saved."""
    from matplotlib.figure import Figure

    saved: list[Any] = []
    save = Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda figure, *args, **options: (saved.append(figure), save(figure, *args, **options))
    )

    def draw(points: list[DepthPoint]) -> Any:
        accuracy_by_depth(points, str(tmp_path / "depth.png"), "VGG16 on photos")
        return saved[-1]

    return draw


@pytest.mark.parametrize("points", DEPTHS.values(), ids=DEPTHS)
def test_accuracy_by_depth_has_a_colour_for_each_series(tmp_path: pathlib.Path, points: list[DepthPoint]) -> None:
    accuracy_by_depth(points, str(tmp_path / "depth.png"), "a $title$")
    content, count = pixels(tmp_path / "depth.png"), len({point.series for point in points})
    assert max(content.shape) < 2600
    assert [has(content, colour) for colour in COLOURS] == [True] * count + [False] * (8 - count)


@pytest.mark.parametrize("points", DEPTHS.values(), ids=DEPTHS)
def test_names_in_accuracy_by_depth_do_not_touch(drawn: Any, points: list[DepthPoint]) -> None:
    figure = drawn(points)
    axes = figure.axes[0]
    names = [text for text in axes.texts if text.get_rotation()]
    places = [text.get_transform().transform(text.get_position())[0] for text in names]
    height = 8.5 * figure.dpi / 72  # of a letter with its ascent and descent, as the font size says
    assert all(np.diff(places) * math.sin(math.radians(40)) > height)
    (best,) = (text for text in axes.texts if not text.get_rotation())
    label, inside = best.get_window_extent(), axes.get_window_extent()
    assert inside.x0 <= label.x0 and label.x1 <= inside.x1 and label.y1 <= inside.y1
    highest = axes.transData.transform((0, 100 * max(np.nanmax([point.accuracy, point.high]) for point in points)))[1]
    assert highest < label.y0
    assert all(text.get_window_extent().y1 < inside.y0 for legend in figure.legends for text in legend.get_texts())


def test_accuracy_by_depth_labels_the_best_and_names_the_layers_of_one_network(drawn: Any) -> None:
    figure = drawn([*line("avg"), DepthPoint("grid3", "block3_pool", 7 / 13, 0.95, 0.9, 0.97)])
    assert [text.get_text() for text in figure.axes[0].texts] == ["best: block3_pool, grid3, 95.00%", *VGG]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["avg", "grid3"]
    assert drawn(line("avg")).axes[0].texts[0].get_text() == "best: block5_pool, 90.00%"
    assert not drawn(line("avg")).legends


def test_accuracy_by_depth_names_the_best_layer_of_each_series_of_several_networks(drawn: Any) -> None:
    figure = drawn(backbones(2))
    assert [text.get_text() for text in figure.axes[0].texts] == ["best: net0_block5, Net0 avg, 90.00%"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        f"Net{i} {head}\nbest: net{i}_block5, 90.00%" for i in range(2) for head in ("avg", "grid3")
    ]


def test_networks_that_use_the_same_names_are_told_apart_by_their_depths(drawn: Any) -> None:
    deeper = line("VGG19 avg", {layer: place + 3 * (place > 4) for layer, place in VGG.items()})
    figure = drawn(line("VGG16 avg") + deeper)  # they share the end, and no more
    assert len(figure.axes[0].texts) == 1 and "\nbest: block5_pool" in figure.legends[0].get_texts()[0].get_text()


def test_the_best_of_equals_is_the_shallowest(drawn: Any) -> None:
    label = drawn(line("avg", height=1.0)[::-1]).axes[0].texts[0].get_text()
    assert label == "best: block1_pool, 100.00%"


def test_accuracy_by_depth_says_percent_up_to_100(drawn: Any) -> None:
    axes = drawn(DEPTHS["all right"]).axes[0]
    ticks = [text.get_text() for text in axes.get_yticklabels()]
    assert ticks[-1] == "100%" and axes.get_ylabel() == "accuracy, with 95% intervals"
    assert axes.get_xlabel() == "depth: share of the convolutions passed"
    assert drawn(DEPTHS["a single point"]).axes[0].get_ylabel() == "accuracy"


def test_an_interval_that_leaves_its_value_out_is_drawn_from_the_value(drawn: Any) -> None:
    axes = drawn([DepthPoint("avg", "pool", 1.0, 0.5, 0.6, 0.7)]).axes[0]  # as a bootstrap's may
    (bar,) = axes.containers[0].lines[2][0].get_segments()
    assert bar[:, 1].tolist() == pytest.approx([50, 70])


def test_no_points_and_points_out_of_range_are_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(UserError, match="at least 1 layer's accuracy to draw, got none"):
        accuracy_by_depth([], str(tmp_path / "none.png"), "none")
    assert not (tmp_path / "none.png").exists()
    with pytest.raises(UserError, match=r"within 0\.\.1, got 13 and 0\.5"):
        DepthPoint("avg", "pool", 13, 0.5, 0.4, 0.6)
    with pytest.raises(UserError, match=r"within 0\.\.1, got 0\.5 and nan"):
        DepthPoint("avg", "pool", 0.5, math.nan, 0.4, 0.6)


@given(st.lists(st.floats(0, 1), max_size=20).map(sorted))
def test_spread_places_keep_their_order_a_gap_apart_and_move_only_when_they_must(wanted: list[float]) -> None:
    places = _spread(wanted, 0.04)
    assert all(np.diff(places) >= 0.04 - 1e-9)
    assert not places or (min(places) >= 0 and max(places) <= 1)
    if not wanted or (all(np.diff(wanted) >= 0.04)):
        assert places == pytest.approx(wanted)


# All of them.


def test_plots_are_the_same_bytes_twice_and_leave_settings_alone(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import matplotlib

    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)  # importing it would now fail
    matrix = np.array([[3, 1], [0, 4]])
    with matplotlib.rc_context({"font.size": 30, "lines.linewidth": 9}):
        confusion_matrix(matrix, ["a", "b"], str(tmp_path / "1.png"))
        assert matplotlib.rcParams["font.size"] == 30
    confusion_matrix(matrix, ["a", "b"], str(tmp_path / "2.png"))
    assert (tmp_path / "1.png").read_bytes() == (tmp_path / "2.png").read_bytes()
    for name in ("3.png", "4.png"):
        accuracy_by_depth(DEPTHS["two series"], str(tmp_path / name), "VGG16")
    assert (tmp_path / "3.png").read_bytes() == (tmp_path / "4.png").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1.png", "2.png", "3.png", "4.png"]  # no temporary file


def test_matplotlib_loads_only_to_draw() -> None:
    root = pathlib.Path(__file__).parent.parent
    check = "import sys; from headstart.training.scoring import scores; import headstart.training.plots.canvas; "
    check += "sys.exit('matplotlib' in sys.modules or 'scipy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], cwd=root, check=False).returncode == 0


def test_labels_are_short_and_say_what_cannot_be_drawn() -> None:
    assert canvas.label("кот") == "кот"
    assert canvas.label("a\x1b[31m\udcff") == "a?[31m?"
    assert canvas.label("\U0001f9ff") in ("\U0001f9ff", "\\U0001f9ff")  # drawn only where a font has it
    assert len(canvas.label("x" * 100)) == canvas.MAX_LABEL
