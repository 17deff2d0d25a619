"""What places say of files, in columns: of all below a folder of an object store, of each of many paths. No file is read."""

from __future__ import annotations

import functools

import numpy as np
import pyarrow.compute as pc

from headstart.features.dataset.columns import Below, Columns, Numbers, Text, batches, each
from headstart.features.places import place, remote
from headstart.features.places.entry import Entry


class Listing(Columns[Entry]):
    """A table of files of an object store, which know no mark."""

    row = Entry
    kinds = {"name": Text, "size": Numbers, "time_ns": Numbers, "version": Text}  # noqa: RUF012


class States(Columns[Entry]):
    """A table of what is known of files whose names are known; a size is -1 where there is no file."""

    row = functools.partial(Entry, "")
    kinds = {"size": Numbers, "time_ns": Numbers, "version": Text, "mark": Numbers}  # noqa: RUF012


NO_FILE = Entry("", -1, 0)


def listing(folder: str) -> Listing:
    """What `place.entries` gives of a folder of an object store; few of them are objects at one time."""
    found = remote.listed(folder, Listing.of)
    names = found.columns["name"].array
    if not pc.all(pc.less_equal(names[:-1], names[1:])).as_py():  # most stores list in this order
        found = found.take(found.columns["name"].order())
    empty = np.flatnonzero(found.columns["size"].array == 0)
    if not len(empty):
        return found
    rows = dict(zip(found.columns["name"].take(empty).values(), empty))
    folders = [rows[name] for name in remote.folders_among(rows, each(found.columns["name"]))]
    return found.take(np.delete(np.arange(len(found)), folders))


def states(paths: Text | Below) -> States:
    """What is known of each of many files, in order; of objects of one bucket, by one listing of what they have in common."""
    if len(paths) > 1 and place.is_remote(paths.take(slice(1)).values()[0]):
        common = place.common_folder([min(each(paths)), max(each(paths))])
        if place.is_remote(common) and place.is_folder(common):
            return _listed(common, Text.of(path[len(common) + 1 :] for path in each(paths)))
    found = (entry for some in batches(each(paths)) for entry in place.entries_at(some))
    return States.of(entry or NO_FILE for entry in found)


def _listed(folder: str, names: Text) -> States:
    """What a listing says of some names below a folder."""
    found = listing(folder)
    row = names.where_in(found.columns["name"])
    said = {name: found.columns[name] for name in ("size", "time_ns", "version")}
    known = States(**said, mark=Numbers(np.zeros(len(found), np.int64)))
    return States.joined([known, States.of([NO_FILE])]).take(np.where(row < 0, len(known), row))
