"""A bucket that is not there: its objects can be listed, as many as one likes, and nothing else."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timezone
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from headstart.features.places import remote

CHANGED = datetime(2026, 1, 1, tzinfo=timezone.utc)


@contextlib.contextmanager
def listed(objects: Sequence[Any], described: Callable[[Any], tuple[str, int, str]]) -> Iterator[None]:
    """Every bucket holds the same objects while the block lasts, and lists them in this order.

    Args:
        objects: what there is, such as numbers.
        described: an object's key, size and version.
    """

    def pages(store: Any, prefix: str | None, chunk_size: int = 50) -> Iterator[list[dict[str, Any]]]:
        for start in range(0, len(objects), chunk_size):
            some = map(described, objects[start : start + chunk_size])
            yield [
                {"path": key, "size": size, "last_modified": CHANGED, "e_tag": version}
                for key, size, version in some
                if key.startswith(prefix or "")
            ]

    with patch.object(remote, "library", lambda: SimpleNamespace(list=pages)), patch.object(remote, "client", str):
        yield
