"""What `pip install` puts into site-packages: one name, with everything below it, beside a project with names of its own."""

from __future__ import annotations

import pathlib
import shutil
import subprocess
import sys
import zipfile

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
FOLDERS = ("features", "pipelines", "training")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A wheel of a copy of the source, unpacked."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in (*FOLDERS, "headstart"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, folder / "source" / name, symlinks=True, ignore=ignored)
    for name in ("setup.py", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, folder / "source")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", folder, "./source"]
    subprocess.run(command, cwd=folder, check=True, timeout=120)
    (wheel,) = folder.glob("headstart-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "installed")
    return folder / "installed"


def test_one_name_is_installed_and_all_of_it(installed: pathlib.Path) -> None:
    names = {path.name for path in installed.iterdir() if not path.name.endswith(".dist-info")}
    assert names == {"headstart"} and (installed / "headstart" / "py.typed").exists()
    sources = {f"headstart/{path.relative_to(ROOT)}" for name in FOLDERS for path in (ROOT / name).rglob("*.py")}
    sources |= {str(path.relative_to(ROOT)) for path in (ROOT / "headstart").rglob("*.py") if path.resolve() == path}
    assert {str(path.relative_to(installed)) for path in installed.rglob("*.py")} == sources
    assert (installed / "headstart" / "training" / "pages" / "page.css").exists()


def test_a_project_may_have_folders_of_the_same_names(installed: pathlib.Path, tmp_path: pathlib.Path) -> None:
    for name in FOLDERS:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("MINE = True\n")
    code = (
        f"import sys; sys.path.insert(0, {str(installed)!r}); sys.path.insert(0, '.')\n"
        "import features, pipelines, training, headstart\n"
        "from headstart import ExtractConfig, TrainConfig, UserError\n"
        "assert features.MINE and pipelines.MINE and training.MINE\n"
        "print(sys.modules[ExtractConfig.__module__].__file__)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert pathlib.Path(done.stdout.strip()).is_relative_to(installed / "headstart")
