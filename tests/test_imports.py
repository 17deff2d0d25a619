"""What may import what: features nothing of the others, training and pipelines nothing of each other, and lightly."""

from __future__ import annotations

import ast
import pathlib
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGES = ("features", "pipelines", "training", "headstart")
TOP = ("features", "pipelines", "training")  # imported below headstart only
FORBIDDEN = {
    "features": {"headstart.pipelines", "headstart.training", "headstart.commands", *TOP},
    "training": {"headstart.pipelines", "headstart.commands", "apache_beam", *TOP},
    "pipelines": {"headstart.training", "headstart.commands", *TOP},
    "headstart": {*TOP},
}
SOURCES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py")) if path.resolve() == path]
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:home|root|Users|work|tmp|mnt|data|opt|content)/\w+")


def imported(tree: ast.AST) -> Iterator[str]:
    """Every module that a file imports, wherever the import stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            yield node.module or ""


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_layers(path: pathlib.Path) -> None:
    forbidden = FORBIDDEN[path.relative_to(ROOT).parts[0]]
    names = set(imported(ast.parse(path.read_text(encoding="utf-8"))))
    assert not {name for name in names if any(f"{name}.".startswith(f"{other}.") for other in forbidden)}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_path_of_one_machine(path: pathlib.Path) -> None:
    assert not MACHINE_PATH.findall(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_says_what_it_is(path: pathlib.Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree)
    assert path.name not in ("utils.py", "helpers.py", "common.py")


def package_of(name: str) -> str:
    """The package that a module of this project, or a name in one, belongs to: `training.runs`."""
    parts = name.split(".")[1:]
    while parts and not (ROOT.joinpath(*parts) / "__init__.py").exists():
        parts.pop()
    return ".".join(parts)


def imported_packages(folder: pathlib.Path) -> set[str]:
    """The other packages of this project that a package's own modules import."""
    names = {name for path in folder.glob("*.py") for name in imported(ast.parse(path.read_text(encoding="utf-8")))}
    own = ".".join(folder.relative_to(ROOT).parts)
    return {package_of(name) for name in names if name.startswith("headstart.")} - {own, ""}


ROOMS = sorted({path.parent for path in SOURCES if path.parent != ROOT / "headstart"})


@pytest.mark.parametrize("folder", ROOMS, ids=lambda folder: str(folder.relative_to(ROOT)))
def test_a_package_says_what_it_may_import(folder: pathlib.Path) -> None:
    said = " ".join((ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))) or "").split())
    found = re.search(r"May import (.+)\.$", said)
    assert found, said
    stated = set(found[1].split(", ")) - {"none of the other packages"}
    assert imported_packages(folder) == stated


def test_no_packages_import_each_other() -> None:
    imports = {".".join(folder.relative_to(ROOT).parts): imported_packages(folder) for folder in ROOMS}
    while free := {name for name, others in imports.items() if not others & imports.keys()}:
        imports = {name: others for name, others in imports.items() if name not in free}
    assert not imports, "in a circle, or above one"


def loaded_after(code: str, names: tuple[str, ...], tmp_path: pathlib.Path) -> list[str]:
    """Which of the modules are there after some code ran in a fresh interpreter."""
    code += f"\nimport sys; print(*[name for name in {names!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize(
    "module",
    [
        "headstart.features.spec",
        "headstart.features.errors",
        "headstart.features.dataset.inputs",
        "headstart.pipelines.extract_config",
        "headstart",
    ],
)
def test_light(module: str, tmp_path: pathlib.Path) -> None:
    assert loaded_after(f"import {module}", ("tensorflow", "keras", "apache_beam", "numpy", "PIL"), tmp_path) == []


def test_a_spec_is_made_with_the_standard_library_alone(tmp_path: pathlib.Path) -> None:
    code = (
        "from headstart.features.spec import FeatureSpec, Tap; FeatureSpec('A', '', (8, 8), (Tap('x'),), 'none').fingerprint"
    )
    assert loaded_after(code, ("tensorflow", "keras", "apache_beam", "numpy", "PIL"), tmp_path) == []


def test_training_needs_no_beam(tmp_path: pathlib.Path) -> None:
    code = (
        "from headstart.training import heads, train; "
        "from headstart.training.evaluation import evaluate, report; "
        "from headstart.training.predicting import classify, predict"
    )
    assert loaded_after(code, ("apache_beam", "headstart.pipelines", "headstart.cli"), tmp_path) == []
