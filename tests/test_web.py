"""Photos behind http: a table of addresses, read through a server that fails now and then."""

from __future__ import annotations

import pathlib
import re
import shutil
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

pytest.importorskip("obstore", reason="places that are not of this machine need the extra `remote`")

from headstart.cli import main
from headstart.features.dataset.columns import Below, Text
from headstart.features.places import place, requests
from headstart.features.store.feature_store import FeatureStore
from tests.conftest import small_backbone_flags
from tests.test_record_inputs import features_of


@pytest.fixture
def site(photos: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, list[str]]]:
    """A copy of the photos behind http, every fifth request failing, none twice running; the address, and what was asked."""
    asked: list[str] = []
    failed: set[str] = set()
    shutil.copytree(photos, tmp_path / "site")

    class Handler(SimpleHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=str(tmp_path / "site"))

        def send_head(self) -> Any:
            asked.append(request := f"{self.command} {self.path}")
            fails = len(asked) % 5 == 0 and request not in failed
            (failed.add if fails else failed.discard)(request)
            if fails or "down" in self.path:
                self.send_error(503)
                return None
            if self.command == "HEAD" and (refused := re.search(r"head=(\d+)", self.path)):
                self.send_error(int(refused[1]))
                return None
            if "secret" in self.path:
                self.send_error(403)
                return None
            return super().send_head()

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(requests, "PAUSES_S", (0.01, 0.02, 0.05, 0.1))
    yield f"http://127.0.0.1:{server.server_address[1]}", asked
    server.shutdown()
    server.server_close()


@pytest.mark.slow
def test_a_table_of_addresses(
    site: tuple[str, list[str]], photos: pathlib.Path, store: pathlib.Path, tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    root, asked = site
    rows = [str(path.relative_to(photos)) for path in sorted(photos.glob("*/*/*"))]
    lines = [f"{root}/{row}?size=full,{row.split('/')[1]},{row.split('/')[0]}" for row in rows]
    lines += [f"{root}/train/fern/gone.jpg,fern,train", f"{root}/secret.jpg,fern,train"]
    (tmp_path / "table.csv").write_text("\n".join(["path,label,split", *lines]), encoding="utf-8")
    argv = ["extract", str(tmp_path / "table.csv"), "--store", str(tmp_path / "store"), "--max_bad_fraction", "0.1"]
    assert main([*argv, *small_backbone_flags()]) == 0
    assert features_of(tmp_path / "store") == features_of(store)
    letters = {letter.key: letter.reason for letter in FeatureStore.open(str(tmp_path / "store")).dead_letters}
    assert letters[f"{root}/train/fern/gone.jpg"] == "it is not there"
    assert "status code: 403" in letters[f"{root}/secret.jpg"]
    (tmp_path / "table.csv").write_text("\n".join(["path,label,split", *lines[:-2]]), encoding="utf-8")
    assert main([*argv, *small_backbone_flags()]) == 0
    asked.clear()
    capsys.readouterr()
    assert main([*argv, *small_backbone_flags()]) == 0
    assert "nothing to do" in capsys.readouterr().err and not [line for line in asked if line.startswith("GET")]


def test_a_table_at_an_address_names_files_beside_it(
    site: tuple[str, list[str]], store: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    (root, asked), folder = site, tmp_path / "site"
    (folder / "train" / "fern" / "00.jpg").rename(folder / "train" / "fern" / "100%25 ä #1?.jpg")
    rows = [path.relative_to(folder).as_posix() for path in sorted(folder.glob("*/*/*"))]
    lines = [f"{row},{row.split('/')[1]},{row.split('/')[0]}" for row in rows]
    (folder / "a table.csv").write_text("\n".join(["path,label,split", *lines]), encoding="utf-8")
    argv = ["extract", f"{root}/a table.csv", "--store", str(tmp_path / "store"), *small_backbone_flags()]
    assert main(argv) == 0
    assert features_of(tmp_path / "store") == features_of(store)
    assert {example.key for example in FeatureStore.open(str(tmp_path / "store")).table} == set(rows)
    assert "GET /train/fern/100%2525%20%C3%A4%20%231%3F.jpg" in asked


@pytest.mark.parametrize(
    ("folder", "name", "address"),
    [
        ("http://host/a", "b c/d.jpg", "http://host/a/b%20c/d.jpg"),
        ("http://host/a", "../d.jpg", "http://host/d.jpg"),
        ("http://host/a", "/d:1.jpg", "http://host/d%3A1.jpg"),
        ("http://host", "", "http://host/"),
        ("https://host/a", "http://other/d%20e.jpg?size=1", "http://other/d%20e.jpg?size=1"),
        ("https://host/a", "s3://bucket/d", "s3://bucket/d"),
    ],
)
def test_names_below_an_address(folder: str, name: str, address: str) -> None:
    assert place.join(folder, name) == address == Below(folder, Text.of([name])).values()[0]


@pytest.mark.parametrize("status", [403, 405, 501])
def test_photos_of_which_a_server_tells_nothing_are_read_again(
    status: int, site: tuple[str, list[str]], photos: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, asked = site
    rows = [path.relative_to(photos) for path in sorted(photos.glob("test/*/*"))]
    lines = [f"{root}/{row}?head={status},{row.parts[1]}" for row in rows]
    (tmp_path / "table.csv").write_text("\n".join(["path,label", *lines]), encoding="utf-8")
    argv = ["extract", str(tmp_path / "table.csv"), "--store", str(tmp_path / "store"), *small_backbone_flags()]
    assert main(argv) == 0
    asked.clear()
    capsys.readouterr()
    assert main(argv) == 0
    assert "nothing to do" in capsys.readouterr().err and {line for line in asked if line.startswith("GET")}
    found = place.entry(f"{root}/{rows[0]}?head={status}")
    assert found and found.size == (photos / rows[0]).stat().st_size and not place.entry(f"{root}/none?head={status}")


def test_a_request_that_fails_to_the_end_is_no_dead_letter(
    site: tuple[str, list[str]], photos: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, _ = site
    rows = [path.relative_to(photos) for path in sorted(photos.glob("test/*/*"))]
    lines = [f"{root}/{row},{row.parts[1]}" for row in rows]

    def extract(address: str) -> int:
        (tmp_path / "table.csv").write_text("\n".join(["path,label", *lines, f"{address},fern"]), encoding="utf-8")
        argv = ["extract", str(tmp_path / "table.csv"), "--store", str(tmp_path / "store"), "--max_bad_fraction", "0.1"]
        return main([*argv, *small_backbone_flags()])

    assert extract(f"{root}/{rows[0]}?down") == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.endswith("status code: 503 Service Unavailable; run the same command again to go on")
    assert extract(f"{root}/secret.jpg") == 0
    (letter,) = FeatureStore.open(str(tmp_path / "store")).dead_letters
    assert letter.reason == f"{root}/secret.jpg: status code: 403 Forbidden"


def test_an_address_is_read_only(site: tuple[str, list[str]], photos: pathlib.Path, one_line: Callable[[], str]) -> None:
    root, _ = site
    path = f"{root}/{urllib.parse.quote('train/fern/00.jpg')}"
    content = (photos / "train" / "fern" / "00.jpg").read_bytes()
    assert place.read(path) == content and place.head(path, 5) == content[:5]
    found = place.entry(path)
    assert found and found.size == len(content) and not place.is_folder(root) and place.entry(f"{root}/nothing") is None
    assert main(["extract", str(photos), "--store", f"{root}/store", *small_backbone_flags()]) == 2
    assert "can only be read: name a folder, or a place of s3, gs, az" in one_line()
    assert main(["info", f"{root}/store"]) == 2
    assert "is an address, and a feature store can't be read from one" in one_line()
