"""The first pass over a source: files in, content digests out. Spread by Beam, cached by path, size and time.

The driver reads no image: each chunk's digests come back as one small file.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import apache_beam as beam

from headstart.features.dataset.record_files import RecordFields, RecordFile, RecordImage, images_in
from headstart.features.dataset.record_inputs import RecordInput
from headstart.features.images.file_kinds import image_format, not_an_image
from headstart.features.places import place
from headstart.features.places.entry import Entry
from headstart.features.places.requests import REQUESTS_AT_ONCE
from headstart.features.runtime import cores

DIGESTS = ".digests.jsonl"  # in the store's folder: the cache; not part of the store's identity
FILES_PER_CHUNK = 2_000


@dataclass(frozen=True)
class Surveyed:
    """What one pass over a file tells: its content digest ('' when it can't be read) and why it is no image ('' if it is)."""

    path: str
    size: int
    time_ns: int
    digest: str
    problem: str = ""


def survey_file(path: str) -> Surveyed:
    """Reads one file. Never raises: a file that can't be read has no digest, and a problem."""
    try:
        found, pieces = place.opened(path)
        head = next(pieces, b"")
        digest = hashlib.sha256(head)
        for piece in pieces:
            digest.update(piece)
    except (OSError, ValueError) as error:
        return Surveyed(path, 0, 0, "", getattr(error, "strerror", None) or str(error))
    problem = "" if image_format(head) else not_an_image(head)
    return Surveyed(path, found.size, found.time_ns, digest.hexdigest(), problem)


class SurveyFiles(beam.DoFn):
    """(chunk number, paths as bytes, for names need not be UTF-8) to one file of digests in a folder."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def process(self, chunk: tuple[int, list[bytes]]) -> Iterable[int]:
        number, paths = chunk
        remote = any(place.is_remote(os.fsdecode(path)) for path in paths)
        with ThreadPoolExecutor(REQUESTS_AT_ONCE if remote else cores()) as pool:
            rows = pool.map(survey_file, map(os.fsdecode, paths))
            write_rows(place.join(self.folder, _part(number)), list(rows))
        yield number


class SurveyRecords(beam.DoFn):
    """(file number, file) to one file of what images it holds, in a folder."""

    def __init__(self, fields: RecordFields, folder: str) -> None:
        self.fields, self.folder = fields, folder

    def process(self, numbered: tuple[int, RecordFile]) -> Iterable[int]:
        number, file = numbered
        rows = "".join(json.dumps(image) + "\n" for image in images_in(file, self.fields))
        place.write(place.join(self.folder, _part(number)), rows.encode())
        yield number


def survey_records(records: RecordInput, folder: str, pipeline: Any) -> list[RecordImage]:
    """The images of all files of records, in order. A file is read by one worker, and by nobody else.

    Args:
        records: the files, and which of their fields are image and label.
        folder: where workers leave what they found on the way; it is gone afterwards.
        pipeline: makes the Beam pipeline to run in.
    """
    with pipeline() as run:
        numbered = list(enumerate(records.files))
        _ = run | "Files" >> beam.Create(numbered) | "SurveyRecords" >> beam.ParDo(SurveyRecords(records.fields, folder))
    parts = place.at_once(lambda number: place.read(place.join(folder, _part(number))), range(len(records.files)), folder)
    place.remove_folder(folder)
    return [RecordImage(*json.loads(line)) for part in parts for line in part.splitlines()]


def survey(paths: Sequence[str], folder: str, cache: str, pipeline: Any) -> dict[str, Surveyed]:
    """Every path's digest, reading only files that the cache does not know at their size and time.

    Args:
        paths: files to survey.
        folder: where chunks leave their digests on the way; it is gone afterwards.
        cache: the path of the cache file, read and written.
        pipeline: makes the Beam pipeline to run in.
    """
    known = {row.path: row for row in read_rows(cache)}
    asked = [path for path in paths if path in known]
    now = zip(asked, place.entries_at(asked))
    fresh = {path: known[path] for path, found in now if found and _is_of(known[path], found)}
    missing = [path for path in paths if path not in fresh]
    starts = range(0, len(missing), FILES_PER_CHUNK)
    chunks = [(number, list(map(os.fsencode, missing[at : at + FILES_PER_CHUNK]))) for number, at in enumerate(starts)]
    if chunks:
        with pipeline() as run:
            _ = run | "Chunks" >> beam.Create(chunks) | "SurveyFiles" >> beam.ParDo(SurveyFiles(folder))
        for number, _paths in chunks:
            fresh.update((row.path, row) for row in read_rows(place.join(folder, _part(number))))
        place.remove_folder(folder)
        write_rows(cache, [fresh[path] for path in paths if fresh[path].digest])
    return fresh


def _is_of(row: Surveyed, found: Entry) -> bool:
    """Whether a file is still the one that was surveyed, by size and time."""
    return (found.size, found.time_ns) == (row.size, row.time_ns)


def _part(number: int) -> str:
    """The file of a chunk's digests."""
    return f"{number:05}.jsonl"


def write_rows(path: str, rows: Sequence[Surveyed]) -> None:
    """Writes rows as lines of JSON."""
    place.write(path, "".join(json.dumps(vars(row)) + "\n" for row in rows).encode())


def read_rows(path: str) -> list[Surveyed]:
    """Reads what `write_rows` wrote; nothing where it is not there."""
    try:
        content = place.read(path)
    except FileNotFoundError:
        return []
    return [Surveyed(**json.loads(line)) for line in content.splitlines()]
