"""An input as it is named, before anybody reads it: whether it is there, where it and its images lie. Loads nothing heavy."""

from __future__ import annotations

from headstart.features.dataset.record_inputs import is_record_input
from headstart.features.errors import UserError
from headstart.features.places import place

LAYOUTS = ("auto", "class", "split")


def check_exists(path: str) -> None:
    """Raises UserError when an input is not there; of files of records, only whoever reads them can tell."""
    if not is_record_input(path) and not place.exists(path):
        raise UserError("missing-input", f"the input {path!r} does not exist: give a folder of images or a CSV table")


def is_table(path: str) -> bool:
    """Whether an input is a table, as far as its name and what is there say."""
    return not is_record_input(path) and not place.is_folder(path)


def absolute_input(path: str) -> str:
    """An input for processes in other folders, and for the record."""
    return path if is_record_input(path) else place.absolute(path)


def image_root(path: str) -> str:
    """The folder that the keys of an input's images are relative to; a table's may be absolute paths."""
    return path if place.is_folder(path) else place.folder_of(path)
