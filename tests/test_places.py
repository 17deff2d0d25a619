"""Files that are written once, whole or not there; and claims, of which one holds."""

from __future__ import annotations

import errno
import json
import os
import pathlib
import socket
import subprocess
import sys
import threading
import time
from typing import Any

import pytest

from headstart.features.places import claim, place
from headstart.features.places.claim import CLAIMS, TTL_S, check_claim, claimed
from tests.conftest import raises


@pytest.fixture(params=["links", "no links"])
def links(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A file system with hard links, and one without."""
    if request.param == "no links":

        def refuse(*_: str) -> None:
            raise OSError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(os, "link", refuse)
    return str(request.param)


def test_a_file_is_created_once(links: str, tmp_path: pathlib.Path) -> None:
    path = place.join(str(tmp_path), "deep/er", "file")
    assert place.create(path, b"first") and not place.create(path, b"second")
    assert place.read(path) == b"first"
    place.write(path, b"replaced")
    assert [(entry.name, entry.size) for entry in place.entries(str(tmp_path))] == [("deep/er/file", 8)]


def test_what_is_not_finished_is_not_there(links: str, tmp_path: pathlib.Path) -> None:
    with pytest.raises(RuntimeError, match="killed"), place.creating(str(tmp_path / "file")) as file:
        file.write(b"half")
        raise RuntimeError("killed")
    with place.creating(str(tmp_path / "file")) as file:
        file.write(b"whole")
        assert place.entry(str(tmp_path / "file")) is None
    with pytest.raises(FileExistsError), place.creating(str(tmp_path / "file")) as file:
        file.write(b"late")
    assert (tmp_path / "file").read_bytes() == b"whole" and os.listdir(tmp_path) == ["file"]


def test_a_link_whose_answer_is_lost_is_made(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = os.link

    def lost(source: str, target: str) -> None:
        link(source, target)
        raise FileExistsError(errno.EEXIST, "File exists")

    monkeypatch.setattr(os, "link", lost)
    assert place.create(str(tmp_path / "file"), b"mine") and os.listdir(tmp_path) == ["file"]


def test_of_many_that_create_one_is_the_first(links: str, tmp_path: pathlib.Path) -> None:
    won: list[int] = []
    start = threading.Barrier(8)

    def create(number: int) -> None:
        start.wait()
        if place.create(str(tmp_path / "file"), str(number).encode()):
            won.append(number)

    threads = [threading.Thread(target=create, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1 and (tmp_path / "file").read_text() == str(won[0])


def test_a_copy_is_the_same(links: str, tmp_path: pathlib.Path) -> None:
    place.write(str(tmp_path / "one"), b"content")
    place.copy(str(tmp_path / "one"), str(tmp_path / "two" / "copy"))
    with pytest.raises(FileExistsError):
        place.copy(str(tmp_path / "one"), str(tmp_path / "two" / "copy"))
    place.remove([str(tmp_path / "one"), str(tmp_path / "never")])
    assert [(entry.name, entry.size) for entry in place.entries(str(tmp_path))] == [("two/copy", 7)]
    place.remove_folder(str(tmp_path / "two"))
    place.remove_folder(str(tmp_path / "two"))
    assert not os.listdir(tmp_path) and place.entry(str(tmp_path)) is None and not list(place.entries("no/where"))


def test_one_holds_a_claim_and_leaves_nothing(tmp_path: pathlib.Path) -> None:
    folder = str(tmp_path / "store")
    with claimed(folder, "extraction", "--store") as mine:
        check_claim(folder, mine.token)
        with raises("in-use") as caught, claimed(folder, "extraction", "--store"):
            pass
        told = str(caught.value)
        assert told.startswith(f"another extraction is writing to {folder!r} (process {os.getpid()}, last heard of at ")
        assert told.endswith("wait for it, or give another --store")
    with raises("in-use"):
        check_claim(folder, mine.token)
    assert not os.listdir(tmp_path)


def test_folders_that_were_made_for_a_claim_go_with_it(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "old").mkdir()
    for folder in ("new/newer/store", str(tmp_path / "old" / "new" / "store/"), "new/store/"):
        with claimed(folder, "extraction", "--store"):
            assert os.path.isdir(folder)
    assert os.listdir(tmp_path) == ["old"] and not os.listdir(tmp_path / "old")
    with claimed("old/new/store", "extraction", "--store"):
        place.write("old/new/beside", b"")
    assert os.listdir(tmp_path / "old" / "new") == ["beside"]


def other(folder: pathlib.Path, number: int, **changes: Any) -> None:
    """A claim that somebody else made."""
    values = {
        "number": number,
        "token": "theirs",
        "host": "elsewhere",
        "machine": "another",
        "process": 1,
        "started": 0.0,
        "until": 1000.0 + TTL_S,
    }
    (folder / CLAIMS).mkdir(parents=True, exist_ok=True)
    (folder / CLAIMS / f"{number:06}.json").write_text(json.dumps({**values, **changes}))


def test_what_was_killed_while_it_claimed_leaves_nothing_once_another_has_claimed(tmp_path: pathlib.Path) -> None:
    (tmp_path / "claims").mkdir()
    (tmp_path / "claims" / "000001.json.0123abcd.tmp").write_text("{")
    with claimed(str(tmp_path), "extraction", "--store"):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("theirs", "now", "holds"),
    [
        ({}, 1001.0, True),  # another machine's, renewed lately
        ({}, 1000.0 + TTL_S + 1, False),
        ({"machine": claim._machine()}, 1001.0, False),  # process 1 of this machine began at another time
        ({"machine": claim._machine(), "process": 2**22 + 1}, 1001.0, False),
        ({"host": socket.gethostname()}, 1001.0, True),  # a container may have its machine's name
    ],
    ids=["alive", "silent", "another process", "no process", "another container"],
)
def test_a_claim_of_the_dead_runs_out(theirs: dict[str, Any], now: float, holds: bool, tmp_path: pathlib.Path) -> None:
    other(tmp_path, 3, **theirs)
    if holds:
        with raises("in-use") as caught, claimed(str(tmp_path), "extraction", "--store", lambda: now):
            pass
        assert f"({theirs.get('host', 'elsewhere')}, process 1, last heard of" in str(caught.value)
        return
    with claimed(str(tmp_path), "extraction", "--store", lambda: now) as mine:
        assert mine.number == 4
        check_claim(str(tmp_path), mine.token)
        with raises("in-use"):
            check_claim(str(tmp_path), "theirs")
    assert not (tmp_path / CLAIMS).exists()


def test_whoever_was_taken_over_may_write_no_more(tmp_path: pathlib.Path) -> None:
    with claimed(str(tmp_path), "extraction", "--store") as mine:
        other(tmp_path, mine.number + 1)
        with raises("in-use"):
            check_claim(str(tmp_path), mine.token)
    assert os.listdir(tmp_path / CLAIMS) == ["000002.json"]  # it is theirs


def test_a_claim_is_renewed(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claim, "TTL_S", 0.3)
    with claimed(str(tmp_path), "extraction", "--store") as mine:
        deadline = time.monotonic() + 20
        while (held := claim._held(str(tmp_path))) and held.until <= mine.until:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert held and held.token == mine.token


def test_a_killed_process_holds_nothing(tmp_path: pathlib.Path) -> None:
    folder = str(tmp_path / "store")
    code = (
        "import sys, time; from headstart.features.places.claim import claimed\n"
        f"with claimed({folder!r}, 'extraction', '--store'): print('held', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout and process.stdout.readline() == "held\n"
    with raises("in-use"), claimed(folder, "extraction", "--store"):
        pass
    process.kill()
    process.communicate()
    with claimed(folder, "extraction", "--store") as mine:
        assert mine.number == 2
    assert os.listdir(tmp_path) == ["store"] and not os.listdir(folder)  # which the killed one had made
