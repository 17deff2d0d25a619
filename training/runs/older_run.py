"""What a run's folder holds already, and what a training that begins there may do with it.

The very same run is left alone. One of the same command and the same store or images gives way, with a line: that is how a run
is made better, or again when its dataset has grown. Any other stays, and the training is refused.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from typing import Any

from headstart.features import files
from headstart.features.dataset.inputs import absolute_input
from headstart.features.errors import UserError
from headstart.features.places import mirror, place
from headstart.training.runs.run_folder import CONFIG, METRICS, STORE

WHERE = ("store", "from_store", "input", "run", "init_from", "unsafe")  # of flags: what lies there has digests


def check_source(path: str, command: str, where: str, digest: str = "", fingerprint: str = "") -> None:
    """Looks whether a run's folder holds a run of something else.

    Args:
        path: the run's folder.
        command: `train` or `finetune`: what is to make a run there.
        where: the store or the images that it reads, as an absolute path.
        digest: of the dataset there.
        fingerprint: of the features there; '' where any do.

    Raises:
        UserError: when a complete run of another command, store or dataset is there.
    """
    if not (kept := _kept(path)):
        return
    own, source = _source(kept)
    moved = where == place.join(place.absolute(path), STORE) and not place.exists(source)
    same = digest == kept["dataset_digest"] and fingerprint in ("", kept["fingerprint"])
    if own == command and (source == where or same or moved):
        return
    raise UserError(
        "output-taken",
        f"--run {path!r} holds a run that `headstart {own}` made of {source!r}, and this is `headstart {command}` of "
        f"{where!r}: give another --run, or delete that one",
    )


def leaves_alone(path: str, described: Mapping[str, Any]) -> bool:
    """Whether a complete run is this very one, so that there is nothing to do; a line says so, or what will be replaced.

    Args:
        path: the run's folder.
        described: what config.json is to say of the run, as far as that is known before it is trained.
    """
    kept, wanted = _kept(path), json.loads(json.dumps(described))
    if not kept or files.read_json(os.path.join(mirror.here(path), METRICS)).get("interrupted"):  # then the training goes on
        return False
    command = "finetune" if "finetune" in wanted else "train"
    theirs, mine = kept[command], wanted[command]
    other = {name for name in {*theirs, *mine} if name not in WHERE and theirs.get(name) != mine.get(name)}
    other |= {name for name in WHERE if name in wanted and kept.get(name) != wanted[name]}
    if not other and wanted["identity"] and kept["identity"] == wanted["identity"]:
        _say(f"{path} already holds this: nothing to do")
        return True
    by = ", ".join(sorted(other)) or "what it learns from or with"
    _say(f"{path}: the run there, which differs by {by}, is replaced, and its evaluations go with it")
    return False


def _kept(path: str) -> dict[str, Any]:
    """The configuration of a complete run; empty where there is none."""
    folder = mirror.here(path)
    if not os.path.isfile(os.path.join(folder, METRICS)):
        return {}
    return dict(files.read_json(os.path.join(folder, CONFIG)))


def _source(kept: Mapping[str, Any]) -> tuple[str, str]:
    """The command that made a run, and the store or the images that it read."""
    if "finetune" not in kept:
        return "train", kept["store"]
    return "finetune", kept.get("from_store") or absolute_input(kept["finetune"]["input"])


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
