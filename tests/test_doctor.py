"""`headstart doctor`: what is there is told, what is not comes with the command that brings it."""

from __future__ import annotations

from importlib import metadata

import pytest
from packaging.requirements import Requirement

import headstart
from headstart.cli import main
from headstart.commands import doctor
from headstart.commands.doctor import EXTRAS, DoctorConfig


def test_this_machine(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0  # whoever runs the tests has all that is needed
    told = capsys.readouterr().out
    for package in ("tensorflow", "keras", "apache-beam", "numpy"):
        assert f"\n{package:<20} {metadata.version(package)}\n" in told
    assert told.startswith(f"headstart            {headstart.__version__}, Python 3.")
    assert "float32" in told and "DirectRunner" in told and "cores may be used" in told


def test_every_extra_is_told() -> None:
    extras = set(metadata.metadata("headstart").get_all("Provides-Extra") or ())
    assert set(EXTRAS) == extras - {"test", "dev"}


def test_what_is_missing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    here = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda package: "" if package in ("openvino", "keras") else here(package))
    (keras,) = (found for found in doctor.doctor(DoctorConfig()) if found.name == "keras")
    assert keras.needed and keras.command == f"pip install '{keras.lacking.removesuffix(' is needed')}'"
    assert main(["doctor"]) == 1
    captured = capsys.readouterr()
    assert "the faster engine on a CPU: pip install 'headstart[openvino]'" in captured.out
    assert captured.err == "error: headstart can't work without keras\n"


def test_a_version_that_is_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    here = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda package: "9.0" if package == "pillow" else here(package))
    (pillow,) = (found for found in doctor.doctor(DoctorConfig()) if found.needed)
    assert pillow.name == "pillow" and pillow.found == "9.0"
    assert not Requirement(pillow.lacking.removesuffix(" is needed")).specifier.contains("9.0")


def test_spark_without_java(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    monkeypatch.delenv("JAVA_HOME", raising=False)
    here = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda package: "3.5" if package == "pyspark" else here(package))
    (runners,) = (found for found in doctor.doctor(DoctorConfig()) if found.name == "runners")
    assert "SparkRunner" not in runners.found and runners.lacking == "SparkRunner needs Java, on the path or in JAVA_HOME"
