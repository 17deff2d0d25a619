"""The first pass over a source: files in, content digests out. Spread by Beam, cached by what places say of files.

The driver reads no image: each chunk's digests come back as one small file.
"""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from headstart.features.dataset.columns import Below, Columns, Digests, Few, Numbers, Text, each
from headstart.features.dataset.dead_letter import DeadLetter
from headstart.features.dataset.labels import in_a_cell
from headstart.features.dataset.listing import states
from headstart.features.dataset.record_files import RecordFields, RecordFile, RecordImage, images_in
from headstart.features.dataset.record_inputs import RecordInput
from headstart.features.dataset.sources import Images
from headstart.features.errors import UserError, concerns_all
from headstart.features.files import sha256_of
from headstart.features.images.file_kinds import image_format, not_an_image
from headstart.features.places import place
from headstart.features.places.entry import Entry
from headstart.features.places.identity import listed_digest
from headstart.features.places.requests import REQUESTS_AT_ONCE
from headstart.features.runtime import cores

DIGESTS = ".digests"  # of the cache's name in the store's folder, where it is no part of the store's identity
CACHE = f"{DIGESTS}.parquet"
FILES_PER_CHUNK = 2_000
STATE = ("size", "time_ns", "version", "mark")  # what a place says of a file that is still the one that was read
GONE = "No such file or directory"


@dataclass(frozen=True)
class Surveyed:
    """What one pass over a file tells: its content digest ('' when it can't be read) and why it is no image ('' if it is).

    Size, time, version and mark are an `Entry`'s, of the file as it was read.
    """

    path: str
    size: int
    time_ns: int
    digest: str
    problem: str = ""
    version: str = ""
    mark: int = 0


class Survey(Columns[Surveyed]):
    """A table of what is known of files."""

    row = Surveyed
    kinds = {  # noqa: RUF012
        "path": Text, "size": Numbers, "time_ns": Numbers, "digest": Digests, "problem": Few, "version": Text, "mark": Numbers,
    }  # fmt: skip

    @property
    def is_readable(self) -> np.ndarray:
        """Whether each file could be read, bool [N]."""
        return self.columns["digest"].array != b""


def survey_file(path: str) -> Surveyed:
    """Reads one file; one that can't be read has no digest, and a problem.

    Raises:
        UserError: when it is its place that fails.
    """
    try:
        found, pieces = place.opened(path)
        head = next(pieces, b"")
        digest = sha256_of(itertools.chain((head,), pieces))
    except (OSError, ValueError) as error:
        if concerns_all(error):
            raise
        return Surveyed(path, 0, 0, "", getattr(error, "strerror", None) or str(error))
    problem = "" if image_format(head) else not_an_image(head)
    return Surveyed(path, found.size, found.time_ns, digest, problem, found.version, found.mark)


class SurveyFiles(beam.DoFn):
    """The number of a chunk, whose paths lie in a folder, to a file of their digests beside them."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def process(self, number: int) -> Iterable[int]:
        paths = place.read(place.join(self.folder, _chunk(number))).decode("utf-8", "surrogateescape").split("\0")
        remote = any(map(place.is_remote, paths))
        with ThreadPoolExecutor(REQUESTS_AT_ONCE if remote else cores()) as pool:
            rows = "".join(json.dumps(vars(row)) + "\n" for row in pool.map(survey_file, paths))
        place.write(place.join(self.folder, _part(number)), rows.encode())
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


class RecordImages(Columns[RecordImage]):
    """A table of images in records."""

    row = RecordImage
    kinds = {"key": Text, "path": Text, "size": Numbers, "digest": Digests, "label": Few, "problem": Few}  # noqa: RUF012


def survey_records(records: RecordInput, folder: str, pipeline: Any) -> RecordImages:
    """The images of all files of records, in order. A file is read by one worker, and by nobody else.

    Args:
        records: the files, and which of their fields are image and label.
        folder: where workers leave what they found on the way; it is gone afterwards.
        pipeline: makes the Beam pipeline to run in.
    """
    paths = [place.join(folder, _part(number)) for number in range(len(records.files))]

    def found_in(path: str) -> RecordImages:
        return RecordImages.of_values(map(json.loads, place.read(path).splitlines()))

    try:
        with pipeline() as run:
            numbered = list(enumerate(records.files))
            _ = run | "Files" >> beam.Create(numbered) | "SurveyRecords" >> beam.ParDo(SurveyRecords(records.fields, folder))
        return RecordImages.joined(place.at_once(found_in, paths, folder))
    finally:
        place.remove_folder(folder)


def survey(paths: Text | Below, folder: str, cache: str, pipeline: Any) -> Survey:
    """What every file is, in order, reading only those that the cache does not know as they are now.

    Args:
        paths: files to survey.
        folder: where chunks of them lie, and their digests, on the way; it is gone afterwards.
        cache: the path of the cache file, read and written.
        pipeline: makes the Beam pipeline to run in.
    """
    known = read_cache(cache)
    row = _unchanged(paths, known)
    missing = np.flatnonzero(row < 0)
    chunks = np.split(missing, range(FILES_PER_CHUNK, len(missing), FILES_PER_CHUNK)) if len(missing) else []
    if not chunks:
        return known.take(row)

    def leave(numbered: tuple[int, np.ndarray]) -> None:
        text = "\0".join(paths.take(numbered[1]).values())
        place.write(place.join(folder, _chunk(numbered[0])), text.encode("utf-8", "surrogateescape"))

    try:
        place.at_once(leave, enumerate(chunks), folder)
        with pipeline() as run:
            _ = run | "Chunks" >> beam.Create(range(len(chunks))) | "SurveyFiles" >> beam.ParDo(SurveyFiles(folder))
        read = [read_rows(place.join(folder, _part(number))) for number in range(len(chunks))]
    finally:
        place.remove_folder(folder)
    row[missing] = len(known) + np.arange(len(missing))
    found = Survey.joined([known, *read]).take(row)
    write_cache(cache, found.take(found.is_readable))
    return found


def survey_listing(paths: Text | Below) -> Survey:
    """What every file is by what its place says of it: nothing is read, and what is no image is told when it is decoded.

    Raises:
        UserError: for files of this machine, of which nobody says what they hold.
    """

    def listed(path: str, found: Entry) -> Surveyed:
        if found.size < 0:
            return Surveyed("", 0, 0, "", GONE)
        if not found.version:
            raise UserError("bad-flag", f"--identity listing: nobody says what {path!r} holds: leave it out")
        return Surveyed("", found.size, found.time_ns, listed_digest(found))

    return Survey.of(map(listed, each(paths), states(paths))).replaced(path=paths)


def unread(images: Images, surveyed: Survey, label_delimiter: str = "") -> tuple[DeadLetter, ...]:
    """A dead letter for each image that could not be read at all."""
    is_unread = ~surveyed.is_readable
    return tuple(
        DeadLetter(image.key, "", in_a_cell(image.labels, label_delimiter), image.split, "read", found.problem)
        for image, found in zip(images.take(is_unread), surveyed.take(is_unread))
    )


def problems(images: Images, surveyed: Survey) -> dict[str, str]:
    """Key to why a file will be a dead letter."""
    problem = surveyed.columns["problem"]
    wrong = np.flatnonzero(problem.numbered({name: bool(name) for name in problem.names}))
    return dict(zip(images.columns["key"].take(wrong).values(), problem.take(wrong).values()))


def _unchanged(paths: Text | Below, known: Survey) -> np.ndarray:
    """Each file's row among the known ones, int64 [N]; -1 where it is not known as it is now."""
    if not len(known):
        return np.full(len(paths), -1)
    row = Text.of(each(paths)).where_in(known.columns["path"])
    asked = np.flatnonzero(row >= 0)
    now, then = states(paths.take(asked)), known.take(row[asked])
    is_other = [np.asarray(pc.not_equal(now.columns[name].array, then.columns[name].array)) for name in STATE]
    row[asked[np.logical_or.reduce(is_other)]] = -1
    return row


def _chunk(number: int) -> str:
    """The file of a chunk's paths."""
    return f"{number:05}.paths"


def _part(number: int) -> str:
    """The file of a chunk's digests."""
    return f"{number:05}.jsonl"


def read_rows(path: str) -> Survey:
    """What a chunk's files are."""
    return Survey.of(Surveyed(**json.loads(line)) for line in place.read(path).splitlines())


def write_cache(path: str, rows: Survey) -> None:
    """Writes what files are, for the next time."""
    columns = {name: rows.columns[name].array for name in ("path", *STATE)}
    digest, problem = (rows.columns[name] for name in ("digest", "problem"))
    digests = pa.FixedSizeBinaryArray.from_buffers(pa.binary(32), len(rows), [None, pa.py_buffer(digest.array)])
    problems = pa.DictionaryArray.from_arrays(problem.codes, pa.array(problem.names, pa.string()))
    table = pa.table({**columns, "digest": digests, "problem": problems})
    written = io.BytesIO()
    pq.write_table(table, written)
    place.write(path, written.getvalue())


def read_cache(path: str) -> Survey:
    """Reads what `write_cache` wrote; nothing where it is not there, damaged, or an earlier version's: it can be found out."""
    try:
        content = place.read(path)
    except FileNotFoundError:
        return Survey.of(())
    try:
        return _cached(pq.read_table(io.BytesIO(content)))
    except Exception:  # whatever Parquet's reader, or what comes after it, makes of damage
        return Survey.of(())


def _cached(table: pa.Table) -> Survey:
    return Survey(
        **{name: Text.joined([*map(Text, table[name].cast(pa.large_binary()).chunks)]) for name in ("path", "version")},
        **{name: Numbers(table[name].to_numpy()) for name in ("size", "time_ns", "mark")},
        digest=Digests.joined([Digests(np.array(part.to_pylist(), "S32")) for part in table["digest"].chunks]),
        problem=Few.of(table["problem"].to_pylist()),
    )
