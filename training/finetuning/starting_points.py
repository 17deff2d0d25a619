"""Where a fine-tuning begins: a run and its images, or a store; out come a network, cut for training, and its batches."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headstart.features import files
from headstart.features.backbones.feature_extractor import build_feature_extractor
from headstart.features.dataset.dataset_table import TABLE, DatasetTable
from headstart.features.dataset.inputs import absolute_input
from headstart.features.dataset.sources import SourceOptions
from headstart.features.errors import UserError
from headstart.features.places import mirror, place
from headstart.features.spec import FeatureSpec, Tap
from headstart.features.store.feature_store import FeatureStore
from headstart.training.finetuning.augmentation_grid import save_grid
from headstart.training.finetuning.finetune_config import FinetuneConfig
from headstart.training.finetuning.head_pretraining import pretrain_head
from headstart.training.finetuning.image_batches import ImageSource
from headstart.training.finetuning.same_images import find_images
from headstart.training.finetuning.unfreeze import SplitNetwork, split_network
from headstart.training.fitting.calibrate import scale_logits
from headstart.training.fitting.sources import StoreSource
from headstart.training.runs.agreement import check_agreement, check_images
from headstart.training.runs.run_folder import GRID, MODEL, Run
from headstart.training.tasks.checks import delimiter_for

if TYPE_CHECKING:
    import keras

    from headstart.training.fitting.pipeline import Source

MAX_STEPS_AT_ONCE = 16  # of small maps from a store, between two looks of Python's
GRID_ROWS, GRID_COLUMNS = 6, 7
CHECKED_IMAGES = 64


@dataclass(frozen=True)
class StartingPoint:
    """A network to train, what on, and what it all is."""

    network: SplitNetwork
    source: Source
    spec: FeatureSpec
    class_names: list[str]
    table: DatasetTable
    facts: dict[str, Any]  # for the run's config.json
    identity: dict[str, Any]  # what decides the outcome beside the configuration
    chose: str  # the split that chose what it begins with
    check: Callable[[Run], dict[str, Any]]  # the saved model against the network that was trained
    picture: Callable[[str], None]  # leaves a picture of what the network sees in a folder
    max_steps_at_once: int = 1

    @property
    def label_delimiter(self) -> str:
        """What parts an image's labels in a cell of a table; '' where each image has one label."""
        return str(self.facts.get("label_delimiter", ""))


def _opened(config: FinetuneConfig) -> Run:
    """The run to begin with.

    Raises:
        UserError: when there is none, or when it was trained on the split that is to say when to stop.
    """
    run = Run.open(config.init_from, config.unsafe)
    if "validation" in run.metrics.get("refit", {}).get("splits", ()):
        raise UserError(
            "bad-value",
            f"{config.init_from!r} was trained on its validation split too (--refit), so nothing could say when to stop: "
            f"train a head without --refit to begin with",
        )
    return run


def source_of(config: FinetuneConfig) -> tuple[str, str]:
    """The images or the store that a fine-tuning reads, and its dataset's digest, before either is read."""
    if config.from_store:
        return place.absolute(config.from_store), FeatureStore.open(config.from_store).manifest.dataset_digest
    return absolute_input(config.input or ""), Run.open(config.init_from, config.unsafe).config["dataset_digest"]


def from_images(config: FinetuneConfig, precision: str) -> StartingPoint:
    """A run, and the images that its features came from."""
    run = _opened(config)
    options = SourceOptions(
        layout=config.layout,
        image_column=config.image_column,
        label_column=config.label_column,
        split_column=config.split_column,
        image_field=config.image_field,
        label_field=config.label_field,
        label_names=config.label_names,
        data_dir=config.data_dir,
        label_delimiter=delimiter_for(run.label_delimiter, config.label_delimiter),
    )
    table = run.table
    if not os.path.isfile(os.path.join(run.path, TABLE)):
        raise UserError(
            "changed-images", f"{config.init_from!r} keeps no table of its images, as older versions left it: train it again"
        )
    splits = [split for split in ("train", "validation") if split in table.splits]
    found = find_images(table, run.class_names, config.input or "", options, splits)
    model = run.model()
    scale_logits(model.get_layer("head"), run.temperature)
    network = split_network(
        model.get_layer("backbone"), model.get_layer("head"), run.tap, config.unfreezing, run.spec.image_size
    )
    source = ImageSource(network, run.spec, found, config, run.config["max_pixels"], precision)

    def picture(folder: str) -> None:
        if config.augmentation.policy != "none":
            rows = range(min(GRID_ROWS, len(found["train"].files)))
            save_grid(source.train.preview(config.augmentation, rows, GRID_COLUMNS), os.path.join(folder, GRID))

    def check(after: Run) -> dict[str, Any]:
        below = (network.boundary, network.frozen_model(run.spec)) if network.boundary else None
        some = found["train"].files[:CHECKED_IMAGES]
        return check_images(after, network.trained, below, run.spec, some, run.config["max_pixels"])

    facts = {name: run.config[name] for name in ("dataset_digest", "groups_declared", "max_pixels", "splits")}
    facts |= {"head": run.head, **_several(run.label_delimiter)}
    if network.unfrozen or not run.config.get("store"):
        facts["input"] = absolute_input(config.input or "")
    else:
        facts["store"] = run.config["store"]
    identity = {"model": files.sha256_file(os.path.join(run.path, MODEL))}
    chose = run.metrics["used_for_selection"]
    return StartingPoint(network, source, run.spec, run.class_names, table, facts, identity, chose, check, picture)


def from_store(config: FinetuneConfig, precision: str) -> StartingPoint:
    """Stored maps of a layer, all of whose successors are trained."""
    store = FeatureStore.open(config.from_store, unsafe=config.unsafe)
    boundary = _stored_boundary(store, config.unfreeze_after)
    by = "validation" if "validation" in store.splits else "train"  # what `pretrain_head` stops by
    head, tap, chose = _head_of_run(config, store) if config.init_from else (None, Tap(""), by)
    backbone, (tap,) = build_feature_extractor(store.base(), [tap], store.spec.preprocessing, store.spec.image_size)
    if head is None:
        head = pretrain_head(config, precision, store, backbone, boundary, tap)
    network = split_network(backbone, head, tap, config.unfreezing, store.spec.image_size, boundary.layer)
    source = StoreSource(store, boundary, config.batch_size, config.batch_size, config.seed)

    def check(after: Run) -> dict[str, Any]:
        return check_agreement(after, store, boundary, network.trained, network.frozen_model(store.spec))

    facts = {
        "head": Run.open(config.init_from).head if config.init_from else config.head,
        "input": store.manifest.provenance.input,
        "from_store": place.absolute(config.from_store),
        "splits": store.splits,
        "dataset_digest": store.manifest.dataset_digest,
        "groups_declared": store.manifest.groups_declared,
        "max_pixels": store.manifest.max_pixels,
        **_several(store.label_delimiter),
    }
    identity = {"store": store.spec.fingerprint, "dataset": store.manifest.dataset_digest}
    if config.init_from:
        identity["model"] = files.sha256_file(os.path.join(mirror.here(config.init_from), MODEL))
    return StartingPoint(
        network,
        source,
        store.spec,
        store.class_names,
        store.dataset_table,
        facts,
        identity,
        chose,
        check,
        lambda folder: None,
        MAX_STEPS_AT_ONCE,
    )


def _several(label_delimiter: str) -> dict[str, str]:
    """For the run's config.json: the delimiter, where there is one."""
    return {"label_delimiter": label_delimiter} if label_delimiter else {}


def _stored_boundary(store: Any, layer: str) -> Tap:
    """The store's unpooled tap of a layer."""
    stored = [tap for tap in store.spec.taps if tap.pool == "none"]
    for tap in stored:
        if tap.layer == layer:
            return tap
    held = ", ".join(tap.name for tap in store.spec.taps)
    raise UserError(
        "unknown-name",
        f"{store.path!r} has no unpooled tap {layer}:none, only {held}: extract with --tap {layer}:none, or name another",
    )


def _head_of_run(config: FinetuneConfig, store: Any) -> tuple[keras.Model, Tap, str]:
    """The head of a run that was trained on the same network and dataset, its tap, and the split that chose it."""
    run = _opened(config)
    same = ("taps", "store_dtype", "compute_dtype", "quantized", "views", "augmentation")  # what need not be
    mine = dataclasses.replace(run.spec, **{name: getattr(store.spec, name) for name in same})
    if mine != store.spec:
        raise UserError(
            "other-features",
            f"{config.init_from!r} has another backbone than {config.from_store!r} "
            f"({'; '.join(mine.differences(store.spec))})",
        )
    if run.class_names != store.class_names or run.config["dataset_digest"] != store.manifest.dataset_digest:
        raise UserError(
            "other-dataset",
            f"{config.init_from!r} was trained on another dataset than {config.from_store!r} holds (classes "
            f"{', '.join(run.class_names)} and {', '.join(store.class_names)})",
        )
    head = run.model().get_layer("head")
    scale_logits(head, run.temperature)
    return head, Tap(run.tap.layer, run.tap.pool), run.metrics["used_for_selection"]
