"""A divided dataset in, lines for people out: its classes and splits, and what may make its scores untrue."""

from __future__ import annotations

from headstart.features.dataset.dataset_table import CONFLICTS, count_lines, label_lines, split_counts, thin_lines
from headstart.features.dataset.examples import Example, Examples, conflicts, copies_across_splits, groups_across_splits
from headstart.features.dataset.sources import Source
from headstart.features.dataset.splits import Division, doubtful_names


def dataset_notes(source: Source, examples: Examples, division: Division) -> tuple[str, ...]:
    """What people should know of the dataset, a line each."""
    counts = split_counts(examples, source.class_names)
    of_labels = label_lines(examples) if source.label_delimiter else []
    splits = list(division.splits or examples.splits.counts())
    notes = [*source.notes, *of_labels, *count_lines(counts, splits), *thin_lines(counts, splits, division.min_per_split)]
    notes += doubtful_names(splits, source.class_names)
    if across := copies_across_splits(examples):
        notes.append(f"warning: {len(across)} identical files are in more than one split; scores will flatter")
    if overlapping := groups_across_splits(examples):
        notes.append(f"warning: {len(overlapping)} groups are in more than one split, as --allow_group_overlap lets them be")
    _, groups = examples.groups.codes()
    if len(groups) == len(examples) > 1 and "" not in groups:
        notes.append(
            f"warning: each of the {len(groups):,} images has a group of its own, so that groups keep nothing together"
        )
    if conflicting := conflicts(examples):
        first = conflicting[0]
        second = next(other for other in conflicting if other.labels != first.labels)
        notes.append(
            f"warning: {len({example.digest for example in conflicting})} identical files carry different labels, such as "
            f"{first.key} ({_named(first)}) and {second.key} ({_named(second)}): all are in {CONFLICTS}"
        )
    return tuple(notes)


def _named(example: Example) -> str:
    return ", ".join(example.labels) or "no label"
