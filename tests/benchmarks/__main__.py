"""`make bench`: every benchmark, as one table, a CSV and a picture.

    python -m tests.benchmarks [--rounds 3] [--out bench]

BENCH_IMAGES=FOLDER takes your own images (CLASS/NAME) in place of made ones.
"""

from __future__ import annotations

import argparse
import csv
import os
import tempfile
from typing import Any

from tests.benchmarks import extraction, reading, training
from tests.benchmarks.made import machine, write_large_photos, write_photos

LIGHT, HEAVY, LARGE = 1000, 300, 120  # made images for networks of about 10 and 100 ms an image; of 12 megapixels
BACKBONES = (("MobileNetV2", 224, LIGHT), ("ResNet50", 224, HEAVY), ("VGG16", 150, HEAVY), ("EfficientNetLite0", 224, LIGHT))


def measured(rounds: int, out: str) -> list[dict[str, Any]]:
    """All rows; each table is written as soon as it is there."""
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        for name, side, count in BACKBONES:
            folder = os.environ.get("BENCH_IMAGES") or os.path.join(scratch, str(count))
            if not os.path.isdir(folder):
                write_photos(folder, count)
            found = extraction.measure(name, side, folder, rounds)
            rows += [{"what": "extraction", "images": len(extraction.files_of(folder)), **row} for row in found]
            show(rows[-len(found) :], rows, out)
        folder = os.path.join(scratch, "large")
        write_large_photos(folder, LARGE)
        found = extraction.measure("MobileNetV2", 224, folder, rounds, extraction.LARGE)
        rows += [{"what": "extraction, 12 megapixels", "images": LARGE, **row} for row in found]
        show(rows[-len(found) :], rows, out)
    for what, found in (("reading", reading.measure(rounds, 16_384)), ("training", training.measure(rounds, 2_000))):
        rows += [{"what": what, **row} for row in found]
        show(rows[-len(found) :], rows, out)
    return rows


def show(fresh: list[dict[str, Any]], rows: list[dict[str, Any]], out: str) -> None:
    """Prints some rows, and writes all of them."""
    for row in fresh:
        print(
            "  ".join(
                f"{value}" if key in ("what", "backbone", "way", "reader") else f"{key} {value}" for key, value in row.items()
            )
        )
    print(flush=True)
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with open(os.path.join(out, "benchmarks.csv"), "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["machine", *columns], lineterminator="\n")
        writer.writeheader()
        writer.writerows({"machine": machine(), **row} for row in rows)


def draw(rows: list[dict[str, Any]], path: str) -> None:
    """Images a second of each way, a panel for each backbone."""
    from matplotlib.figure import Figure

    found = [row for row in rows if row["what"] == "extraction" and row["way"] != extraction.DECODE]
    names = list(dict.fromkeys(row["backbone"] for row in found))
    figure = Figure(figsize=(11, 2.2 * len(names)), layout="constrained")
    for axes, name in zip(figure.subplots(len(names), squeeze=False)[:, 0], names):
        bars = [row for row in found if row["backbone"] == name][::-1]
        colours = ["tab:blue" if row["way"].startswith("headstart") else "0.75" for row in bars]
        drawn = axes.barh([row["way"] for row in bars], [row["images/s"] for row in bars], color=colours)
        axes.bar_label(drawn, [f"{row['images/s']:.0f}  ({row['against Keras']:.2f})" for row in bars], padding=3)
        axes.set_title(f"{name}, images/s (times {extraction.KERAS})", fontsize=10, loc="left")
        axes.margins(x=0.15)
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(machine(), fontsize=10)
    figure.savefig(path, dpi=120)


def main() -> None:
    """Measures, prints, writes."""
    from headstart.features.runtime import import_tensorflow_quietly

    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", default="bench")
    args = parser.parse_args()
    os.makedirs(args.out, exist_ok=True)
    import_tensorflow_quietly()
    print(f"{machine()}; medians of {args.rounds} rounds\n")
    draw(measured(args.rounds, args.out), os.path.join(args.out, "benchmarks.png"))
    print(f"{args.out}/benchmarks.csv, {args.out}/benchmarks.png")


if __name__ == "__main__":
    main()
