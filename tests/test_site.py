"""The pages as a site: it builds without a warning, holds every page, and loads nothing from elsewhere."""

from __future__ import annotations

import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent


def test_the_site(tmp_path: pathlib.Path) -> None:
    pytest.importorskip("mkdocs")
    pytest.importorskip("mkdocstrings")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    pages = {path.parent.name: path.read_text(encoding="utf-8") for path in tmp_path.glob("site/**/index.html")}
    names = {path.relative_to(ROOT / "docs").with_suffix("") for path in (ROOT / "docs").rglob("*.md")} - {
        pathlib.Path("index")
    }
    assert {name.name for name in names} <= set(pages)
    home = (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
    assert all(f'href="{name.as_posix()}/"' in home for name in names)  # in the navigation
    for page in pages.values():
        assert not re.search(r"""<(script|link|img)[^>]*(src|href)=["'](https?:)?//""", page)
    assert "ExtractConfig" in pages["api"] and "FeatureStore" in pages["api"]
