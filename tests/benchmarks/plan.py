"""What the driver takes for a dataset of N images: from what the survey says of them to work units on disk and the table.

Names, contents and labels are made; reading images is left out, and so is the network. With --listed they come as a bucket's
listing, which is read and surveyed by --identity listing; without it, this is left out too.

    python -m tests.benchmarks.plan 1000000 [--classes 1000] [--grouped | --listed]
"""

from __future__ import annotations

import argparse
import hashlib
import resource
import tempfile
import time

import numpy as np

from headstart.features.backbones.backbone import Backbone
from headstart.features.backbones.source import BackboneSource
from headstart.features.dataset.columns import Below, Digests, Few, Numbers, Text
from headstart.features.dataset.examples import csv_parts
from headstart.features.dataset.sources import Images, Source, read_source
from headstart.features.engines.options import EngineOptions, slow_dtype
from headstart.features.places import place
from headstart.features.runtime import import_tensorflow_quietly
from headstart.features.spec import Tap
from headstart.pipelines.extract_config import ExtractConfig
from headstart.pipelines.extraction_plan import ExtractionPlan
from headstart.pipelines.plan import plan_of
from headstart.pipelines.survey import Survey, survey_listing
from headstart.pipelines.units.markers import save_unit
from tests.benchmarks.made import machine
from tests.bucket import listed

AT_ONCE = 100_000  # names that are objects at one time
PER_GROUP = 5


def made(count: int, classes: int, grouped: bool) -> tuple[Source, Survey]:
    """A folder of so many images as its listing and its survey give them, one in a hundred of them a copy of another."""
    codes, contents = _drawn(count, classes)
    labels = Few(codes, tuple((f"class{number:04}",) for number in range(classes)))
    keys, groups, digests = list[Text](), list[Text](), list[Digests]()
    for start in range(0, count, AT_ONCE):
        numbers, names = range(start, min(count, start + AT_ONCE)), labels.take(slice(start, start + AT_ONCE)).values()
        keys.append(Text.of([f"{name}/IMG_{number:08}.jpg" for (name,), number in zip(names, numbers)]))
        groups.append(Text.of([f"patient{number // PER_GROUP}" if grouped else "" for number in numbers]))
        digests.append(Digests.of([hashlib.sha256(content.tobytes()).hexdigest() for content in contents[numbers]]))
    key, nobody, one = Text.joined(keys), Few(np.zeros(count, np.int32), ("",)), Numbers(np.ones(count, np.int64))
    images = Images(key=key, path=Below("/photos", key), labels=labels, split=nobody, group=Text.joined(groups))
    known = {"size": one, "time_ns": one, "version": Text.of([""] * count), "mark": one}
    survey = Survey(path=images.paths, digest=Digests.joined(digests), problem=nobody, **known)
    return Source("/photos", images, False, grouped), survey


def of_a_bucket(count: int, classes: int) -> tuple[Source, Survey]:
    """The same of a bucket, from its listing and by that alone."""
    codes, contents = _drawn(count, classes)
    codes.sort()  # in the order of the keys, as stores list them

    def described(number: int) -> tuple[str, int, str]:
        return f"photos/class{codes[number]:04}/IMG_{number:08}.jpg", 1, f'"{contents[number]:032x}"'

    with listed(range(count), described):
        source = read_source("s3://bucket/photos")
        return source, survey_listing(source.images.paths)


def _drawn(count: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Each image's class and content, as numbers."""
    generator = np.random.default_rng(0)
    codes = generator.integers(0, classes, count, np.int32)
    return codes, np.where(generator.random(count) < 0.01, generator.integers(0, count, count), np.arange(count))


def write(plan: ExtractionPlan) -> int:
    """Leaves the units and the table where an extraction does; their bytes."""
    place.at_once(lambda unit: save_unit(plan.job.work, unit), plan.units, plan.job.work)
    with place.creating(place.join(plan.job.folder, "examples.csv")) as file:
        for part in csv_parts(plan.examples):
            file.write(part)
    return sum(entry.size for entry in place.entries(plan.job.store))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("images", type=int)
    parser.add_argument("--classes", type=int, default=1000)
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--grouped", action="store_true", help=f"{PER_GROUP} images a group")
    kind.add_argument("--listed", action="store_true", help="as a bucket's listing")
    options = parser.parse_args()
    import_tensorflow_quietly()
    slow_dtype(EngineOptions(), "float32")  # loads the engine
    libraries = peak()
    if options.listed:
        source, survey = of_a_bucket(options.images, options.classes)
    else:
        source, survey = made(options.images, options.classes, options.grouped)
    backbone = Backbone(
        BackboneSource.parse("EfficientNetLite0"), None, None, "0" * 64, "", (224, 224), "tf", (Tap("top", "avg", (1280,)),)
    )  # type: ignore[arg-type]  # no network is built
    before, started = peak(), time.perf_counter()
    with tempfile.TemporaryDirectory() as store:
        plan = plan_of(ExtractConfig(input=source.root, store=store), "token", source, survey, backbone, None)
        planned = time.perf_counter()
        written = write(plan)
    ended = time.perf_counter()
    told = ", in groups" * options.grouped + ", listed" * options.listed
    print(f"{machine()}; {options.images:,} images in {options.classes:,} classes{told}")
    print(f"plan {planned - started:.1f} s, units and table ({written / 1e6:,.0f} MB) {ended - planned:.1f} s")
    print(f"memory {libraries:,.0f} MB for libraries, {before:,.0f} with the survey, {peak():,.0f} at most")


def peak() -> float:
    """The most memory that this process has held, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
