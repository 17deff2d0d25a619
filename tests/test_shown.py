"""Results in a console and in a notebook: their words, escaped, and their pictures."""

from __future__ import annotations

import base64
import dataclasses
import io
import pathlib
import re

import numpy as np
from PIL import Image

from headstart.features.shown import Shown, plots, thumbnails
from headstart.features.store.feature_store import FeatureStore
from headstart.training.auditing.audit import audit
from headstart.training.auditing.audit_config import AuditConfig
from headstart.training.comparing.compare import compare
from headstart.training.comparing.compare_config import CompareConfig
from headstart.training.evaluation.evaluate import evaluate
from headstart.training.evaluation.evaluate_config import EvaluateConfig
from headstart.training.probing.learning_curve import LearningCurve
from headstart.training.probing.power_law import Curve, Laws
from headstart.training.probing.probe import probe
from headstart.training.probing.probe_config import ProbeConfig
from headstart.training.runs.run_folder import Run


def images(result: Shown) -> list[Image.Image]:
    """The pictures of a result's HTML, opened."""
    found = re.findall(r'src="data:image/\w+;base64,([^"]+)"', result._repr_html_())
    return [Image.open(io.BytesIO(base64.b64decode(each))) for each in found]


def test_a_store(store: pathlib.Path) -> None:
    opened = FeatureStore.open(str(store))
    first, second = repr(opened).splitlines()
    assert first.startswith(f"feature store {str(store)!r}, 3 classes: ") and "train 36" in first
    assert opened.spec.backbone in second and opened.spec.taps[0].name in second
    assert len(images(opened)) == 8 and all(max(each.size) <= 96 for each in images(opened))


def test_a_run_an_evaluation_a_comparison(run_copy: pathlib.Path) -> None:
    run = Run.open(str(run_copy))
    assert repr(run).startswith(f"run {str(run_copy)!r}: ") and "validation accuracy, used for selection" in repr(run)
    assert len(images(run)) == 1  # the learning curve
    found = evaluate(EvaluateConfig(str(run_copy)))
    assert repr(found).startswith("test: 12 examples") and "accuracy" in repr(found)
    assert len(images(found)) == 2
    same = compare(CompareConfig(str(run_copy), str(run_copy)))
    assert repr(same).startswith("12 examples: A ") and "no difference was seen" in repr(same)
    assert images(same) == []  # the two answer alike


def test_a_probe(store: pathlib.Path, tmp_path: pathlib.Path) -> None:
    result = probe(ProbeConfig(stores=(str(store),), run=str(tmp_path / "probe")))
    *rows, advice = repr(result).splitlines()
    assert len(rows) == len(result.probes) and rows[0].startswith(result.probes[0].tap)
    assert advice == f"Advice: {result.advice}"


def test_an_audit_and_a_learning_curve(store: pathlib.Path, tmp_path: pathlib.Path) -> None:
    found = audit(AuditConfig(str(store), str(tmp_path / "audit")))
    assert repr(found).splitlines()[0] == f"60 images, compared at {found.tap}"
    assert len(repr(found).splitlines()) == 1 + max(1, sum(bool(each.count) for each in found.findings))
    law = Laws(np.zeros(1), np.ones(1), np.ones(1))
    errors = Curve((5.0, 20.0), np.array([0.5, 0.25]), law, law, groups=40, telling=10)
    curve = LearningCurve("top:avg", "accuracy", errors, np.ones((2, 1)), 100, (0.05, 0.01, 0.1), {}, 1.0)
    assert repr(curve).splitlines() == [
        "accuracy", "5 a class 50.0%", "20 a class 75.0%", "100 more a class should bring about 5.0 points [1.0, 10.0]"
    ]  # fmt: skip
    few = dataclasses.replace(errors, telling=2)
    nothing = dataclasses.replace(curve, curve=few, gain=few.gain(100))
    assert repr(nothing).splitlines()[-1].endswith("of its 40 groups 2 can tell how large the error is, and 5 are needed")


@dataclasses.dataclass(frozen=True, repr=False)
class Odd(Shown):
    name: str

    def words(self) -> str:
        return self.name


def test_names_are_escaped() -> None:
    assert Odd("<b>&")._repr_html_() == "<pre>&lt;b&gt;&amp;</pre>"


def test_what_is_no_picture_is_left_out(tmp_path: pathlib.Path) -> None:
    assert list(thumbnails([b"", b"no image", b"\xff\xd8\xff"])) == []
    assert list(plots(str(tmp_path / "none.png"))) == []
