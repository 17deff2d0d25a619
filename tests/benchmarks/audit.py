"""What `headstart audit` finds of faults that were put into photographs on purpose, and of photographs as they are.

    python -m tests.benchmarks.audit PHOTOS [--per_class 1000] [--seeds 3] [--copies 40]
    python -m tests.benchmarks.audit digits --per_class 150 --copies 0

5% of the labels are wrong, in all splits alike; test has copies of training images. What is wrong in PHOTOS itself counts as
a false alarm. Three more audits are of the same photographs as they are, of those of one class 30% darker, and of those of one
class in JPEGs of quality 70 among others of quality 90. `digits` are scikit-learn's, of which copies would be other digits.
"""

from __future__ import annotations

import argparse
import csv
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass

from headstart.training.auditing.audit import Audit
from tests.benchmarks.planted import Photo, Planted, listed, plant, saved_anew

FLIPS = 0.05


@dataclass(frozen=True)
class Found:
    """Of what was planted, which part was found; and of what was found, which part was planted. 0..1."""

    recall: dict[str, float]
    precision: dict[str, float]


def audited(folder: str, image_size: str = "") -> Audit:
    """Extracts an image folder and audits it; the audit's files lie in FOLDER-audit."""
    from headstart.pipelines.extract import extract
    from headstart.pipelines.extract_config import ExtractConfig
    from headstart.training.auditing.audit import audit
    from headstart.training.auditing.audit_config import AuditConfig

    extract(ExtractConfig(input=folder, store=f"{folder}-store", image_size=image_size))
    return audit(AuditConfig(store=f"{folder}-store", output=f"{folder}-audit"))


def compared(planted: Planted) -> Found:
    """What an audit found, compared with what was planted."""
    wrong = {row["key"] for row in _rows(planted, "label_errors")}
    pairs = {frozenset((row["key"], row["other_key"])) for row in _rows(planted, "leaks")}
    recall = {kind: sum(frozenset(pair) in pairs for pair in some) / len(some) for kind, some in planted.copies.items()}
    real = {frozenset(pair) for some in planted.copies.values() for pair in some}
    recall["wrong labels"] = len(wrong & planted.flipped) / max(1, len(planted.flipped))
    precision = {"wrong labels": len(wrong & planted.flipped) / max(1, len(wrong))}
    return Found(recall, precision | ({"copies": len(pairs & real) / max(1, len(pairs))} if real else {}))


def _rows(planted: Planted, kind: str) -> list[dict[str, str]]:
    path = os.path.join(f"{planted.folder}-audit", f"{kind}.csv")
    if not os.path.exists(path):
        return []
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _told(values: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.0%}" for name, value in values.items())


def _alarms(result: Audit) -> str:
    return ", ".join(f"{found.kind} {found.count}" for found in result.findings if found.count) or "nothing"


def _measure(photos: list[Photo], folder: str, copies: int, image_size: str, seed: int) -> None:
    planted = plant(photos, os.path.join(folder, "planted"), FLIPS, copies, seed)
    audited(planted.folder, image_size)
    found = compared(planted)
    print(f"seed {seed}, {len(photos):,} photographs: {len(planted.flipped)} wrong labels, {copies} copies of each kind")
    print(f"  recall     {_told(found.recall)}\n  precision  {_told(found.precision)}", flush=True)
    changes: dict[str, Callable[[str, str], None]] = {
        "as they are": lambda path, name: None,
        "one class darker": lambda path, name: saved_anew(path, name, brightness=0.7),
        "one class compressed": lambda path, name: saved_anew(path, name, quality=70),
    }
    for what, change in changes.items():
        other = plant(photos, os.path.join(folder, what.replace(" ", "-")), seed=seed)
        change(other.folder, photos[0].label)
        result = audited(other.folder, image_size)
        words = (
            next(found.words for found in result.findings if found.kind == "shortcuts" and found.count)
            if result.count("shortcuts")
            else "no shortcut"
        )
        print(f"  {what}: {_alarms(result)}; {words}", flush=True)


def main() -> None:
    """Prints a few lines a seed."""
    from headstart.commands.demo import write_digits
    from headstart.features.runtime import import_tensorflow_quietly

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos")
    parser.add_argument("--per_class", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--copies", type=int, default=40)
    options = parser.parse_args()
    import_tensorflow_quietly()
    for seed in range(options.seeds):
        with tempfile.TemporaryDirectory(prefix="headstart-audit-") as folder:
            source, size = options.photos, ""
            if source == "digits":
                source, size = os.path.join(folder, "digits"), "96"
                write_digits(source)
            _measure(listed(source, options.per_class, seed), folder, options.copies, size, seed)


if __name__ == "__main__":
    main()
