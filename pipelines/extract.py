"""headstart extract: a folder or table of images in, a feature store out.

Survey, divide, plan, run one Beam pipeline whose work unit is one shard, finish. Any runner of Beam's takes the pipeline;
without `--runner` it runs in this process.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import fcntl
import os
import re
import shutil
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from features import command
from features.command import flag, positional, required
from features.errors import UserError
from features.progress import Progress
from features.sources import LAYOUTS
from features.spec import INTERPOLATIONS, RESIZE_MODES, STORE_DTYPES

if TYPE_CHECKING:
    from features.spec import FeatureSpec
    from features.store import FeatureStore
    from pipelines.extract_shard import DeadLetter, ShardJob
    from pipelines.plan import WorkUnit

IN_PROCESS_RUNNERS = ("FnApiRunner", "DirectRunner", "BundleBasedDirectRunner")
LOCK = ".lock"
POLL_S = 0.5
CALIBRATION_BATCHES = 4  # for each stream


@dataclass(frozen=True, kw_only=True)
class ExtractConfig:
    """Reads every image once, runs the frozen backbone over it, and stores its features."""

    input: str = positional("a folder (CLASS/..., or train/CLASS/... and so on) or a CSV table", metavar="INPUT")
    store: str = required("the folder of the feature store", metavar="STORE")
    backbone: str = flag("EfficientNetLite0", "EfficientNetLite0 or any network of keras.applications")
    weights: str = flag("imagenet", "imagenet, a .keras, .weights.h5 or .h5 file, or random:SEED")
    image_size: str = flag("", "pixels a side, or H,W (default: the backbone's own)", metavar="N|H,W")
    resize_mode: str = flag("squash", "what becomes of the aspect ratio", choices=RESIZE_MODES)
    interpolation: str = flag("bilinear", "how pixels are resampled, with antialiasing", choices=INTERPOLATIONS)
    taps: tuple[str, ...] = flag(
        (), "where the backbone is read; POOL is none, avg, max or gridK; may be repeated (default: its last map, avg)",
        flag="--tap", metavar="LAYER[:POOL]")  # fmt: skip
    store_dtype: str = flag("float16", "the numbers' type on disk", choices=STORE_DTYPES)
    examples_per_shard: int = flag(1024, "examples a shard, at most")
    batch_size: int = flag(0, "images a batch of the backbone (default: 4 on a CPU, 64 on a GPU)")
    splits: str = flag("train=0.8,validation=0.1,test=0.1", "how each class is divided when the input has no splits")
    split_seed: int = flag(0, "another seed is another division")
    group_by: str = flag("", "takes an image's group from its key; groups are never torn apart", metavar="REGEX")
    allow_group_overlap: bool = flag(False, "let a group stand on two sides of ready-made splits")
    layout: str = flag("auto", "whether top folders are splits or classes", choices=LAYOUTS)
    image_column: str = flag("path", "a table's column of image paths, relative to the table")
    label_column: str = flag("label", "a table's column of class names")
    split_column: str = flag("split", "a table's column of splits")
    group_column: str = flag("group", "a table's column of groups")
    max_bad_fraction: float = flag(0.01, "stop when more of the images can't be read")
    max_pixels: int = flag(178_956_970, "an image of more pixels is refused before it is decoded")
    dry_run: bool = flag(False, "print the plan and an estimate of time, and do nothing")
    pipeline_options: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        from features.examples import parse_splits

        parse_splits(self.splits)
        for name, least in (("examples_per_shard", 1), ("batch_size", 0), ("max_pixels", 1)):
            if getattr(self, name) < least:
                raise UserError(f"--{name} must be at least {least}, not {getattr(self, name)}")
        if not 0 <= self.max_bad_fraction <= 1:
            raise UserError(f"--max_bad_fraction lies between 0 and 1, not at {self.max_bad_fraction}")
        if "://" in self.store:
            raise UserError(f"--store is a local or mounted folder, not {self.store!r}")


def parse_image_size(text: str, default: int) -> tuple[int, int]:
    """'N' or 'H,W' to (height, width) in pixels."""
    if not text:
        return default, default
    if not re.fullmatch(r"[1-9]\d*([,x][1-9]\d*)?", text):
        raise UserError(f"--image_size is N or H,W in pixels, not {text!r}")
    sides = [int(side) for side in re.split("[,x]", text)]
    return sides[0], sides[-1]


@dataclass(frozen=True)
class _Plan:
    """All that is known before the backbone runs."""

    spec: FeatureSpec
    class_names: tuple[str, ...]
    examples: tuple[Any, ...]  # features.examples.Example
    units: tuple[WorkUnit, ...]
    unread: tuple[DeadLetter, ...]
    dataset: dict[str, Any]
    problems: dict[str, str]  # key -> why it will be a dead letter
    notes: tuple[str, ...]

    @property
    def planned(self) -> int:
        return len(self.examples) + len(self.unread)

    @property
    def to_compute(self) -> int:
        return sum(example.stored_at is None for unit in self.units for example in unit.examples)


def extract(config: ExtractConfig) -> FeatureStore:
    """Makes or updates a feature store. Killed anywhere and called again, it goes on and ends with the same store.

    Args:
        config: what `headstart extract` takes.

    Returns:
        The complete store.

    Raises:
        UserError: for anything wrong with the input, the store's folder or the configuration.
    """
    from features.store import FeatureStore
    from pipelines.finish import finish, publish, save_backbone, versions

    with _claimed(config.store) as work:
        publish(config.store)  # 1. what an earlier run finished and did not put in place
        os.makedirs(work, exist_ok=True)
        plan = _make_plan(config, work)  # 2. survey, divide, plan
        for note in plan.notes:
            _say(note)
        if _is_done(config.store, plan):
            shutil.rmtree(work)
            _say(f"{config.store} already holds this: nothing to do")
            return FeatureStore.open(config.store)
        job = _job(config, plan, work)
        _forget_stale(work, plan)
        started = time.monotonic()
        _run_units(config, plan, job)  # 3. one Beam pipeline, one unit a shard
        provenance = {"input": os.path.abspath(config.input), "weights": config.weights, "versions": versions(),
                      "engine": {"name": "tensorflow", "batch_size": job.batch_size, "streams": job.streams}}  # fmt: skip
        save_backbone(config.store, plan.spec, config.weights)
        manifest = finish(work, plan.spec, plan.examples, plan.class_names, plan.units, plan.unread, plan.dataset, provenance)
        publish(config.store)  # 4. the manifest comes last
        for line in _closing(config, plan, manifest, time.monotonic() - started):
            _say(line)
    return FeatureStore.open(config.store)


def dry_run(config: ExtractConfig) -> list[str]:
    """The plan as lines for people: images, classes, splits, shards, bytes out, time. Leaves no trace."""
    with _claimed(config.store) as work:
        plan = _make_plan(config, work)
        return [*plan.notes, *_describe(plan), _estimate(plan, _job(config, plan, work))]


@contextlib.contextmanager
def _claimed(store: str) -> Iterator[str]:
    """The store's work folder, locked for this process.

    Raises:
        UserError: when the folder holds something else, or another extraction is writing to it.
    """
    from features.store import MANIFEST, WORK_FOLDER

    if os.path.exists(store) and not os.path.isdir(store):
        raise UserError(f"--store {store!r} is a file: give the name of a folder")
    work = os.path.join(store, WORK_FOLDER)
    if os.path.isdir(store) and os.listdir(store):
        if not os.path.exists(work) and not os.path.exists(os.path.join(store, MANIFEST)):
            raise UserError(f"--store {store!r} holds something else than a feature store: give a new or empty folder")
    os.makedirs(work, exist_ok=True)
    lock_path = os.path.join(store, LOCK)
    with open(lock_path, "w", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"another extraction is writing to {store!r}: wait for it, or give another --store") from None
        try:
            yield work
        finally:
            _leave_no_trace(store, work)


def _leave_no_trace(store: str, work: str) -> None:
    """Removes what holds nothing: a refused or a dry run leaves the disk as it was."""
    from pipelines.finish import DIGESTS

    with contextlib.suppress(OSError):
        os.rmdir(work)
    if set(os.listdir(store)) <= {LOCK, DIGESTS}:
        shutil.rmtree(store)


def _make_plan(config: ExtractConfig, work: str) -> _Plan:
    from features.sources import SourceOptions, read_source
    from features.store import MANIFEST, FeatureStore
    from pipelines.finish import DIGESTS
    from pipelines.plan import plan_units, stored_features
    from pipelines.survey import survey

    options = {field.name: getattr(config, field.name) for field in dataclasses.fields(SourceOptions)}
    source = read_source(config.input, SourceOptions(**options))
    old = FeatureStore.open(config.store) if os.path.exists(os.path.join(config.store, MANIFEST)) else None
    spec = _spec(config)
    if old:
        FeatureStore.open(config.store, spec)  # refuses another spec, naming both values
    paths = {image.key: os.path.abspath(image.path) for image in source.images}
    rows = survey(list(paths.values()), work, os.path.join(config.store, DIGESTS), lambda: _pipeline(config))
    surveyed = {key: rows[path] for key, path in paths.items()}
    if old and not {example.digest for example in old.table} & {row.digest for row in surveyed.values()}:
        raise UserError(f"--store {config.store!r} holds another dataset, with no image in common (from "
                        f"{old.manifest['provenance']['input']}): give another --store, or delete it")  # fmt: skip
    examples, dataset = _divided(config, source, surveyed, old)
    stored = stored_features(old) if old else {}
    units = plan_units(examples, source.class_names, paths, stored, spec.fingerprint, config.examples_per_shard)
    problems = {key: row.problem for key, row in surveyed.items() if row.problem}
    unread = _unread(source, surveyed)
    return _Plan(spec, source.class_names, tuple(examples), tuple(units), unread, dataset, problems, _notes(source, examples, config))


def _spec(config: ExtractConfig) -> FeatureSpec:
    from features import backbone
    from features.engine import shared_base
    from features.spec import FeatureSpec, Tap

    info = backbone.backbone_info(config.backbone)
    size = parse_image_size(config.image_size, info.size)
    base, digest = shared_base(config.backbone, config.weights, size)
    taps = [Tap.parse(text) for text in config.taps] or [Tap("")]
    _, taps_found = backbone.tapped(config.backbone, base, taps)
    return FeatureSpec(config.backbone, digest, size, taps_found, info.preprocessing, config.resize_mode, config.interpolation,
                       store_dtype=config.store_dtype)  # fmt: skip


def _divided(config: ExtractConfig, source: Any, surveyed: dict[str, Any], old: FeatureStore | None) -> tuple[list[Any], dict[str, Any]]:
    """The examples with their splits: ready-made, or the ones that the store has, or divided now."""
    from features.examples import Example, divide, groups_across_splits, parse_splits

    examples = [
        Example(image.key, surveyed[image.key].digest, image.labels, image.split, image.group)
        for image in source.images
        if surveyed[image.key].digest
    ]
    if source.has_splits:
        division: dict[str, Any] = {"ready_made": True}
        across = groups_across_splits(examples)
        if across and not config.allow_group_overlap:
            name, splits = next(iter(across.items()))
            raise UserError(f"{len(across)} groups stand on two sides, such as {name!r} in {' and '.join(sorted(splits))}: "
                            f"a score would be too good to be true. Mend the splits, or say --allow_group_overlap")  # fmt: skip
    else:
        division = {"ready_made": False, "splits": config.splits, "seed": config.split_seed}
        same = old is not None and old.manifest["division"] == division
        kept = {example.digest: example.split for example in old.table} if old and same else {}
        examples = divide(examples, parse_splits(config.splits), config.split_seed, kept)
    return examples, {"division": division, "groups_declared": source.has_groups}


def _unread(source: Any, surveyed: dict[str, Any]) -> tuple[DeadLetter, ...]:
    from pipelines.extract_shard import DeadLetter

    return tuple(
        DeadLetter(image.key, "", image.labels[0], image.split, "read", surveyed[image.key].problem)
        for image in source.images
        if not surveyed[image.key].digest
    )


def _notes(source: Any, examples: Sequence[Any], config: ExtractConfig) -> tuple[str, ...]:
    from features.examples import copies_across_splits, groups_across_splits

    notes = []
    if source.left_out:
        notes.append(f"{source.left_out} files stand outside any class folder and are left out")
    if across := copies_across_splits(examples):
        notes.append(f"warning: {len(across)} identical files stand on two sides of the splits; scores will flatter")
    if overlapping := groups_across_splits(examples):
        notes.append(f"warning: {len(overlapping)} groups stand on two sides of the splits, as --allow_group_overlap lets them")
    labels: dict[str, set[tuple[str, ...]]] = {}
    for example in examples:
        labels.setdefault(example.digest, set()).add(example.labels)
    if torn := sum(len(found) > 1 for found in labels.values()):
        notes.append(f"warning: {torn} identical files carry different labels")
    return tuple(notes)


def _is_done(store: str, plan: _Plan) -> bool:
    from features.examples import dataset_digest
    from features.store import MANIFEST, FeatureStore

    if not os.path.exists(os.path.join(store, MANIFEST)):
        return False
    manifest = FeatureStore.open(store).manifest
    done = [shard["unit"] for split in manifest["splits"].values() for shard in split["shards"]]
    same_dataset = manifest["dataset_digest"] == dataset_digest(plan.examples, plan.class_names)
    return same_dataset and done == [unit.digest for unit in plan.units] and manifest["totals"]["planned"] == plan.planned


def _job(config: ExtractConfig, plan: _Plan, work: str) -> ShardJob:
    from features.engine import default_batch_size, default_streams
    from pipelines.extract_shard import ShardJob, too_many_dead

    max_dead = int(config.max_bad_fraction * plan.planned)
    if len(plan.problems) > max_dead:  # known before anything is computed
        letters = [{"key": key, "stage": "read", "reason": reason} for key, reason in sorted(plan.problems.items())]
        raise UserError(too_many_dead(letters, max_dead))
    return ShardJob(plan.spec, config.weights, plan.class_names, os.path.abspath(work), config.batch_size or default_batch_size(),
                    default_streams(), config.max_pixels, max_dead)  # fmt: skip


def _forget_stale(work: str, plan: _Plan) -> None:
    """Removes what an earlier run of another plan left: its shards would stand beside the new ones."""
    belongs = {name for unit in plan.units for name in (unit.shard, f"{unit.shard}.json")}
    for name in set(os.listdir(work)) - belongs:
        os.remove(os.path.join(work, name))


def _run_units(config: ExtractConfig, plan: _Plan, job: ShardJob) -> None:
    import apache_beam as beam

    from pipelines.extract_shard import ExtractShard

    for line in _describe(plan)[-1:]:
        _say(line)
    with _watched(plan, job):
        with _pipeline(config) as pipeline:
            _ = pipeline | "Units" >> beam.Create(list(plan.units)) | "ExtractShard" >> beam.ParDo(ExtractShard(job))


@contextlib.contextmanager
def _watched(plan: _Plan, job: ShardJob) -> Iterator[None]:
    """Shows progress from what stands on disk, which is the same for every runner, and stops a job that loses too much."""
    progress, ended = Progress("extract", plan.planned), threading.Event()

    def watch() -> None:
        while not ended.wait(POLL_S):
            done, letters = _on_disk(job.folder, plan.units)
            progress.update(done + len(plan.unread), len(letters) + len(plan.unread))
            if len(letters) + len(plan.unread) > job.max_dead:
                _stop(job, letters)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
        _, letters = _on_disk(job.folder, plan.units)
        if len(letters) + len(plan.unread) > job.max_dead:
            _stop(job, letters)
            raise UserError(_stopped(job) or "")
    except Exception as error:
        raise _for_people(error, job) from error
    finally:
        ended.set()
        watcher.join()
        progress.close()


def _on_disk(folder: str, units: Sequence[WorkUnit]) -> tuple[int, list[dict[str, str]]]:
    """Examples done so far, and the dead letters among them; those of unfinished units without their names."""
    from features import files
    from pipelines.extract_shard import HEARTBEAT_SUFFIX

    done, letters = 0, list[dict[str, str]]()
    for unit in units:
        path = os.path.join(folder, unit.shard)
        with contextlib.suppress(OSError, ValueError):
            if os.path.exists(path + ".json"):
                marker = files.read_json(path + ".json")
                done += marker["planned"]
                letters += marker["dead_letters"]
            elif os.path.exists(path + HEARTBEAT_SUFFIX):
                beat = files.read_json(path + HEARTBEAT_SUFFIX)
                done += beat["done"]
                letters += beat["letters"]
    return done, letters


def _stop(job: ShardJob, letters: list[dict[str, str]]) -> None:
    from features import files
    from pipelines.extract_shard import STOP_FILE, too_many_dead

    files.write_bytes(os.path.join(job.folder, STOP_FILE), too_many_dead(letters, job.max_dead).encode())


def _stopped(job: ShardJob) -> str | None:
    from pipelines.extract_shard import STOP_FILE

    path = os.path.join(job.folder, STOP_FILE)
    if not os.path.exists(path):
        return None
    with open(path, encoding="utf-8") as file:
        reason = file.read()
    os.remove(path)
    return reason


def _for_people(error: Exception, job: ShardJob) -> Exception:
    """A runner hands back a traceback as text; what a person can act on is found in it and becomes one line again."""
    if reason := _stopped(job):
        return UserError(reason)
    text = str(error)
    if isinstance(error, UserError) or "No space left on device" not in text and "UserError: " not in text:
        return error
    if "No space left on device" in text:
        return UserError(f"the disk of {job.folder} is full: make room and run the same command again, it goes on where it stopped")
    return UserError(text.rpartition("UserError: ")[2].split("\n")[0].split(" [while running")[0])


def _pipeline(config: ExtractConfig) -> Any:
    """A Beam pipeline: in this process on FnApiRunner unless a runner is named, and never on DirectRunner, which looks for
    a binary to download and changes with a pipeline's contents."""
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
    from apache_beam.runners.portability.fn_api_runner import FnApiRunner

    options = PipelineOptions(list(config.pipeline_options))
    runner = options.view_as(StandardOptions).runner
    if runner in (None, *IN_PROCESS_RUNNERS):
        options.view_as(StandardOptions).runner = None
        return beam.Pipeline(runner=FnApiRunner(), options=options)
    return beam.Pipeline(options=options)


def _describe(plan: _Plan) -> list[str]:
    """The plan in lines, the last of which says how much is to be done."""
    per_split = Counter(unit.split for unit in plan.units)
    images = Counter({split: 0 for split in per_split})
    for unit in plan.units:
        images[unit.split] += len(unit.examples)
    taps = ", ".join(f"{tap.name} {'x'.join(map(str, tap.shape))}" for tap in plan.spec.taps)
    size = plan.spec.bytes_per_example * len(plan.examples)
    lines = [
        f"backbone  {plan.spec.backbone} at {plan.spec.image_size[0]}x{plan.spec.image_size[1]}, {taps}, {plan.spec.store_dtype}",
        f"classes   {len(plan.class_names)}: {', '.join(plan.class_names[:10])}{', ...' if len(plan.class_names) > 10 else ''}",
    ]
    lines += [f"split     {split}: {images[split]:,} images in {shards} shards" for split, shards in per_split.items()]
    if plan.problems:
        lines.append(f"unread    {len(plan.problems)} files will be dead letters")
    computed = f"{plan.to_compute:,} to compute, {len(plan.examples) - plan.to_compute:,} to copy"
    return [*lines, f"extract: {plan.planned:,} images ({computed}), {len(plan.units)} shards, {size / 1e6:,.1f} MB of features"]


def _estimate(plan: _Plan, job: ShardJob) -> str:
    """Time to go, from all of reading, decoding, resizing and the backbone run over a few of the images for real."""
    from features.engine import shared_engine
    from features.stream import ImageToRead, stream_features

    fresh = [ImageToRead(e.path) for unit in plan.units for e in unit.examples if e.stored_at is None]
    if not fresh:
        return "time      that of copying"
    some = fresh[: CALIBRATION_BATCHES * job.streams * job.batch_size]
    engine = shared_engine(plan.spec, job.weights, job.batch_size)
    for _ in range(2):  # the first time also warms up
        started = time.monotonic()
        list(stream_features(some, plan.spec, engine, job.streams, job.max_pixels))
    rate = len(some) / (time.monotonic() - started)
    return f"time      about {len(fresh) / rate:,.0f} s at {rate:,.0f} images/s here (measured on {len(some)} images)"


def _closing(config: ExtractConfig, plan: _Plan, manifest: dict[str, Any], seconds: float) -> list[str]:
    totals = manifest["totals"]
    done = f"{config.store}: {totals['stored']:,} of {totals['planned']:,} images stored in {seconds:.1f} s"
    if not totals["dead"]:
        return [done]
    by = ", ".join(f"{split or 'no split'} {count}" for split, count in manifest["dead_by_split"].items())
    lines = [f"{done}; {totals['dead']} dead letters ({by}), each with its reason in {config.store}/dead_letters.jsonl"]
    planned = Counter(label for example in plan.examples for label in example.labels)
    planned.update(letter.label for letter in plan.unread)
    return lines + uneven_losses(planned, manifest["dead_by_class"])


def uneven_losses(planned: Counter[str], dead: dict[str, int]) -> list[str]:
    """A line for each class that lost far more of its images than the others together: 3 or more, and 3 times the share."""
    lines = []
    for label, lost in dead.items():
        others = (sum(dead.values()) - lost) / max(1, planned.total() - planned[label])
        share = lost / planned[label]
        if lost >= 3 and share > 3 * others:
            lines.append(f"warning: the class {label!r} lost {share:.1%} of its images, the others {others:.1%}")
    return lines


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def beam_options() -> argparse.ArgumentParser:
    """A parser that knows every option of Beam's."""
    command.hush()
    from apache_beam.options import pipeline_options

    parser = pipeline_options._BeamArgumentParser(allow_abbrev=False, add_help=False)
    for options in pipeline_options.PipelineOptions.__subclasses__():
        options._add_argparse_args(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    prog = "headstart extract"

    def body() -> None:
        config, beam_flags, verbose = command.parse(ExtractConfig, prog, sys.argv[1:] if argv is None else argv, beam_options)
        _prepare(verbose)
        config = dataclasses.replace(config, pipeline_options=tuple(beam_flags))
        if config.dry_run:
            print("\n".join(dry_run(config)))
        else:
            extract(config)

    return command.run(prog, body)


def _prepare(verbose: bool) -> None:
    from features.engine import one_thread_a_stream

    one_thread_a_stream()
    command.load_quietly(verbose)


if __name__ == "__main__":
    sys.exit(main())
