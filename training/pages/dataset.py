"""What was run on what: a spec as facts, and images by class and split as a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from markupsafe import Markup

from headstart.features.dataset.dataset_table import DatasetTable, split_counts
from headstart.features.dataset.splits import in_line
from headstart.features.spec import FeatureSpec
from headstart.training.pages.elements import html, table

MOST_CLASSES = 100  # rows


def network_facts(spec: FeatureSpec) -> dict[str, object]:
    """Which network, and how it sees images."""
    size = " x ".join(map(str, spec.image_size))
    return {
        "Network": html("{} <small>weights {}</small>", spec.backbone, spec.weights_digest[:12]),
        "Images": f"{size} pixels, {spec.resize_mode}, {spec.interpolation}, decoded {spec.decode}",
        "Features": html(
            "{}, stored as {} <small>spec {}</small>", spec.compute_dtype, spec.store_dtype, spec.fingerprint[:12]
        ),
    }


def counts(dataset: DatasetTable, class_names: Sequence[str]) -> Markup:
    """Images by class and split; an image of several classes is in the row of each, and once in the last."""
    splits, found = in_line(dataset.splits), split_counts(dataset.stored, class_names)
    total = Counter({split: len(dataset.examples(split)) for split in splits})
    rows = [(name, *(f"{each[split]:,}" for split in splits), f"{each.total():,}") for name, each in found.items()]
    last = ("all images", *(f"{total[split]:,}" for split in splits), f"{total.total():,}")
    caption = "Images by class and split" + (f", the first {MOST_CLASSES} classes" if len(rows) > MOST_CLASSES else "")
    return table(caption, ("class", *splits, "all"), [*rows[:MOST_CLASSES], last])
