"""Classes that are too small to be learned, or for their figures to say anything."""

from __future__ import annotations

import numpy as np

from headstart.training.auditing.findings import Finding, Images, Row
from headstart.training.plots.contact_sheet import Strip, Tile

LEAST = 10  # images in a split: of 9 that are all right, the recall may still be 66%
SHOWN, IN_A_STRIP = 12, 6


def small_classes(images: Images) -> Finding:
    """Classes that have fewer than 10 images in some split, the smallest first."""
    splits, rows = images.splits, list[Row]()
    for split in dict.fromkeys(splits):
        counts = images.counts(splits == split)
        few = np.flatnonzero(counts < LEAST).tolist()
        rows += [{"label": images.class_names[name], "split": split, "images": int(counts[name])} for name in few]
    rows.sort(key=lambda row: (row["images"], row["label"]))
    names = list(dict.fromkeys(row["label"] for row in rows))
    strips = []
    for name in names[:SHOWN]:
        own = [number for number, example in enumerate(images.examples) if name in example.labels][:IN_A_STRIP]
        strips.append(Strip([Tile(number, images.examples[number].key) for number in own], name))
    share = len(names) / len(images.class_names)
    words = f"{len(names):,} of {len(images.class_names):,} classes have fewer than {LEAST} images in a split"
    words += f", such as {rows[0]['label']} with {rows[0]['images']} in {rows[0]['split']}" if rows else ""
    return Finding("small_classes", len(names), share, words, rows, strips)
