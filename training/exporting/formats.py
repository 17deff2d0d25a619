"""The formats: what each needs, where its writer is, and how closely it must agree with model.keras. Light."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, field

from headstart.features.errors import UserError


@dataclass(frozen=True)
class Tolerance:
    """How far an exported model's answers may lie from model.keras's.

    largest is the largest difference of any probability, mean the mean over images of each one's largest, answers the share
    of images that must get the same class, or the same labels; a decision that is closer than the smaller of the two
    differences (of the two best classes, or of a class and its threshold) is no test of that.
    """

    largest: float
    mean: float
    answers: float


FLOAT = Tolerance(largest=1e-3, mean=1e-3, answers=1.0)  # another order of adding up: 1e-5 is usual
INT8 = Tolerance(largest=1.0, mean=0.05, answers=0.95)  # 8 bits are an approximation


@dataclass(frozen=True)
class Format:
    """A format: the module that writes it, its files' names, the size of image that it takes.

    modules are Python packages by the name that pip knows each by; install is the command that brings all of them.
    """

    name: str
    writer: str
    fixed_size: bool = False
    modules: dict[str, str] = field(default_factory=dict)
    install: str = ""

    def check_installed(self) -> None:
        """Raises UserError when a package is missing, with the command that installs it."""
        missing = [pip for module, pip in self.modules.items() if importlib.util.find_spec(module) is None]
        if missing:
            raise UserError(
                "not-available", f"--format {self.name} needs {', '.join(missing)}, not installed here: {self.install}"
            )


_PACKAGE = "headstart.training.exporting"
FORMATS = {
    each.name: each
    for each in (
        Format("keras", f"{_PACKAGE}.to_keras"),
        Format("saved_model", f"{_PACKAGE}.to_saved_model"),
        Format(
            "onnx",
            f"{_PACKAGE}.to_onnx",
            modules={"onnx": "onnx", "onnxruntime": "onnxruntime", "tf2onnx": "tf2onnx"},
            install="pip install 'headstart[onnx]'",
        ),
        Format("tflite", f"{_PACKAGE}.to_tflite", fixed_size=True),
        Format(
            "openvino",
            f"{_PACKAGE}.to_openvino",
            modules={"openvino": "openvino"},
            install="pip install 'headstart[openvino]'",
        ),
    )
}
