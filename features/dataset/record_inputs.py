"""What `tfrecord:GLOB` and `tfds:NAME` stand for: files of records, which of their fields are image and label, and splits.

Nothing is downloaded, and no record is read here.
"""

from __future__ import annotations

import fnmatch
import glob
import os
import re
from dataclasses import dataclass

from headstart.features.dataset.record_files import RecordFields, RecordFile
from headstart.features.dataset.splits import SPLIT_NAMES
from headstart.features.errors import UserError, nearest
from headstart.features.places import place

SCHEMES = ("tfrecord:", "tfds:")
VERSION = re.compile(r"\d+\.\d+\.\d+")
SPLIT = re.compile(rf"({'|'.join(SPLIT_NAMES)})(?![a-z])", re.IGNORECASE)  # at the beginning of a file's or a folder's name
DATA_DIR = os.path.join("~", "tensorflow_datasets")  # where TFDS keeps what it prepared


@dataclass(frozen=True)
class RecordOptions:
    """How files of records are read; one field for each flag that says so."""

    image_field: str = ""
    label_field: str = ""
    label_names: str = ""
    data_dir: str = ""
    label_delimiter: str = ""


@dataclass(frozen=True)
class RecordInput:
    """Files of records, in order, and what their fields mean."""

    files: tuple[RecordFile, ...]
    fields: RecordFields

    @property
    def has_splits(self) -> bool:
        """Whether the files say of each image which split it is in, and of which there are several."""
        splits = {file.split for file in self.files}
        return "" not in splits and len(splits) > 1


def is_record_input(path: str) -> bool:
    """Whether an input is one of records, and no folder or table."""
    return path.startswith(SCHEMES)


def record_input(path: str, options: RecordOptions, labelled: bool = True) -> RecordInput:
    """Looks for the files that an input of records stands for.

    Args:
        path: `tfrecord:GLOB`, or `tfds:NAME[:CONFIG][:VERSION]`.
        options: what their fields are called, and where TFDS keeps what it prepared.
        labelled: whether labels are asked for.

    Raises:
        UserError: when there are none, or what TFDS says of them is not that of a classification of images.
    """
    scheme, _, rest = path.partition(":")
    if scheme == "tfds":
        return _prepared(rest, options, labelled)
    files = _matching(rest)
    if not files:
        raise UserError("missing-input", f"no file matches {rest!r}: expected TFRecord files, as tfrecord:photos/train-*")
    common = place.common_folder(files)
    names = [file[len(common) :].lstrip("/") for file in files]
    splits = [_split_of(name) for name in names]
    known = splits if all(splits) else [""] * len(files)
    image = options.image_field or RecordFields.image
    label = (options.label_field or RecordFields.label) if labelled else ""
    fields = RecordFields(image, label, _names(options), options.label_delimiter)
    return RecordInput(tuple(map(RecordFile, files, names, known)), fields)


def _matching(pattern: str) -> list[str]:
    """Files that a pattern matches, by absolute paths."""
    if not place.is_remote(pattern):
        return sorted(os.path.abspath(path) for path in glob.glob(pattern, recursive=True) if os.path.isfile(path))
    folder = re.split(r"[*?\[]", pattern)[0].rpartition("/")[0]
    paths = [place.join(folder, entry.name) for entry in place.entries(folder)]
    return [path for path in paths if fnmatch.fnmatchcase(path, pattern)]


def _split_of(name: str) -> str:
    """The split that a file's name begins with, or the folder's that it is in; '' when neither does."""
    for part in reversed(name.split("/")):
        if found := SPLIT.match(part):
            return SPLIT_NAMES[found[1].lower()]
    return ""


def _names(options: RecordOptions) -> tuple[str, ...]:
    if not options.label_names:
        return ()
    try:
        names = tuple(place.read(options.label_names).decode("utf-8-sig").splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise UserError("missing-input", f"--label_names {options.label_names!r} can't be read: {error}") from error
    if len(set(names)) < len(names) or "" in names:
        raise UserError("bad-input", f"--label_names {options.label_names!r}: expected a name a line, each once")
    return names


def _prepared(spec: str, options: RecordOptions, labelled: bool) -> RecordInput:
    """A dataset that TFDS prepared."""
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(dataset_folder(spec, options.data_dir))
    features, info = builder.info.features, builder.info
    image = options.image_field or _only(features, tfds.features.Image, "an image", "--image_field", spec)
    label = options.label_field if labelled else ""
    if labelled and not label:
        label = _only(features, tfds.features.ClassLabel, "a class label", "--label_field", spec)
    if info.file_format is None or info.file_format.file_suffix != "tfrecord":
        raise UserError("bad-input", f"tfds:{spec} is kept as {info.file_format}, and not as TFRecord files: prepare it again")
    missing = [name for name in (image, label) if name and name not in features]
    if missing:
        raise UserError("bad-flag", f"tfds:{spec} has no feature {missing[0]!r}.{nearest(missing[0], features)}")
    names = (getattr(features[label], "names", None) or ()) if label else ()
    files = [
        RecordFile(os.path.abspath(path), os.path.basename(path), SPLIT_NAMES.get(split.lower(), split))
        for split, held in sorted(info.splits.items())
        for path in map(os.fspath, held.filepaths)
    ]
    return RecordInput(tuple(files), RecordFields(image, label, tuple(names) or _names(options), options.label_delimiter))


def _only(features: object, kind: type, what: str, flag: str, spec: str) -> str:
    """The name of the only feature of a kind."""
    found = [name for name, feature in features.items() if isinstance(feature, kind)]  # type: ignore[attr-defined]
    if len(found) == 1:
        return found[0]
    held = f"several ({', '.join(found)}): name one with {flag}" if found else "none"
    raise UserError("bad-input", f"a classification of images needs {what}, and tfds:{spec} has {held}")


def dataset_folder(spec: str, data_dir: str = "") -> str:
    """The folder of a prepared dataset: NAME[:CONFIG][:VERSION]; the newest version where none is named.

    Raises:
        UserError: when it is not there.
    """
    root = os.path.expanduser(data_dir or os.environ.get("TFDS_DATA_DIR") or DATA_DIR)
    name, *parts = re.split(r"[:/]", spec)
    folder, version = os.path.join(root, name), ""
    if parts and VERSION.fullmatch(parts[-1]):
        version = parts.pop()
    if not os.path.isdir(folder):
        there, hint = ", ".join(_folders(root)) or "none", nearest(name, _folders(root))
        raise UserError("missing-input", f"no dataset {name!r} is prepared in {root!r} (--data_dir).{hint} It has: {there}")
    folder = os.path.join(folder, *parts)
    versions = [found for found in _folders(folder) if VERSION.fullmatch(found)]
    configs = [found for found in _folders(folder) if not VERSION.fullmatch(found)]
    if not versions and len(configs) == 1 and not parts:
        folder = os.path.join(folder, configs[0])
        versions = [found for found in _folders(folder) if VERSION.fullmatch(found)]
    if not versions or (version and version not in versions):
        held = [*versions, *configs]
        raise UserError("missing-input", f"tfds:{spec} is not prepared in {root!r}. There are: {', '.join(held) or 'none'}")
    newest = max(versions, key=lambda text: tuple(map(int, text.split("."))))
    return os.path.join(folder, version or newest)


def _folders(path: str) -> list[str]:
    try:
        return sorted(name for name in os.listdir(path) if os.path.isdir(os.path.join(path, name)))
    except OSError:
        return []
