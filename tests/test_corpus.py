"""Image files as the world has them: decoded or refused in words, never a crash, a hang, or much memory; none is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from headstart.features.errors import DecodeError
from headstart.features.images.decode import decode_image
from tests import corpus, fuzz
from tests.peak import STATUS

MAX_PIXELS = 10_000_000
SECONDS = 20  # for one file, on a busy machine


@pytest.fixture
def bounded() -> Iterator[None]:
    """A file that hangs fails its test."""

    def stop(*_: object) -> None:
        raise TimeoutError("a file was decoded without end")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def outcome(content: bytes) -> str | np.ndarray:
    try:
        return decode_image(content, MAX_PIXELS, intensity="auto")
    except DecodeError as error:
        return str(error)


def test_there_are_hundreds() -> None:
    names = [name for name, _ in corpus.files()]
    assert len(names) >= 300 and len(set(names)) == len(names)


@pytest.mark.parametrize(("name", "content"), corpus.files(), ids=[name for name, _ in corpus.files()])
def test_a_file_becomes_pixels_or_a_reason(name: str, content: bytes, bounded: None) -> None:
    found, again = outcome(content), outcome(content)
    if isinstance(found, str):
        assert found and found == again and "\n" not in found and " at 0x" not in found
    else:
        assert found.dtype == np.uint8 and found.ndim == 3 and found.shape[2] == 3 and found.size > 0
        assert np.array_equal(found, again)


@pytest.mark.parametrize("kind", corpus.KINDS)
def test_every_format_has_files_that_are_read(kind: str) -> None:
    suffix = corpus.SUFFIX[kind]
    read = [name for name, content in corpus.whole_files() if name.endswith(suffix) and not isinstance(outcome(content), str)]
    assert len(read) >= 3


def test_what_claims_too_much_is_refused_by_its_header() -> None:
    refused = {name: outcome(content) for name, content in corpus.hostile_files()}
    assert all(isinstance(reason, str) for name, reason in refused.items() if name != "bomb-of-text.png"), refused
    assert "more than the limit" in str(refused["bomb.png"]) and "more than the limit" in str(refused["bomb-of-zeros.png"])


@pytest.mark.skipif(not STATUS.exists(), reason="the peak is read as Linux tells it")
def test_memory_stays_small() -> None:
    code = f"""
from headstart.features.errors import DecodeError
from headstart.features.images.decode import decode_image
from tests import corpus, fuzz
from tests.peak import peak_mb
files = corpus.files()
decode_image(corpus.encoded(corpus.picture(), "AVIF" if "AVIF" in corpus.KINDS else "PNG"))
before = peak_mb()
for name, content in files:
    try:
        decode_image(content, {MAX_PIXELS})
    except DecodeError:
        pass
print(peak_mb() - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 11 * MAX_PIXELS / 2**20 + 100  # megabytes


@pytest.mark.slow
def test_an_extraction_loses_none_of_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from headstart.cli import main
    from headstart.pipelines.extract import extract
    from headstart.pipelines.extract_config import ExtractConfig
    from tests.conftest import IMAGE_SIZE, little_base

    counts = corpus.write(tmp_path / "images")
    base = little_base(tmp_path / "little.keras")
    store = extract(
        ExtractConfig(
            input=str(tmp_path / "images"), store=str(tmp_path / "store"), backbone=str(base),
            preprocessing="tf", image_size=IMAGE_SIZE, max_bad_fraction=1.0, max_pixels=MAX_PIXELS, layout="class",
        )
    )  # fmt: skip
    totals = store.manifest.totals
    assert totals.found == counts["files"] + counts["special"]
    assert totals.stored + totals.dead + totals.left_out == totals.found
    assert totals.stored > 200 and totals.dead > 80
    assert all(letter.key and letter.stage in ("read", "decode") and letter.reason for letter in store.dead_letters)
    dead = {os.path.basename(letter.key): letter.reason for letter in store.dead_letters}
    assert dead["pipe.jpg"] == "not a regular file"
    stored = {example.key for split in store.splits for example in store.examples(split)}
    assert {f"one/{name}.png" for name in corpus.ODD_NAMES} < stored
    assert main(["verify", str(tmp_path / "store")]) == 0, capsys.readouterr()


def test_a_little_fuzzing() -> None:
    assert fuzz.fuzz(seed=1, seconds=60, most=600) > 50
