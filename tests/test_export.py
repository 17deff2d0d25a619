"""Models to ship: each format loaded by its own runtime in a fresh process, and what is refused leaves nothing."""

from __future__ import annotations

import base64
import io
import json
import pathlib
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from headstart.cli import main
from headstart.features.errors import UserError
from headstart.features.images.decode import decode_image
from headstart.features.spec import FeatureSpec, Tap
from headstart.training.exporting import to_openvino
from headstart.training.exporting.check import check
from headstart.training.exporting.export import Exported, export
from headstart.training.exporting.export_config import ExportConfig
from headstart.training.exporting.formats import FLOAT, FORMATS, INT8
from headstart.training.exporting.kept_images import kept_images
from headstart.training.exporting.kinds import OneClass, SetOfClasses
from headstart.training.exporting.model_card import _making, in_one_line
from headstart.training.runs.run_folder import Run
from tests.conftest import CLASSES, raises

KINDS = {name: (name, False) for name in FORMATS} | {"int8": ("tflite", True)}
ODD = ['naïve, «quoted» "x"', "two\nlines\u2028three", b"caf\xe9 \\n".decode("utf-8", "surrogateescape")]
PHOTO = "photo.jpg"
LOAD_ALL = """
import builtins, importlib.util, json, os, re, sys
import numpy as np
answers = {}
for kind, folder in json.loads(sys.argv[1]).items():
    os.chdir(folder)
    code = re.search(r"```python\\n(.*?)```", open("model_card.md", encoding="utf-8").read(), re.DOTALL)[1]
    if importlib.util.find_spec("ai_edge_litert") is None:
        code = code.replace("from ai_edge_litert.interpreter import", "from tensorflow.lite.python.interpreter import")
    names = {}
    exec(code, names)
    answers[kind] = np.asarray(names["probabilities"] if "probabilities" in names else names["answer"]["probabilities"])
    if kind == "saved_model":
        import base64
        import tensorflow as tf
        body = json.load(open(sys.argv[2]))
        files = tf.constant([base64.b64decode(each["b64"]) for each in body["instances"]])  # as TensorFlow Serving does it
        served = names["model"].signatures[body["signature_name"]](image_bytes=files)
        answers["served"], answers["classes"] = served["probabilities"].numpy(), served["classes"].numpy()
        images = names["model"].signatures["serving_default"](image=np.zeros((2, 50, 41, 3), np.float32))
        assert sorted(images) == ["classes", "probabilities"] and images["probabilities"].shape == (2, 3)
assert not [name for name in sys.modules if name.startswith("headstart")]
np.savez(sys.argv[3], **answers)
"""


def exported(run: pathlib.Path, folder: pathlib.Path, kind: str, **changes: Any) -> Exported:
    """Exports a run; skips where what the format needs is not installed."""
    name, int8 = KINDS[kind]
    for module in FORMATS[name].modules:
        pytest.importorskip(module)
    return export(ExportConfig(run=str(run), format=name, output=str(folder), int8=int8, **changes))


def installed(kind: str) -> bool:
    try:
        FORMATS[KINDS[kind][0]].check_installed()
    except UserError:
        return False
    return True


@pytest.fixture(scope="module")
def pretrained(photos: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A linear probe on EfficientNetLite0 with the weights that come along, at 96 pixels."""
    from headstart.pipelines.extract import extract
    from headstart.pipelines.extract_config import ExtractConfig
    from headstart.training.train import train
    from headstart.training.train_config import TrainConfig

    folder = tmp_path_factory.mktemp("pretrained")
    extract(ExtractConfig(input=str(photos), store=str(folder / "store"), image_size="96"))
    train(TrainConfig(store=str(folder / "store"), run=str(folder / "run"), epochs=20, batch_size=12))
    return folder / "run"


@pytest.fixture(scope="module")
def runs(run: pathlib.Path, pretrained: pathlib.Path) -> dict[str, pathlib.Path]:
    """The run that each kind is an export of. A network of random weights does not stand 8 bits."""
    return {kind: pretrained if kind == "int8" else run for kind in KINDS}


@pytest.fixture(scope="module")
def exports(runs: dict[str, pathlib.Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Exported]:
    """Every kind whose packages are here."""
    folder = tmp_path_factory.mktemp("exports")
    return {kind: exported(run, folder / kind, kind) for kind, run in runs.items() if installed(kind)}


@pytest.fixture(scope="module")
def loaded(
    exports: dict[str, Exported], photos: pathlib.Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, np.ndarray]:
    """What each export answers to a photo in one fresh process, by the code that its card shows, without headstart."""
    folder = tmp_path_factory.mktemp("loaded")
    files = [photos / "test" / "fern" / "00.jpg", photos / "test" / "gentian" / "01.png"]
    encoded = [{"b64": base64.b64encode(file.read_bytes()).decode()} for file in files]
    (folder / "body.json").write_text(json.dumps({"signature_name": "serving_bytes", "instances": encoded}), encoding="utf-8")
    copies = {}
    for kind, found in exports.items():
        copies[kind] = str(shutil.copytree(found.folder, folder / kind))
        shutil.copy(files[0], folder / kind / PHOTO)
    arguments = [json.dumps(copies), str(folder / "body.json"), str(folder / "answers.npz")]
    done = subprocess.run([sys.executable, "-c", LOAD_ALL, *arguments], capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr
    return dict(np.load(folder / "answers.npz", allow_pickle=True))


@pytest.fixture(scope="module")
def expected(runs: dict[str, pathlib.Path], photos: pathlib.Path) -> dict[str, np.ndarray]:
    """What each run's model.keras answers to the photo, and to another."""
    images = [decode_image((photos / "test" / name).read_bytes()) for name in ("fern/00.jpg", "gentian/01.png")]
    models = {path: Run.open(str(path)).model() for path in set(runs.values())}
    answers = {
        path: np.concatenate([np.asarray(model(image[None], training=False)) for image in images])
        for path, model in models.items()
    }
    return {kind: answers[path] for kind, path in runs.items()}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_each_format_is_called_as_its_card_says(
    kind: str, exports: dict[str, Exported], loaded: dict[str, np.ndarray], expected: dict[str, np.ndarray]
) -> None:
    if kind not in exports:
        pytest.skip(f"what {kind} needs is not installed")
    atol = {"tflite": 0.05, "int8": 0.2}.get(kind, FLOAT.largest)  # the caller resizes
    np.testing.assert_allclose(loaded[kind], expected[kind][:1], atol=atol)
    assert loaded[kind].argmax() == expected[kind][0].argmax()


@pytest.mark.slow
def test_the_encoded_signature_takes_what_rest_sends(loaded: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    np.testing.assert_allclose(loaded["served"], expected["saved_model"], atol=FLOAT.largest)
    assert loaded["classes"].tolist() == [[name.encode() for name in CLASSES]] * 2


def training_line(run: pathlib.Path, config: dict[str, Any], metrics: dict[str, Any]) -> str:
    """What a card says of the training of a run with other facts."""
    for name, facts in (("config.json", config), ("metrics.json", metrics)):
        held = json.loads((run / name).read_text(encoding="utf-8"))
        (run / name).write_text(json.dumps({**held, **facts}), encoding="utf-8")
    return _making(Run.open(str(run)), {"model_sha256": ""})[3]


def test_a_card_tells_of_the_training_what_is_true(run_copy: pathlib.Path) -> None:
    told = training_line(run_copy, {}, {"epochs": 20, "best_epoch": 19})
    assert told == "- training: 20 epochs, the weights of epoch 19, head linear, batch_size 12, learning_rate 0.0003, seed 0"
    whole = {
        "train": {"head": "linear", "solver": "lbfgs", "batch_size": 32, "learning_rate": 3e-4},
        "identity": {"solver": "lbfgs"},
    }
    told = training_line(run_copy, whole, {"epochs": 14, "best_epoch": 4})
    assert told == "- training: 14 epochs, the weights of epoch 4, head linear, solver lbfgs"
    tuned = {"learning_rate": None, "batch_size": 8, "seed": 1, "dropout": 0.5, "head": "linear", "augment": "light"}
    config = {"finetune": tuned, "identity": {"learning_rate": 1e-5}, "head": "mlp", "unfrozen": ["c_conv"]}
    told = training_line(run_copy, config, {})
    assert "head mlp, batch_size 8, learning_rate 1e-05, augment light, seed 1, dropout 0.5" in told
    refit = {"examples": 48, "penalty": 0.1, "splits": ["train", "validation"]}
    told = training_line(run_copy, {}, {"refit": refit, "cross_validated_accuracy": 1.0})
    where = "48 images of train and validation, penalty 0.1 (chosen by cross-validation over 5 folds)"
    assert told == f"- training: a linear head at its optimum on {where}"


def test_a_card_says_by_what_thresholds_were_chosen() -> None:
    chosen = [{"name": "red", "threshold": 0.4, "f1": 0.9}]
    assert "chosen on validation for" in SetOfClasses(chosen).lines()[0]
    assert "chosen out of fold for" in SetOfClasses(chosen, out_of_fold=True).lines()[0]


@pytest.mark.slow
def test_an_export_tells_what_it_is(exports: dict[str, Exported], store: pathlib.Path) -> None:
    for kind, found in exports.items():
        folder = pathlib.Path(found.folder)
        facts = json.loads((folder / "export.json").read_text(encoding="utf-8"))
        card = (folder / "model_card.md").read_text(encoding="utf-8")
        assert (folder / "labels.txt").read_text(encoding="utf-8").splitlines() == facts["class_names"] == list(CLASSES)
        assert all(re.search(rf"^## {title}$", card, re.MULTILINE) for title in ("Data", "Metrics", "Limits", "Licence"))
        assert "| train | 36 | anemone 12, fern 12, gentian 12 |" in card
        (agreement, *_) = facts["agreement"].values()
        assert agreement["images"] == (18 if kind == "int8" else 36)  # calibrated on the others
        assert agreement["largest_difference"] <= facts["tolerance"]["largest"]
        assert (facts["tolerance"]["largest"] == FLOAT.largest) == (kind != "int8")
    measured = exports["tflite"].compared.measured
    assert len(measured) == 2 and all(found.largest_difference > 1e-5 for found in measured.values())  # they do change it


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["tflite", "int8"])
def test_a_tflite_file_carries_its_names(kind: str, exports: dict[str, Exported]) -> None:
    from tensorflow.lite.tools import flatbuffer_utils

    path = pathlib.Path(exports[kind].folder) / "model.tflite"
    with zipfile.ZipFile(path) as archive:
        assert archive.read("labels.txt").decode().splitlines() == list(CLASSES)
    model = flatbuffer_utils.read_model(str(path))
    found = {entry.name: bytes(model.buffers[entry.buffer].data) for entry in model.metadata}
    assert json.loads(found[b"class_names"]) == list(CLASSES)
    assert found[b"TFLITE_METADATA"][4:8] == b"M001" and b"labels.txt" in found[b"TFLITE_METADATA"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["tflite", "int8"])
def test_mediapipe_takes_a_tflite_file_as_it_is(
    kind: str, exports: dict[str, Exported], loaded: dict[str, np.ndarray], photos: pathlib.Path
) -> None:
    pytest.importorskip("mediapipe", reason="MediaPipe is not installed")
    import mediapipe
    from mediapipe.tasks.python import BaseOptions, vision

    path = str(pathlib.Path(exports[kind].folder) / "model.tflite")
    options = vision.ImageClassifierOptions(base_options=BaseOptions(model_asset_path=path))
    with vision.ImageClassifier.create_from_options(options) as classifier:
        photo = mediapipe.Image.create_from_file(str(photos / "test" / "fern" / "00.jpg"))
        (found,) = classifier.classify(photo).classifications
    scores = {category.category_name: category.score for category in found.categories}
    np.testing.assert_allclose([scores[name] for name in CLASSES], loaded[kind][0], atol=0.05)  # it resizes in its own way


@pytest.mark.slow
def test_a_card_has_the_threshold(run_copy: pathlib.Path, tmp_path: pathlib.Path) -> None:
    metrics = json.loads((run_copy / "metrics.json").read_text(encoding="utf-8"))
    point = {"goal": "recall@precision=0.95", "positive_class": "fern", "threshold": 0.4375, "best": 1.0}
    (run_copy / "metrics.json").write_text(json.dumps({**metrics, "operating_point": point}), encoding="utf-8")
    exported(run_copy, tmp_path / "export", "keras")
    assert json.loads((tmp_path / "export" / "export.json").read_text(encoding="utf-8"))["operating_point"] == point
    line = "- `fern` where its probability is at least 0.4375: chosen on validation for recall@precision=0.95"
    assert line in (tmp_path / "export" / "model_card.md").read_text(encoding="utf-8")


def test_names_that_are_odd(run_copy: pathlib.Path, tmp_path: pathlib.Path) -> None:
    config = json.loads((run_copy / "config.json").read_text(encoding="utf-8"))
    text = json.dumps({**config, "class_names": ODD}, ensure_ascii=False).encode("utf-8", "surrogateescape")
    (run_copy / "config.json").write_bytes(text)
    exported(run_copy, tmp_path / "export", "openvino")
    lines = (tmp_path / "export" / "labels.txt").read_bytes().decode("utf-8", "surrogateescape").splitlines()
    assert lines == [ODD[0], "two\\nlines\\u2028three", ODD[2]] == [in_one_line(name) for name in ODD]
    import openvino

    model = openvino.Core().read_model(str(tmp_path / "export" / "model.xml"))
    assert json.loads(model.get_rt_info(["model_info", "class_names"]).astype(str)) == ODD
    assert (
        json.loads((tmp_path / "export" / "export.json").read_bytes().decode("utf-8", "surrogateescape"))["class_names"] == ODD
    )


def other_head(model: Any) -> None:
    """Makes a model answer something else."""
    weights = model.get_layer("head").layers[-2]
    weights.set_weights([-weight for weight in weights.get_weights()])


def damaged(write: Callable[..., None], how: str) -> Callable[..., None]:
    """A writer whose file is of another model, or cut short."""

    def write_badly(model: Any, run: Run, calibration: Any, folder: str) -> None:
        if how == "another":
            other = run.model()
            other_head(other)
            return write(other, run, calibration, folder)
        write(model, run, calibration, folder)
        path = pathlib.Path(folder, "model.bin")
        path.write_bytes(path.read_bytes()[:1000])

    return write_badly


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "said"), [("another", "disagrees with model.keras"), ("cut short", "does not run in its own")]
)
def test_an_export_that_is_wrong_leaves_nothing(
    how: str, said: str, run: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino")
    older = tmp_path / "older"
    older.mkdir()
    (older / "export.json").write_text("{}", encoding="utf-8")
    monkeypatch.setattr(to_openvino, "write", damaged(to_openvino.write, how))
    for folder in (older, tmp_path / "new"):
        with pytest.raises(UserError, match=said):
            exported(run, folder, "openvino")
    assert [path.name for path in tmp_path.iterdir()] == ["older"]
    assert [path.name for path in older.iterdir()] == ["export.json"]
    monkeypatch.undo()
    exported(run, older, "openvino")  # takes the older one's place
    assert {path.name for path in tmp_path.iterdir()} == {"older"} and (older / "model.xml").exists()


@pytest.mark.parametrize(
    ("received", "tolerance", "agrees"),
    [
        ([[0.9, 0.1], [0.2, 0.8]], FLOAT, True),
        ([[0.9005, 0.0995], [0.2, 0.8]], FLOAT, True),
        ([[0.902, 0.098], [0.2, 0.8]], FLOAT, False),
        ([[float("nan")] * 2, [0.2, 0.8]], FLOAT, False),
        ([[float("nan")] * 2, [0.2, 0.8]], INT8, False),
        ([[0.92, 0.08], [0.25, 0.75]], INT8, True),
        ([[0.92, 0.08], [0.51, 0.49]], INT8, False),
        ([[0.9, 0.1]], FLOAT, False),
        ([[0.9, 0.05, 0.05], [0.2, 0.4, 0.4]], FLOAT, False),
    ],
)
def test_what_agrees(received: list[list[float]], tolerance: Any, agrees: bool) -> None:
    answers = np.float32([[0.9, 0.1], [0.2, 0.8]]), np.float32(received)
    if agrees:
        assert check("it", OneClass(), ["a", "b"], *answers, tolerance).same == 2
    else:
        with raises("model-disagrees"):
            check("it", OneClass(), ["a", "b"], *answers, tolerance)


def test_a_class_may_differ_where_two_are_as_good() -> None:
    found = check("it", OneClass(), ["a"], np.float32([[0.5001, 0.4999]]), np.float32([[0.4999, 0.5001]]), FLOAT)
    assert found.largest_difference == pytest.approx(2e-4, abs=1e-6)


@pytest.mark.parametrize("mode", ["squash", "crop", "pad"])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "area"])
def test_resizing_by_matrices_is_keras_own(mode: str, interpolation: str) -> None:
    import tensorflow as tf

    from headstart.features.images.decode import resizing_layer
    from headstart.training.exporting.portable import resized

    options = {"resize_mode": mode, "interpolation": interpolation}
    spec = FeatureSpec("x", "", (24, 31), (Tap("y", "avg", (1,)),), "none", **options)
    layer, generator = resizing_layer(spec), np.random.default_rng(0)
    traced = tf.function(
        lambda images: resized(images, spec), input_signature=[tf.TensorSpec((None, None, None, 3), tf.float32)]
    )
    for height, width in ((24, 31), (200, 61), (7, 90), (1, 1), (25, 30), (333, 500)):
        images = generator.integers(0, 256, (2, height, width, 3)).astype(np.float32)
        np.testing.assert_allclose(traced(images), layer(images), atol=0.02, err_msg=f"{height}x{width}")


def test_images_of_a_run_without_a_store(run_copy: pathlib.Path, photos: pathlib.Path) -> None:
    config = json.loads((run_copy / "config.json").read_text(encoding="utf-8"))
    del config["store"]
    (run_copy / "config.json").write_text(json.dumps({**config, "input": str(photos)}), encoding="utf-8")
    kept = kept_images(Run.open(str(run_copy)))
    assert {image.key for image in kept} == {str(path.relative_to(photos)) for path in photos.glob("validation/*/*")}
    assert all(image.encoded == (photos / image.key).read_bytes() for image in kept)


@pytest.fixture
def evaluated(run_copy: pathlib.Path) -> str:
    """A run with an evaluation whose accuracy is 0.975, [0.95, 0.99]."""
    folder = run_copy / "evaluation" / "test"
    folder.mkdir(parents=True)
    figures = {"accuracy": {"value": 0.975, "low": 0.95, "high": 0.99}, "auroc": {"value": None, "low": None, "high": None}}
    (folder / "metrics.json").write_text(json.dumps({**figures, "examples": 100}), encoding="utf-8")
    return str(run_copy)


@pytest.mark.parametrize(
    ("conditions", "said"),
    [
        (["accuracy>=0.98"], "accuracy>=0.98 is required, and accuracy on 'test' is 0.975"),
        (["accuracy>=0.97", "accuracy.low >= 0.97"], "accuracy.low >= 0.97 is required, and accuracy.low on 'test' is 0.95"),
        (["auroc>0.5"], "auroc>0.5 is required, and auroc on 'test' is undefined"),
    ],
)
def test_a_requirement_that_is_not_met(
    conditions: list[str], said: str, evaluated: str, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [word for condition in conditions for word in ("--require", condition)]
    output = tmp_path / "export"
    assert main(["export", evaluated, "--format", "keras", "--output", str(output), *flags]) == 1
    assert capsys.readouterr().out == f"not exported: {said}\n"
    assert not output.exists()
    with raises("below-requirement"):
        export(ExportConfig(run=evaluated, format="keras", output=str(output), require=tuple(conditions)))


def test_a_requirement_that_is_met(run_copy: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    from headstart.training.evaluation.evaluate import evaluate
    from headstart.training.evaluation.evaluate_config import EvaluateConfig

    pytest.importorskip("openvino")
    accuracy = evaluate(EvaluateConfig(run=str(run_copy))).scores.accuracy
    flags = ["--require", f"accuracy>={accuracy.value}", "--require", "log_loss<=99"]
    output = tmp_path / "deep" / "export"
    assert main(["export", str(run_copy), "--format", "openvino", "--output", str(output), *flags]) == 0
    assert "36 of 36 images get the same class" in capsys.readouterr().out
    card = (output / "model_card.md").read_text(encoding="utf-8")
    assert f"| accuracy | {accuracy.value:.4f} [{accuracy.low:.4f}, {accuracy.high:.4f}] |" in card
    assert f"{CLASSES[0]} (4)" in card  # too few to trust their recall


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--require", "accuracy=0.97"], "--require takes a condition such as accuracy>=0.97"),
        (["--require", "acuracy>=0.97"], "names no metric. Did you mean accuracy or auroc?"),
        (["--require", "accuracy>=0.9", "--split", "new"], "it has test: run headstart evaluate"),
        (["--int8"], "--int8 goes with --format tflite, not keras"),
        (["--output", "s3://bucket/export"], "--output is a folder of this machine"),
    ],
)
def test_a_mistake_is_one_line(
    flags: list[str], said: str, evaluated: str, tmp_path: pathlib.Path, one_line: Callable[[], str]
) -> None:
    assert main(["export", evaluated, "--format", "keras", "--output", str(tmp_path / "export"), *flags]) == 2
    assert said in one_line()


def test_a_folder_that_holds_something_else(evaluated: str, tmp_path: pathlib.Path, one_line: Callable[[], str]) -> None:
    (tmp_path / "mine.txt").write_text("mine", encoding="utf-8")
    assert main(["export", evaluated, "--format", "keras", "--output", str(tmp_path)]) == 2
    assert "holds something else than an export" in one_line()
    assert (tmp_path / "mine.txt").read_text(encoding="utf-8") == "mine"


def test_a_package_that_is_missing(
    evaluated: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, one_line: Callable[[], str]
) -> None:
    monkeypatch.setitem(FORMATS["onnx"].modules, "not_there_at_all", "not-there")
    assert main(["export", evaluated, "--format", "onnx", "--output", str(tmp_path / "export")]) == 2
    assert one_line().endswith("not installed here: pip install 'headstart[onnx]'")


def test_a_turned_photo_is_left_out_of_the_comparison_of_files() -> None:
    from headstart.training.exporting.agreements import _decodes_alike

    spec = FeatureSpec("x", "", (8, 8), (Tap("y", "avg", (1,)),), "none")
    image, turned = Image.new("RGB", (8, 6)), Image.Exif()
    turned[0x0112] = 6

    def file(form: str, mode: str = "RGB", **options: Any) -> bytes:
        target = io.BytesIO()
        image.convert(mode).save(target, form, **options)
        return target.getvalue()

    assert _decodes_alike(file("JPEG"), spec) and _decodes_alike(file("PNG"), spec) and _decodes_alike(file("JPEG", "L"), spec)
    assert not any(
        _decodes_alike(each, spec)
        for each in (file("JPEG", exif=turned), file("PNG", exif=turned), file("JPEG", "CMYK"), file("WEBP"))
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["openvino", "onnx"])
def test_a_pretrained_network(kind: str, pretrained: pathlib.Path, tmp_path: pathlib.Path) -> None:
    found = exported(pretrained, tmp_path / "export", kind)
    (agreement,) = found.compared.checked.values()
    assert agreement.same == agreement.images == 36
    assert "EfficientNetLite0: of TensorFlow's EfficientNet-Lite, Apache-2.0" in (
        tmp_path / "export" / "model_card.md"
    ).read_text(encoding="utf-8")
