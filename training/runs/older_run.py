"""What a run's folder holds already, and what a training that begins there may do with it."""

from __future__ import annotations

import json
import os
from typing import Any

from headstart.features import files
from headstart.features.places import mirror
from headstart.training.runs.run_folder import CONFIG, METRICS


def holds(path: str, described: dict[str, Any]) -> bool:
    """Whether a complete run is what it would be described as, as far as that goes, and was not interrupted."""
    kept, metrics = (files.read_json(os.path.join(mirror.here(path), name)) for name in (CONFIG, METRICS))
    wanted = json.loads(json.dumps(described))
    return {name: kept.get(name) for name in wanted} == wanted and not metrics.get("interrupted")
