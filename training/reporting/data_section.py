"""Section: what was run on what: network, tap, images by class and split, and what could not be read."""

from __future__ import annotations

from markupsafe import Markup

from headstart.features.spec import FeatureSpec
from headstart.training.pages.dataset import counts, network_facts
from headstart.training.pages.elements import facts, html, note, section, table
from headstart.training.predicting.predictions import Predictions
from headstart.training.runs.run_folder import Run

MOST_LETTERS = 20  # rows


def data_section(run: Run, evaluated: Predictions | None = None) -> Markup:
    """The spec, a table of counts, and the dead letters, those of an evaluation too."""
    parts = [facts(_facts(run)), counts(run.table, run.class_names)]
    letters = [(each.key, each.label, each.split, each.stage, each.reason) for each in run.table.dead_letters]
    unread = evaluated.metrics["unreadable"] if evaluated else []
    name = evaluated.name if evaluated else ""
    failed = [*letters, *((each["key"], "", name, each["stage"], each["reason"]) for each in unread)]
    if failed:
        shown = f"Could not be read: {len(failed):,}" + (f", the first {MOST_LETTERS}" if len(failed) > MOST_LETTERS else "")
        parts.append(table(shown, ("image", "class", "split", "stage", "reason"), failed[:MOST_LETTERS], numbers=False))
    else:
        parts.append(note("Every image could be read: there is no dead letter."))
    return section("data", "What was run on what", parts)


def _facts(run: Run) -> dict[str, object]:
    spec, tap = run.spec, run.tap
    shape = " x ".join(map(str, tap.shape))
    network = network_facts(spec)
    return {
        "Network": network.pop("Network"),
        "Tap": html("{} <small>{}, {:.0%} of the depth</small>", tap.name, shape, tap.depth),
        **network,
        "Trained": _trained(run),
        "Data": run.data_source,
        "Augmentation": _augmentation(run, spec),
    }


def _trained(run: Run) -> str:
    if "finetune" not in run.config:
        return f"head: {run.title}"
    layers = run.config.get("unfrozen", ())
    what = f"{len(layers)} layers of the network and the head" if layers else "the head alone, the network frozen"
    return f"fine-tuned: {what}"


def _augmentation(run: Run, spec: FeatureSpec) -> str:
    tuned = run.config.get("finetune", {}).get("augment")
    if tuned and tuned != "none":
        return f"{tuned}, of every image anew in each epoch"
    return f"{spec.augmentation.policy}, {spec.views} stored views of each training image" if spec.views > 1 else "none"
