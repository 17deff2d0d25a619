"""headstart finetune: augmentation and fine-tuning. A run and its images in, or stored feature maps; a better run out.

1. where it begins: a run's backbone and head, or a store's backbone and a head trained first   _from_images, _from_store
2. cut: the frozen part below, run by the engine or stored; what is trained above               training/unfreeze.py
3. learn: watched, checked, a checkpoint an epoch                                               training/learn.py
4. save: the same kind of run as `headstart train` leaves
"""

from __future__ import annotations

import dataclasses
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from features import command, files
from features.errors import UserError
from features.spec import FeatureSpec, Tap
from features.table import TABLE
from training.finetune_config import HEAD_RATE, UNFROZEN_RATE, FinetuneConfig

if TYPE_CHECKING:
    import keras

    from features.table import DatasetTable
    from training.learn import Batches, Learned, Recipe
    from training.run_folder import Run
    from training.unfreeze import Network

STEPS_AT_ONCE = 16  # of small maps from a store, between two looks of Python's
GRID_ROWS, GRID_COLUMNS = 6, 8
CHECKED_IMAGES = 64
NO_VALIDATION = "warning: there is no validation split: no early stopping, the best epoch is told by the training loss"


@dataclass(frozen=True)
class Beginning:
    """A network to train, what on, and what it all is."""

    network: Network
    batches: Batches
    spec: FeatureSpec
    class_names: list[str]
    table: DatasetTable
    facts: dict[str, Any]  # for the run's config.json
    identity: dict[str, Any]  # what decides the outcome beside the configuration
    check: Callable[[Run], dict[str, Any]]  # the saved model against the network that was trained
    picture: Callable[[str], None]  # leaves a picture of what the network sees in a folder
    steps_at_once: int = 1


def finetune(config: FinetuneConfig) -> Run:
    """Trains the head on augmented images, or layers of the backbone with it, and keeps the best epoch.

    Killed at any moment and called again, it goes on from its last epoch and ends with the same figures to rounding.

    Args:
        config: what `headstart finetune` takes.

    Returns:
        The complete run; its model is the better one of what it began with and what training made of it.

    Raises:
        UserError: for a layer that does not exist, other images or classes than the run's, a store without the tap, a
            precision that the device lacks, or a loss or gradient that is not finite (naming the step).
    """
    import keras

    from features.engine_options import has_gpu
    from training import run_folder
    from training.checkpoint import is_of
    from training.devices import spread_over
    from training.learn import learn
    from training.model import resolve_precision
    from training.unfreeze import describe

    has_gpu()  # memory grows with need
    started = time.monotonic()
    run_folder.check_free(config.run)
    precision = resolve_precision(config.precision)
    keras.utils.set_random_seed(config.seed)
    with spread_over(config.devices):
        begin = (_from_store if config.from_store else _from_images)(config, precision)
        for line in describe(begin.network):
            print(line, file=sys.stderr, flush=True)
        identity, recipe = _identity(config, begin), _recipe(config, begin, precision)
        work = run_folder.begin(config.run, keep=lambda path: is_of(path, identity))
        begin.picture(work)
        learned = learn(begin.network, begin.batches, recipe, work, identity)
    _finish(config, work, begin, learned, started)
    run_folder.publish(config.run)
    return run_folder.Run.open(config.run, config.unsafe)


def _finish(config: FinetuneConfig, work: str, begin: Beginning, learned: Learned, started: float) -> None:
    """Everything into the work folder, the metrics last."""
    from training import run_folder
    from training.model import attach_head
    from training.save_run import save_dataset, save_history, save_model

    network = begin.network
    spec = _spec_after(begin.spec, network)
    described = {
        "finetune": dataclasses.asdict(config),
        "spec": spec.to_json(),
        "fingerprint": spec.fingerprint,
        "tap": dataclasses.asdict(network.tap),
        "class_names": begin.class_names,
        "unfrozen": network.unfrozen,
        **begin.facts,
    }
    files.write_json(os.path.join(work, run_folder.CONFIG), described)
    run = run_folder.Run(work, described, config.unsafe)
    used = "validation" if learned.monitor.startswith("val_") else "train"
    if learned.history:
        save_history(run, learned.history, learned.best_epoch)
    network.backbone.trainable = False
    save_model(run, attach_head(begin.spec, network.backbone, network.head))
    save_dataset(run, begin.table, ("train", used))
    metrics = {
        "best_epoch": learned.best_epoch,
        "epochs": len(next(iter(learned.history.values()), ())),
        "monitor": learned.monitor,
        "used_for_selection": used,
        **learned.figures,
        "before": learned.baseline,
        "interrupted": learned.interrupted,
        "first_step": learned.report,
        "agreement": begin.check(run),
        "seconds": round(time.monotonic() - started, 2),
    }
    if not learned.interrupted and os.path.exists(os.path.join(work, run_folder.CHECKPOINT)):
        os.remove(os.path.join(work, run_folder.CHECKPOINT))
    files.write_json(os.path.join(work, run_folder.METRICS), metrics)


def _spec_after(spec: FeatureSpec, network: Network) -> FeatureSpec:
    """What the model's features are now: a backbone with other weights makes other features."""
    from features.backbone import weights_digest

    if not network.unfrozen:
        return spec
    return dataclasses.replace(spec.plain, weights_digest=weights_digest(network.base), taps=(network.tap,))


def _recipe(config: FinetuneConfig, begin: Beginning, precision: str) -> Recipe:
    from training.learn import Recipe

    unfrozen = bool(begin.network.unfrozen)
    has_validation = "validation" in begin.table.splits
    monitor = config.monitor if has_validation else config.monitor.removeprefix("val_")
    if not has_validation:
        if config.monitor == "val_accuracy":
            raise UserError(f"--monitor {config.monitor} needs a validation split; there is none")
        print(NO_VALIDATION, file=sys.stderr)
    return Recipe(
        epochs=config.epochs,
        patience=config.patience if has_validation else config.epochs + 1,
        monitor=monitor,
        learning_rate=config.learning_rate if config.learning_rate is not None else UNFROZEN_RATE if unfrozen else HEAD_RATE,
        warm_up=config.warm_up if unfrozen else 0.0,
        rates=begin.network.rates(config.layer_decay, begin.spec.image_size),
        precision=precision,
        steps_at_once=begin.steps_at_once if config.devices == 1 else 1,  # Keras can't do several over devices
        class_weight=_class_weight(config, begin),
    )


def _class_weight(config: FinetuneConfig, begin: Beginning) -> dict[int, float] | None:
    from training.batches import balanced

    if config.class_weight == "none":
        return None
    counts = Counter(example.labels[0] for example in begin.table.examples("train"))
    return balanced([counts[name] for name in begin.class_names])


def _identity(config: FinetuneConfig, begin: Beginning) -> dict[str, Any]:
    """What a checkpoint must have been made with to be taken up; where the run lies does not matter."""
    decides = {name: value for name, value in dataclasses.asdict(config).items() if name not in ("run", "unsafe")}
    return {**decides, **begin.identity}


def _from_images(config: FinetuneConfig, precision: str) -> Beginning:
    """A run, and the images that its features came from."""
    from features.sources import SourceOptions
    from training.agreement import check_images
    from training.grid import save_grid
    from training.image_batches import SplitImages
    from training.run_folder import GRID, MODEL, Run
    from training.same_images import find_images
    from training.unfreeze import cut

    run = Run.open(config.init_from, config.unsafe)
    options = SourceOptions(
        layout=config.layout,
        image_column=config.image_column,
        label_column=config.label_column,
        split_column=config.split_column,
    )
    table = run.table
    if not os.path.isfile(os.path.join(config.init_from, TABLE)):
        raise UserError(f"{config.init_from!r} keeps no table of its images, as older versions left it: train it again")
    splits = [split for split in ("train", "validation") if split in table.splits]
    found = find_images(table, run.class_names, config.input or "", options, splits)
    model = run.model()
    network = cut(model.get_layer("backbone"), model.get_layer("head"), run.tap, config.unfreezing, run.spec.image_size)
    batches = SplitImages(network, run.spec, found, config, run.config["max_pixels"], precision)

    def picture(folder: str) -> None:
        if config.augmentation.policy != "none":
            rows = range(min(GRID_ROWS, len(found["train"].files)))
            save_grid(batches.train.looks(config.augmentation, rows, GRID_COLUMNS), os.path.join(folder, GRID))

    def check(after: Run) -> dict[str, Any]:
        return check_images(after, network, run.spec, found["train"].files[:CHECKED_IMAGES], run.config["max_pixels"])

    facts = {name: run.config[name] for name in ("dataset_digest", "groups_declared", "max_pixels", "splits")}
    if network.unfrozen or not run.config.get("store"):
        facts["input"] = os.path.abspath(config.input or "")
    else:
        facts["store"] = run.config["store"]
    identity = {"model": files.sha256_file(os.path.join(config.init_from, MODEL))}
    return Beginning(network, batches, run.spec, run.class_names, table, facts, identity, check, picture)


def _from_store(config: FinetuneConfig, precision: str) -> Beginning:
    """Stored maps of a layer, all of whose successors are trained."""
    from features.store import FeatureStore
    from features.taps import tapped
    from training.agreement import check_agreement
    from training.batches import SplitMaps
    from training.unfreeze import cut
    from training.warm_up import warm_head

    store = FeatureStore.open(config.from_store, unsafe=config.unsafe)
    boundary = _stored_boundary(store, config.unfreeze_after)
    head, tap = _head_of_run(config, store) if config.init_from else (None, Tap(""))
    backbone, (tap,) = tapped(store.base(), [tap], store.spec.preprocessing, store.spec.image_size)
    if head is None:
        head = warm_head(config, store, backbone, boundary, tap)
    network = cut(backbone, head, tap, config.unfreezing, store.spec.image_size, boundary.layer)
    batches = SplitMaps(store, boundary, config)

    def check(after: Run) -> dict[str, Any]:
        return check_agreement(after, store, boundary, network.trained, network.frozen_model(store.spec))

    facts = {
        "input": store.manifest["provenance"]["input"],
        "from_store": os.path.abspath(config.from_store),
        "splits": store.splits,
        "dataset_digest": store.manifest["dataset_digest"],
        "groups_declared": store.manifest["groups_declared"],
        "max_pixels": store.manifest["max_pixels"],
    }
    identity = {"store": store.spec.fingerprint, "dataset": store.manifest["dataset_digest"]}
    return Beginning(
        network,
        batches,
        store.spec,
        store.class_names,
        store.dataset_table,
        facts,
        identity,
        check,
        lambda folder: None,
        STEPS_AT_ONCE,
    )


def _stored_boundary(store: Any, layer: str) -> Tap:
    """The store's unpooled tap of a layer."""
    stored = [tap for tap in store.spec.taps if tap.pool == "none"]
    for tap in stored:
        if tap.layer == layer:
            return tap
    held = ", ".join(tap.name for tap in store.spec.taps)
    raise UserError(
        f"{store.path!r} has no unpooled tap {layer}:none, only {held}: extract with --tap {layer}:none, or name another"
    )


def _head_of_run(config: FinetuneConfig, store: Any) -> tuple[keras.Model, Tap]:
    """The head of a run that was trained on the same network and dataset."""
    from training.run_folder import Run

    run = Run.open(config.init_from, config.unsafe)
    same = ("taps", "store_dtype", "compute_dtype", "views", "augmentation")  # what need not be
    mine = dataclasses.replace(run.spec, **{name: getattr(store.spec, name) for name in same})
    if mine != store.spec:
        raise UserError(
            f"{config.init_from!r} has another backbone than {config.from_store!r} ({'; '.join(mine.differences(store.spec))})"
        )
    if run.class_names != store.class_names or run.config["dataset_digest"] != store.manifest["dataset_digest"]:
        raise UserError(
            f"{config.init_from!r} was trained on another dataset than {config.from_store!r} holds (classes "
            f"{', '.join(run.class_names)} and {', '.join(store.class_names)})"
        )
    return run.model().get_layer("head"), Tap(run.tap.layer, run.tap.pool)


def describe(run: Run) -> str:
    """What a fine-tuning came to, in two or three lines."""
    from training import run_folder

    metrics = files.read_json(os.path.join(run.path, run_folder.METRICS))
    name = "val_accuracy" if "val_accuracy" in metrics else "accuracy"
    kind = "validation accuracy, used for selection" if name == "val_accuracy" else "training accuracy"
    before = metrics["before"].get(name)
    began = f", {before:.4f} before" if before is not None else ""
    lines = [
        f"trained {metrics['epochs']} epochs in {metrics['seconds']:.1f} s; the best, {metrics['best_epoch']}: "
        f"{metrics[name]:.4f}{began} ({kind})"
    ]
    if metrics["best_epoch"] == 0:
        lines.append(f"no epoch was better by {metrics['monitor']} than what it began with: that is kept")
    agreement = metrics["agreement"]
    lines.append(
        f"{os.path.join(run.path, run_folder.MODEL)}: agrees with what was trained on {agreement['images']} images to "
        f"{agreement['largest_difference']:.1g}"
    )
    if metrics["interrupted"]:
        lines.append("interrupted: this is the best so far; the same command goes on")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    prog = "headstart finetune"

    def body() -> int:
        config, _, verbose = command.parse(FinetuneConfig, prog, sys.argv[1:] if argv is None else argv)
        command.load_quietly(verbose)
        run = finetune(config)
        print(describe(run))
        return 130 if files.read_json(os.path.join(run.path, "metrics.json"))["interrupted"] else 0

    return command.run(prog, body)


if __name__ == "__main__":
    sys.exit(main())
