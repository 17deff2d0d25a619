"""README, CONTRIBUTING and docs name what is there: files, links, functions, commands and their flags. No TensorFlow."""

from __future__ import annotations

import ast
import pathlib
import re
from collections.abc import Iterator

import pytest

import headstart
from headstart import cli
from headstart.commands.beam_flags import BeamFlags

ROOT = pathlib.Path(__file__).resolve().parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
README_BYTES = 12_000
FOLDERS = ("features/", "pipelines/", "training/", "headstart/", "tests/", "docs/", ".ci/")
CODE = re.compile(r"(`+)([^`]+)\1")
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^]]*\]\(([^)\s]+)\)")
documents = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))


def prose(document: pathlib.Path) -> str:
    """A document without its blocks of code."""
    return BLOCK.sub("", document.read_text(encoding="utf-8"))


def spans(text: str) -> list[str]:
    """What stands between backticks; a table's escaped | is one."""
    return [found.replace("\\|", "|").replace("\n", " ") for _, found in CODE.findall(text)]


def code(document: pathlib.Path) -> Iterator[str]:
    """Every span of code and every line of a block."""
    yield from spans(prose(document))
    for _, block in BLOCK.findall(document.read_text(encoding="utf-8")):
        yield from block.splitlines()


def headings(document: pathlib.Path) -> set[str]:
    """The anchors that GitHub gives a document's headings."""
    titles = re.findall(r"^#+ (.+)$", prose(document), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def flags_of(command: str, capsys: pytest.CaptureFixture[str]) -> set[str]:
    """What a command takes, by its own account."""
    with pytest.raises(SystemExit):
        cli.main([command, "--help"])
    takes = set(re.findall(r"--\w+", capsys.readouterr().out.partition("\n\n")[0]))
    return takes | {"--help"} | (BeamFlags().names() if command in ("extract", "predict") else set())


@pytest.fixture
def flags(capsys: pytest.CaptureFixture[str]) -> dict[str, set[str]]:
    """Each command's flags."""
    return {command: flags_of(command, capsys) for command in cli.COMMANDS}


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_bytes()) <= README_BYTES


@documents
def test_every_file_that_is_named_is_there(document: pathlib.Path) -> None:
    named = {
        name for found in spans(prose(document)) for name in found.split() if name.startswith(FOLDERS) and "..." not in name
    }
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


@documents
def test_every_link_leads_somewhere(document: pathlib.Path) -> None:
    broken = []
    for link in LINK.findall(prose(document)):
        path, _, anchor = link.partition("#")
        target = document.parent / path if path else document
        if "://" not in link and not (target.exists() and (not anchor or anchor in headings(target))):
            broken.append(link)
    assert broken == []


def linked_from(document: pathlib.Path) -> set[pathlib.Path]:
    """The files that a document leads to."""
    return {document.parent / link.partition("#")[0] for link in LINK.findall(prose(document))}


def test_every_document_is_linked_from_the_readme_or_a_how_to_page_from_the_site_s_first_page() -> None:
    index = ROOT / "docs" / "index.md"
    how_to = {document for document in DOCUMENTS if document.parent.name == "how-to"}
    assert set(DOCUMENTS[1:]) - how_to <= linked_from(DOCUMENTS[0])
    assert how_to <= linked_from(index)


@documents
def test_every_command_takes_the_flags_that_are_named(document: pathlib.Path, flags: dict[str, set[str]]) -> None:
    wrong = []
    for found in re.split(r"&&|\n", "\n".join(code(document))):
        text = found.partition("#")[0]
        if command := re.search(r"(?<!from )(?<!\")\bheadstart (\w+)", text):
            takes = flags.get(command[1], set())
            wrong += [text.strip()] * (command[1] not in flags or not set(re.findall(r"(?<!\S)--\w+", text)) <= takes)
        elif text.startswith("--"):
            wrong += [text] * (text.split()[0].partition("=")[0] not in set.union(*flags.values()))
    assert wrong == []


@documents
def test_every_target_of_make_is_there(document: pathlib.Path) -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert {found[1] for line in code(document) if (found := re.search(r"\bmake ([\w-]+)", line.partition("#")[0]))} <= targets


@documents
def test_what_python_examples_import_is_there(document: pathlib.Path) -> None:
    text = document.read_text(encoding="utf-8")
    trees = [ast.parse(block) for language, block in BLOCK.findall(text) if language == "python"]
    imports = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert {node.module for node in imports} <= {"headstart", "torch.utils.data", "mediapipe.tasks.python"}
    assert {name.name for node in imports if node.module == "headstart" for name in node.names} <= set(headstart.__all__)


def defined(path: pathlib.Path) -> set[str]:
    """The functions and classes of a module."""
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}


def test_functions_are_where_the_map_says() -> None:
    """A row of a table names files, and functions as `name()`: each is in one of them."""
    for row in re.findall(r"^\|.+\|$", prose(ROOT / "CONTRIBUTING.md"), re.MULTILINE):
        found = spans(row)
        names = {name.removesuffix("()") for name in found if re.fullmatch(r"\w+\(\)", name)}
        there = set[str]().union(
            *(defined(ROOT / name) for name in found if name.startswith(FOLDERS) and name.endswith(".py"))
        )
        assert names <= there, row
