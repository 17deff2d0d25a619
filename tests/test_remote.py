"""Photos and stores in object stores: the same bytes as on a disk, whatever becomes of requests on the way."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import pickle
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("obstore", reason="object stores need the extra `remote`")
pytest.importorskip("moto", reason="an S3 server for tests comes with the extra `test`")

from headstart.cli import main
from headstart.features.dataset.columns import Text
from headstart.features.dataset.listing import NO_FILE, states
from headstart.features.errors import UserError
from headstart.features.places import cache, place, remote, requests
from headstart.features.places.claim import claimed
from headstart.features.places.identity import digest_of
from headstart.features.runtime import CACHE, CACHE_SIZE
from headstart.features.store.feature_store import FeatureStore
from headstart.features.store.manifest import read_manifest
from headstart.features.store.verify import faults as faults_of
from headstart.pipelines import growth
from headstart.pipelines.extract import extract as extract_into
from headstart.pipelines.extract_config import ExtractConfig
from tests.conftest import raises, small_backbone, small_backbone_flags
from tests.proxy import SECRET, Faults, Request, Server
from tests.servers import AWS_USER, BUCKET, SERVERS

EACH_ONCE = pytest.mark.parametrize("running", ["s3", "gs-fake", "az"], indirect=True)  # gs is moto's again; it takes long
S3_ALONE = pytest.mark.parametrize("running", ["s3"], indirect=True)  # nothing in it depends on whose objects they are


@pytest.fixture(scope="module", params=SERVERS)
def running(request: pytest.FixtureRequest) -> Iterator[Server]:
    with SERVERS[request.param]() as server:
        yield server


@pytest.fixture
def server(running: Server, tmp_path: pathlib.Path) -> Iterator[Server]:
    """A server that does as it should, spoken to as any other would be, and an empty cache."""
    with running.spoken_to(str(tmp_path / "cache")):
        yield running


@pytest.fixture
def faulty(server: Server, monkeypatch: pytest.MonkeyPatch) -> Faults:
    """One in five requests fails, one in twenty is cut short, one in fifty hangs."""
    monkeypatch.setattr(requests, "SILENCE_S", 1.0)
    monkeypatch.setattr(requests, "PAUSES_S", (0.01, 0.02, 0.04, 0.1, 0.2, 0.4, 0.8, 0.8, 0.8, 0.8))
    requests.client.cache_clear()
    server.faults.failing, server.faults.cut, server.faults.hanging = 0.2, 0.05, 0.02
    return server.faults


def put_folder(folder: pathlib.Path, url: str) -> str:
    """Copies a folder to an object store."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            place.write(place.join(url, str(path.relative_to(folder))), path.read_bytes())
    return url


def shards(store: str) -> list[dict[str, Any]]:
    """Every file's digest of every generation, in order; the network's own aside, that is saved anew."""
    return [generation.digests for generation in read_manifest(store).generations]


NAMES = ["plain.jpg", "a b/ä/x #?.jpg", "100%.png", "%41.png", "+&=;,@!$'()*.jpg", 'quote"s.jpg', "😀.jpg", " a/b ", "x" * 255]


@pytest.mark.parametrize("name", NAMES)
def test_any_name_is_a_key(name: str, server: Server) -> None:
    path = place.join(server.root, "folder", name)
    assert not place.exists(path)
    place.write(path, b"content")
    assert place.read(path) == b"content" and place.exists(path) and not place.is_folder(path)
    assert place.head(path, 3) == b"con" and place.head(path, 30) == b"".join(place.opened(path)[1]) == b"content"
    assert [(entry.name, entry.size) for entry in place.entries(f"{server.root}/folder")] == [(name, 7)]
    assert place.names(f"{server.root}/folder") == {name.partition("/")[0]}
    (found,) = place.entries_at([path])
    assert found and found.size == 7 and found == place.entry(path)
    place.write(path, b"")
    assert place.head(path, 3) == place.read(path) == b""
    place.remove([path, path + "-not-there"])
    assert not place.exists(f"{server.root}/folder")


def test_an_object_is_created_once(server: Server) -> None:
    path = f"{server.root}/file"
    assert place.create(path, b"first") and place.create(path, b"first") and not place.create(path, b"second")
    with pytest.raises(FileExistsError), place.creating(path) as file:
        file.write(b"second")
    with pytest.raises(RuntimeError, match="killed"), place.creating(f"{server.root}/other") as file:
        file.write(b"half")
        raise RuntimeError("killed")
    place.copy(path, f"{server.root}/copy")
    assert place.read(path) == place.read(f"{server.root}/copy") == b"first" and place.names(server.root) == {"file", "copy"}


def test_what_consoles_leave_in_the_place_of_folders_is_no_file(server: Server) -> None:
    place.write(f"{server.root}/photos/cats/1.jpg", b"1")
    client = requests.client(server.root)
    import obstore

    obstore.put(client, "photos/cats", b"")  # what a key that ends in / comes to
    assert [entry.name for entry in place.entries(f"{server.root}/photos")] == ["cats/1.jpg"]


@S3_ALONE
def test_a_folder_that_a_console_made_is_empty(server: Server) -> None:
    made = Request("PUT", f"/{BUCKET}/runs/1/", {"authorization": AWS_USER}, b"")
    assert server.ask(made).status == 200
    assert place.names(f"{server.root}/runs/1") == set() and not list(place.entries(f"{server.root}/runs/1"))
    place.write(f"{server.root}/runs/1/file", b"content")
    assert place.names(f"{server.root}/runs/1") == {"file"} and place.names(f"{server.root}/runs") == {"1"}
    server.ask(made._replace(method="DELETE"))  # nobody else finds its key


def test_of_one_bucket_all_is_known_by_one_listing(server: Server, tmp_path: pathlib.Path) -> None:
    there = [place.join(server.root, "photos", name) for name in ("b/2.jpg", "a b/1.jpg", "b/1.jpg")]
    for path in there:
        place.write(path, path.encode())
    found = [each._replace(name="") for each in place.entries_at(there) if each]
    server.faults.log.clear()
    assert states(Text.of([*there, f"{server.root}/photos/gone"])) == [*found, NO_FILE]
    assert [method for method, _ in server.faults.log] == ["GET", "GET"]  # whether anything is there, and what
    (tmp_path / "near").write_bytes(b"near")
    near, *others = states(Text.of([str(tmp_path / "near"), *there, f"{server.root}/photos/gone"]))
    assert (near.size, near.version) == (4, "") and others == [*found, NO_FILE]


def test_one_holds_a_claim(server: Server) -> None:
    with claimed(f"{server.root}/store", "extraction", "--store") as mine:
        with raises("in-use"), claimed(f"{server.root}/store", "extraction", "--store"):
            pass
        assert mine.number == 1
    assert not place.exists(f"{server.root}/store")


def test_a_large_object_comes_in_pieces_and_whole(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "PIECE", 1000)
    content = os.urandom(4321)
    place.write(f"{server.root}/large", content)
    assert list(map(len, place.opened(f"{server.root}/large")[1])) == [1000, 1000, 1000, 1000, 321]
    assert pathlib.Path(cache.local_path(f"{server.root}/large")).read_bytes() == content


@pytest.mark.slow
@EACH_ONCE
def test_requests_that_fail_are_repeated(server: Server, faulty: Faults) -> None:
    contents = {f"{server.root}/faulty/{number}": os.urandom(100 * number) for number in range(60)}
    assert all(place.at_once(lambda path: place.create(path, contents[path]), contents, server.root))
    assert place.at_once(place.read, contents, server.root) == list(contents.values())
    assert {place.join(f"{server.root}/faulty", entry.name) for entry in place.entries(f"{server.root}/faulty")} == set(
        contents
    )
    assert faulty.spoiled > 20


@pytest.fixture
def extract(server: Server) -> Callable[[str, str], int]:
    return lambda source, store: main(["extract", source, "--store", store, *small_backbone_flags()])


@pytest.mark.slow
@EACH_ONCE
def test_a_remote_store_is_the_local_one(
    extract: Callable[[str, str], int], photos: pathlib.Path, store: pathlib.Path, server: Server,
    capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    source = put_folder(photos, f"{server.root}/my photos")
    url = f"{server.root}/deep/er/store"
    assert extract(source, url) == 0
    assert f"{url}: 60 of 60 images stored" in capsys.readouterr().err
    assert shards(url) == shards(str(store)) and not list(faults_of(url))
    assert {name.partition("/")[0] for name in (entry.name for entry in place.entries(url))} == {
        "manifest.json", "generations", ".digests.parquet"
    }  # fmt: skip
    assert SECRET not in "".join(place.read(place.join(url, each.name)).decode("latin1") for each in place.entries(url))
    before = len(server.faults.log)
    assert extract(source, url) == 0 and "nothing to do" in capsys.readouterr().err
    assert not [path for method, path in server.faults.log[before:] if method == "GET" and path.endswith((".jpg", ".png"))]
    assert main(["info", url]) == 0 and main(["verify", url]) == 0
    monkeypatch.setenv(CACHE, str(tmp_path / "fresh"))
    asked = []
    for name in ("cold", "warm"):
        server.faults.log.clear()
        assert main(["train", url, "--run", str(tmp_path / name), "--epochs", "2", "--batch_size", "12"]) == 0
        asked.append([path for _, path in server.faults.log if ".tfrecord-" in path and "?" not in path])
    assert len(set(asked[0])) == 2 and not asked[1]  # train and validation, once; nothing that was not needed
    assert main(["evaluate", str(tmp_path / "cold")]) == 0
    assert extract(str(photos), str(tmp_path / "local")) == 0
    assert (
        main(["train", str(tmp_path / "local"), "--run", str(tmp_path / "near"), "--epochs", "2", "--batch_size", "12"]) == 0
    )
    seen = [(tmp_path / name / "history.csv").read_text() for name in ("cold", "warm", "near")]
    assert seen[0] == seen[1] == seen[2]


@S3_ALONE
def test_another_machine_fetches_a_map_style_dataset_anew(
    server: Server, store: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = pickle.dumps(FeatureStore.open(put_folder(store, f"{server.root}/store")).map_style("train"))
    shutil.rmtree(cache.cache_root())
    monkeypatch.setenv(CACHE, str(tmp_path / "of another machine"))
    expected = FeatureStore.open(str(store)).to_numpy("train").features
    assert np.array_equal(np.stack([feature for feature, _ in pickle.loads(sent)]), expected)


@pytest.mark.slow
def test_a_store_that_grows_keeps_what_it_has(
    server: Server, extract: Callable[[str, str], int], photos: pathlib.Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    source, url = put_folder(photos, f"{server.root}/photos"), f"{server.root}/store"
    assert extract(source, url) == 0
    held = FeatureStore.open(url)
    place.write(f"{source}/train/fern/new.jpg", place.read(f"{source}/train/fern/00.jpg") + b"\0")
    assert extract(source, url) == 0
    assert "(1 to compute, 60 to copy)" in capsys.readouterr().err
    assert FeatureStore.open(url).count("train") == 37 and not list(faults_of(url))
    assert held.to_numpy("train").features.shape[0] == 36  # who opened it goes on reading
    assert main(["clean", url, "--grace", "0"]) == 0
    assert "removed 1 older generation" in capsys.readouterr().out
    monkeypatch.setattr(growth, "APPEND_FROM", 1)  # from now on a generation is added
    place.write(f"{source}/train/fern/newer.jpg", place.read(f"{source}/train/fern/00.jpg") + b"\0\0")
    assert extract(source, url) == 0 and len(read_manifest(url).generations) == 2
    assert main(["compact", url]) == 0 and len(read_manifest(url).generations) == 1
    assert FeatureStore.open(url).count("train") == 38 and not list(faults_of(url))


@pytest.mark.slow
@EACH_ONCE
def test_a_store_made_through_faults_is_the_same(
    server: Server, faulty: Faults, extract: Callable[[str, str], int], photos: pathlib.Path, store: pathlib.Path
) -> None:
    source = put_folder(photos, f"{server.root}/photos")
    assert extract(source, f"{server.root}/store") == 0
    assert shards(f"{server.root}/store") == shards(str(store))
    assert FeatureStore.open(f"{server.root}/store").to_numpy("train").features.shape[0] == 36
    assert faulty.spoiled > 30


def test_two_starts_at_once(photos: pathlib.Path, store: pathlib.Path, server: Server) -> None:
    source, told = put_folder(photos, f"{server.root}/photos"), list[str]()
    asked = ExtractConfig(input=source, store=f"{server.root}/store", **small_backbone())

    def start() -> None:
        try:
            extract_into(asked)
            told.append("")
        except UserError as error:
            told.append(str(error))

    threads = [threading.Thread(target=start) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    refused = f"another extraction is writing to '{server.root}/store'"
    assert "" in told and all(not text or refused in text for text in told)  # one may come when the other is done
    assert shards(f"{server.root}/store") == shards(str(store))


@pytest.mark.slow
@EACH_ONCE
def test_a_killed_job_is_taken_up(photos: pathlib.Path, store: pathlib.Path, server: Server) -> None:
    source, url = put_folder(photos, f"{server.root}/photos"), f"{server.root}/store"
    command = [sys.executable, "-m", "headstart", "extract", source, "--store", url, *small_backbone_flags()]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not any(".tfrecord-" in entry.name for entry in place.entries(f"{url}/generations")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert main(command[3:]) == 0
    assert shards(url) == shards(str(store))
    assert not place.exists(f"{url}/.work") and not place.exists(f"{url}/claims")


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["extract", "s4://bucket/photos", "--store", "s"], "unknown scheme. There are s3://, gs://, az://"),
        (["extract", "AT://nobody/photos", "--store", "s"], "there is no bucket 'AT://nobody'"),
        (["extract", "AT://bucket/nothing", "--store", "s"], "'AT://bucket/nothing' does not exist"),
        (["extract", "PHOTOS", "--store", "AT://nobody/store"], "there is no bucket 'AT://nobody'"),
        (["extract", "PHOTOS", "--store", "AT://"], "'AT://' names no bucket: expected AT://BUCKET/KEY"),
        (["extract", "PHOTOS", "--store", "AT://bucket/s", "--weights", "AT://bucket/no.h5"], "no file 'AT://bucket/no.h5'"),
        (["train", "AT://bucket/nothing", "--run", "r"], "there is no feature store at 'AT://bucket/nothing'"),
        (["info", "AT://nobody/store"], "there is no bucket 'AT://nobody'"),
    ],
)
def test_what_is_not_there(
    argv: list[str], told: str, server: Server, photos: pathlib.Path, one_line: Callable[[], str],
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    if "there is no bucket" in told and not server.names_buckets:
        pytest.skip("this server says otherwise than Google that a bucket is not there")
    monkeypatch.chdir(tmp_path)
    scheme = server.root.partition("://")[0]
    assert main([word.replace("PHOTOS", str(photos)).replace("AT:", f"{scheme}:") for word in argv]) == 2
    assert told.replace("AT:", f"{scheme}:") in one_line()
    assert not os.listdir(tmp_path)


def test_denied_access_is_told_in_a_line(
    server: Server, photos: pathlib.Path, one_line: Callable[[], str], extract: Callable[[str, str], int]
) -> None:
    server.faults.refused = lambda method, path: True
    assert extract(f"{server.root}/photos", f"{server.root}/store") == 2
    line = one_line()
    assert "access denied" in line and SECRET not in line


@pytest.mark.slow
def test_a_bucket_that_becomes_read_only_loses_nothing(
    server: Server, photos: pathlib.Path, store: pathlib.Path, capsys: pytest.CaptureFixture[str],
    extract: Callable[[str, str], int],
) -> None:  # fmt: skip
    source, url = put_folder(photos, f"{server.root}/photos"), f"{server.root}/store"
    server.faults.refused = lambda method, path: method == "PUT" and "generations" in path and "features-train" in path
    assert extract(source, url) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert (
        last.startswith(f"headstart extract: error: {server.root}/store/generations/")
        and "access denied (AccessDenied" in last
    )
    server.faults.refused = lambda method, path: False
    with pytest.raises(UserError, match="not complete"):
        FeatureStore.open(url)
    assert extract(source, url) == 0 and shards(url) == shards(str(store))


def test_a_photo_that_is_gone_is_a_dead_letter(
    server: Server, photos: pathlib.Path, extract: Callable[[str, str], int], tmp_path: pathlib.Path
) -> None:
    table = tmp_path / "table.csv"
    put_folder(photos / "train", f"{server.root}/photos")
    rows = [
        f"{server.root}/photos/{path.relative_to(photos / 'train')},{path.parent.name}"
        for path in sorted(photos.glob("train/*/*"))
    ]
    table.write_text("\n".join(["path,label", *rows, f"{server.root}/photos/fern/gone.jpg,fern"]), encoding="utf-8")
    argv = ["extract", str(table), "--store", f"{server.root}/store", "--max_bad_fraction", "0.1", *small_backbone_flags()]
    assert main(argv) == 0
    (letter,) = FeatureStore.open(f"{server.root}/store").dead_letters
    assert (letter.key, letter.stage, letter.reason) == (f"{server.root}/photos/fern/gone.jpg", "read", "it is not there")


def test_weights_and_backbones_come_from_there_too(
    server: Server, photos: pathlib.Path, store: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    flags = small_backbone_flags()
    url = f"{server.root}/models/base.keras"
    place.write(url, pathlib.Path(flags[1]).read_bytes())
    argv = ["extract", str(photos), "--store", str(tmp_path / "store"), "--backbone", url, *flags[2:]]
    assert main(argv) == 0
    assert shards(str(tmp_path / "store")) == shards(str(store))
    provenance = json.loads((tmp_path / "store" / "manifest.json").read_text())["provenance"]
    assert provenance["weights"] == url


@S3_ALONE
def test_the_cache_keeps_what_was_used_last(server: Server, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_SIZE, "0.000003")
    for number in range(4):
        place.write(f"{server.root}/{number}", bytes([number]) * 1000)
    copies = [pathlib.Path(cache.local_path(f"{server.root}/{number}")) for number in (0, 1, 2)]
    for age, copy in enumerate(copies):
        os.utime(copy, (age, age))
    cache.local_path(f"{server.root}/0")  # used again
    last = pathlib.Path(cache.local_path(f"{server.root}/3"))
    assert [copy.exists() for copy in (*copies, last)] == [True, False, True, True]
    place.write(f"{server.root}/large", bytes(3001))
    with raises("disk-full") as caught:
        cache.local_path(f"{server.root}/large")
    assert "raise --cache_size" in str(caught.value)


@S3_ALONE
def test_a_copy_that_is_not_what_its_digest_says_is_refused(server: Server, tmp_path: pathlib.Path) -> None:
    place.write(f"{server.root}/file", b"other")
    with raises("damaged"):
        cache.local_paths([cache.RemoteFile(f"{server.root}/file", 5, "0" * 64)])
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


@S3_ALONE
def test_many_fetch_the_same_at_once(server: Server) -> None:
    place.write(f"{server.root}/file", b"content")
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(cache.local_path(f"{server.root}/file"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8 and len(set(found)) == 1 and pathlib.Path(found[0]).read_bytes() == b"content"


@pytest.mark.slow
def test_by_listing_a_photo_is_read_once(
    server: Server, photos: pathlib.Path, store: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = put_folder(photos, f"{server.root}/photos"), str(tmp_path / "store")
    argv = ["extract", source, "--store", out, *small_backbone_flags(), "--identity", "listing"]

    def computed() -> str:
        assert main(argv) == 0
        return capsys.readouterr().err

    server.faults.log.clear()
    assert "60 of 60 images stored" in computed()
    asked = Counter(path for method, path in server.faults.log if method == "GET" and path.endswith(".jpg"))
    again = sum("/train/" in path for path in asked)  # for the store's sample
    assert len(asked) == 30 and asked.total() == 30 + again
    made, plain = FeatureStore.open(out), FeatureStore.open(str(store))
    everything = zip(*(sorted((e.key, e.labels) for e in each.table) for each in (made, plain)))
    assert all(own == theirs for own, theirs in everything) and not {e.digest for e in made.table} & {*plain.table.digests}
    one, other = next(iter(made.table)).key, made.table[30].key
    place.write(f"{source}/{one}", (photos / one).read_bytes())  # the same again, which Azure alone calls another version
    assert ("(1 to compute" if server.root.startswith("az:") else "nothing to do") in computed()
    place.write(f"{source}/{other}", (photos / one).read_bytes() + b" ")
    assert "60 images (1 to compute" in computed() and not list(faults_of(out))
    assert main([*argv[:-1], "content"]) == 2 and "--identity" in capsys.readouterr().err
    before = place.read(f"{source}/{one}")
    expected = next(e.digest for e in FeatureStore.open(out).table if e.key == one)
    assert digest_of(f"{source}/{one}", expected) == expected != digest_of(f"{source}/{one}")
    place.write(f"{source}/{one}", before + b" ")
    assert digest_of(f"{source}/{one}", expected) == hashlib.sha256(before + b" ").hexdigest()


def test_files_of_this_machine_have_no_listing(
    photos: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--store", str(tmp_path / "store"), *small_backbone_flags(), "--identity", "listing"]
    assert main(["extract", str(photos), *flags]) == 2
    assert "nobody says what" in capsys.readouterr().err and not (tmp_path / "store").exists()
    assert main(["extract", "tfrecord:*.tfrecord", *flags]) == 2 and "leave it out" in capsys.readouterr().err
