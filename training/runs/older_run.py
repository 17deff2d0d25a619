"""What a run's folder holds already, and what a training that begins there may do with it.

The very same run is left alone. Any other gives way, with a line.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from typing import Any

from headstart.features import files
from headstart.features.places import mirror
from headstart.training.runs.run_folder import CONFIG, METRICS

WHERE = ("store", "from_store", "input", "run", "init_from", "unsafe")  # of flags: what lies there has digests


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


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
