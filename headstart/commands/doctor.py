"""headstart doctor: what this machine has for headstart, what it lacks, and the command that brings it."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata

from headstart.commands.outcome import Outcome
from headstart.commands.runner import run_command
from headstart.features.config import check_fields
from headstart.features.formatting import human_bytes

EXTRAS = {  # of setup.py, those that are not for developers: what each is for
    "openvino": "the faster engine on a CPU",
    "int8": "--compute_dtype int8",
    "remote": "stores, images and runs in S3, GCS, Azure, and images on the web",
    "spark": "--runner SparkRunner",
    "lite": "ImageNet weights of EfficientNetLite1 and EfficientNetLite2",
    "heic": "HEIC photos",
    "onnx": "headstart export --format onnx",
    "jax": "Keras on JAX",
}
SHOWN = ("tensorflow", "keras", "apache-beam", "tensorflow-datasets", "numpy", "pillow", "pyarrow")
LEAST_FREE = 2e9  # bytes of a disk, below which a job may end early


@dataclass(frozen=True)
class DoctorConfig:
    """Tells what this machine has for headstart: versions, devices, engines, precision, runners, extras; and what it lacks."""

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Args:
        name: what.
        found: what there is, in words.
        lacking: what is not there, in words; '' where nothing is missing.
        command: what brings it; '' where no command does.
        needed: whether headstart can't do without it.
    """

    name: str
    found: str
    lacking: str = ""
    command: str = ""
    needed: bool = False


def doctor(config: DoctorConfig) -> list[Finding]:
    """Looks at the machine and at what is installed; loads TensorFlow, where it is there."""
    computing = _computing() if _has_tensorflow(config) else ()
    return [*_versions(), *_machine(), *computing, *_runners(), *_extras()]


def _versions() -> Iterator[Finding]:
    from headstart import __version__

    yield Finding("headstart", f"{__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}")
    for requirement in _requirements(""):
        here, name = _version(requirement.name), requirement.name
        if here and requirement.specifier.contains(here, prereleases=True):
            if name in SHOWN:
                yield Finding(name, here)
        else:
            lacking = f"{requirement} is needed"
            yield Finding(name, here or "not installed", lacking, f"pip install '{requirement}'", needed=True)


def _machine() -> Iterator[Finding]:
    import psutil

    from headstart.features.places.cache import cache_root
    from headstart.features.runtime import cores

    memory = psutil.virtual_memory()
    yield Finding("processor", f"{_processor()}; {cores()} of {os.cpu_count()} cores may be used")
    yield Finding("memory", f"{human_bytes(memory.available)} free of {human_bytes(memory.total)}")
    for name, folder in (("this folder", os.getcwd()), ("copies", _existing(cache_root()))):
        free, writable = shutil.disk_usage(folder).free, os.access(folder, os.W_OK)
        lacking = "" if free > LEAST_FREE and writable else "little room" if writable else "it can't be written to"
        yield Finding(name, f"{folder}, {human_bytes(free)} free", lacking)


def _computing() -> Iterator[Finding]:
    import tensorflow as tf

    from headstart.features.engines.options import EngineOptions, has_bfloat16, has_int8, instruction_sets

    gpus = tf.config.list_physical_devices("GPU")
    details = [str(tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name)) for gpu in gpus]
    unseen = not gpus and shutil.which("nvidia-smi")
    yield Finding(
        "GPUs",
        ", ".join(details) or "none",
        "nvidia-smi is here, but TensorFlow sees no GPU" if unseen else "",
        "pip install 'tensorflow[and-cuda]'" if unseen else "",
    )
    chosen = EngineOptions().resolve("float32")
    yield Finding("engine", f"{chosen.name} by itself, batches of {chosen.batch_size}, {chosen.streams} at once")
    has = {"bfloat16": bool(gpus) or has_bfloat16(), "int8": has_int8()}
    faster = " and ".join(dtype for dtype, is_there in has.items() if is_there)
    slower = " and ".join(dtype for dtype, is_there in has.items() if not is_there)
    told = f"float32{f', and {faster} faster' if faster else ''}{f'; {slower} would be slower here' if slower else ''}"
    yield Finding("precision", f"{told} ({', '.join(instruction_sets()[-4:]) or 'unknown instruction sets'})")


def _runners() -> Iterator[Finding]:
    found, lacking = ["DirectRunner"], ""
    if _version("pyspark"):
        java = shutil.which("java") or os.environ.get("JAVA_HOME")
        found += ["SparkRunner"] if java else []
        lacking = "" if java else "SparkRunner needs Java, on the path or in JAVA_HOME"
    found += ["DataflowRunner"] if _version("google-cloud-dataflow-client") or _version("google-apitools") else []
    yield Finding("runners", f"{', '.join(found)}; PortableRunner and FlinkRunner where a job service runs", lacking)


def _extras() -> Iterator[Finding]:
    for extra, purpose in EXTRAS.items():
        missing = [each.name for each in _requirements(extra) if not _version(each.name)]
        command = f"pip install 'headstart[{extra}]'" if missing else ""
        yield Finding(extra, "not installed" if missing else "installed", purpose if missing else "", command)


def _requirements(extra: str):  # type: ignore[no-untyped-def]
    """What headstart's own metadata asks for on this Python: always, or for an extra."""
    from packaging.requirements import Requirement

    for text in metadata.requires("headstart") or ():
        requirement = Requirement(text)
        if requirement.marker is None:
            wanted = not extra
        elif "extra" in str(requirement.marker):
            wanted = bool(extra) and requirement.marker.evaluate({"extra": extra})
        else:
            wanted = not extra and requirement.marker.evaluate()
        if wanted:
            yield requirement


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


def _existing(folder: str) -> str:
    """A folder, or the nearest one above it that is there."""
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    return folder


def describe(findings: Sequence[Finding]) -> str:
    """The findings for a terminal: what is there, then what is not."""
    lines = [f"{found.name:<20} {found.found}" for found in findings if found.found != "not installed"]
    lacking = [found for found in findings if found.lacking]
    if lacking:
        lines += ["", "not here:"]
        lines += [f"  {found.name:<18} {found.lacking}{f': {found.command}' if found.command else ''}" for found in lacking]
    return "\n".join(lines)


def main(argv: Sequence[str]) -> int | None:
    """The command; returns its exit status: 1 when something is missing that headstart can't do without."""
    return run_command("headstart doctor", DoctorConfig, argv, _doctor, needs_tensorflow=_has_tensorflow)


def _has_tensorflow(config: DoctorConfig) -> bool:
    return bool(_version("tensorflow"))


def _doctor(config: DoctorConfig) -> Outcome:
    found = doctor(config)
    missing = [each.name for each in found if each.needed and each.lacking]
    if missing:
        print(f"error: headstart can't work without {', '.join(missing)}", file=sys.stderr)
    return Outcome(describe(found), found, int(bool(missing)))
