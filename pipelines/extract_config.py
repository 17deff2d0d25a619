"""What `headstart extract` takes."""

from __future__ import annotations

from dataclasses import dataclass

from headstart.features.augmentation import OPERATIONS, POLICIES, Augmentation
from headstart.features.backbones.source import BackboneSource, check_preprocessing
from headstart.features.config import check_fields, flag, positional, refuse_given, required
from headstart.features.dataset.inputs import LAYOUTS, check_exists
from headstart.features.dataset.record_inputs import is_record_input
from headstart.features.engines.options import ENGINES
from headstart.features.errors import UserError
from headstart.features.places import place
from headstart.features.places.identity import IDENTITIES
from headstart.features.spec import (
    COMPUTE_DTYPES,
    DECODINGS,
    INTERPOLATIONS,
    MAX_VIEWS,
    PREPROCESSINGS,
    RESIZE_MODES,
    STORE_DTYPES,
    Tap,
    parse_image_size,
    parse_intensity,
)

OF_RECORDS = ("image_field", "label_field", "label_names", "data_dir")
OF_DIVISION = ("splits", "splits_from", "split_seed", "min_per_split")


@dataclass(frozen=True, kw_only=True)
class ExtractConfig:
    """Reads every image once, runs the frozen backbone over it, and stores its features."""

    input: str = positional(
        "a folder (CLASS/..., or train/CLASS/...), a CSV table, tfrecord:GLOB, or tfds:NAME[:CONFIG][:VERSION]",
        metavar="INPUT",
    )
    store: str = required("the folder of the feature store", metavar="STORE")
    backbone: str = flag(
        "EfficientNetLite0",
        "a name that `headstart backbones` lists, a .keras file, or a SavedModel's folder",
        metavar="NAME|PATH",
    )
    weights: str = flag("imagenet", "imagenet, a .keras, .weights.h5 or .h5 file, or random:SEED")
    image_size: str | int | tuple[int, int] = flag("", "pixels a side, or H,W (default: the backbone's own)", metavar="N|H,W")
    resize_mode: str = flag("squash", "what becomes of the aspect ratio", choices=RESIZE_MODES)
    interpolation: str = flag("bilinear", "how pixels are resampled, with antialiasing", choices=INTERPOLATIONS)
    preprocessing: str = flag(
        "auto",
        "what a model of your own wants done to its pixels: none leaves 0..255, unit makes 0..1, tf -1..1; torch, caffe and "
        "lite are what ImageNet's networks want",
        choices=("auto", *PREPROCESSINGS),
    )
    unsafe: bool = flag(False, "run Python code that a model file brings along in Lambda layers")
    taps: tuple[str, ...] = flag(
        (),
        "where the backbone is read; POOL is none, avg, max or gridK; may be repeated; auto: the end of every stage, "
        "avg and grid3 (default: its last map, avg)",
        flag="--tap",
        metavar="LAYER[:POOL]",
    )
    decode: str = flag(
        "full",
        "scaled: a JPEG is decoded at 1/2, 1/4 or 1/8, the smallest of at least twice the size, which is faster",
        choices=DECODINGS,
    )
    intensity: str = flag(
        "full",
        "how grey images of more than 8 bits become 0..255: full, from 0 to 65535; auto, from each image's own least to its "
        "largest value; window:LO,HI, from LO to HI",
        metavar="full|auto|window:LO,HI",
    )
    compute_dtype: str = flag("float32", "what the backbone multiplies in; the others are faster", choices=COMPUTE_DTYPES)
    views: int = flag(
        1, "views of each training image: the plain one, and augmented ones beside it", metavar="K", least=1, most=MAX_VIEWS
    )
    augment: str = flag("standard", "with --views: what is done to the others", choices=POLICIES)
    augment_seed: int = flag(0, "with --views: another seed is other views")
    no_flip: bool = flag(False, "left and right matter: never mirror")
    no_rotation: bool = flag(False, "never turn or shear")
    no_zoom: bool = flag(False, "never zoom")
    no_shift: bool = flag(False, "never shift")
    no_colour: bool = flag(False, "never change brightness, contrast or colour")
    store_dtype: str = flag("float16", "the numbers' type on disk", choices=STORE_DTYPES)
    examples_per_shard: int = flag(1024, "examples a shard, at most", least=1)
    engine: str = flag(
        "auto",
        "what runs the backbone; auto: openvino on a CPU where it is installed",
        choices=ENGINES,
    )
    batch_size: int = flag(
        0,
        "images a batch of the backbone (default: 2, or 64 on a GPU); another one may change a feature's last bits",
        least=0,
    )
    streams: int = flag(0, "batches under way at once (default: one a core, or 2 on a GPU)", least=0)
    identity: str = flag(
        "content",
        "what an image is known by: its content, for which each is read once more; or what an object store's listing says",
        choices=IDENTITIES,
    )
    splits: str = flag("train=0.8,validation=0.1,test=0.1", "how each class is divided when the input has no splits")
    splits_from: str = flag("", "keep the splits that another store gave to the same images", metavar="STORE")
    split_seed: int = flag(0, "another seed is another division")
    min_per_split: int = flag(
        1, "images that each class gets in each split at least, where it has enough", metavar="N", least=0
    )
    group_by: str = flag("", "takes an image's group from its key; groups are never torn apart", metavar="REGEX")
    allow_group_overlap: bool = flag(False, "let a group be in more than one ready-made split")
    layout: str = flag("auto", "whether top folders are splits or classes", choices=LAYOUTS)
    image_column: str = flag("path", "a table's column of image paths, relative to the table")
    label_column: str = flag("label", "a table's column of class names")
    label_delimiter: str = flag(
        "",
        "images may have several labels, or none: what parts them in a cell, or a class folder's name; of a folder, copies "
        "of an image in several class folders are one image with the labels of all; of records, any that no name holds",
        metavar="TEXT",
    )
    split_column: str = flag("split", "a table's column of splits")
    image_field: str = flag("", "of records: the field of the encoded image (default: image/encoded, or as TFDS says)")
    label_field: str = flag("", "of records: the field of the label (default: image/class/label, or as TFDS says)")
    label_names: str = flag("", "of records: a file with the name of each label's number, a line each", metavar="FILE")
    data_dir: str = flag("", "of tfds:NAME: where TFDS keeps what it prepared (default: as TFDS does)", metavar="DIR")
    group_column: str = flag("group", "a table's column of groups")
    max_bad_fraction: float = flag(0.01, "stop when more of the images can't be read", least=0, most=1)
    max_pixels: int = flag(178_956_970, "an image of more pixels is refused before it is decoded", least=1)
    dry_run: bool = flag(False, "print the plan and an estimate of time, and do nothing")
    pipeline_options: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        from headstart.features.dataset.splits import parse_splits

        check_fields(self)
        parse_splits(self.splits)
        parse_intensity(self.intensity)
        for tap in self.taps:
            Tap.parse(tap)
        if self.image_size != "":
            parse_image_size(self.image_size)

    @property
    def augmentation(self) -> Augmentation:
        """What the views of a training image differ by."""
        return Augmentation(self.augment, tuple(name for name in OPERATIONS if getattr(self, f"no_{name}")), self.augment_seed)


def _check_used(config: ExtractConfig) -> None:
    """Looks for flags that would do nothing.

    Raises:
        UserError: for a flag of views without these, or one of records with another input.
    """
    if config.views == 1 and config.augment != "none" and config.augmentation != Augmentation("standard"):
        raise UserError(
            "bad-flag", "--augment, --augment_seed and --no_... are of --views 2 or more: say it, or leave them out"
        )
    if not is_record_input(config.input):
        refuse_given(config, OF_RECORDS, f"is of records, as in tfrecord:GLOB, and INPUT is {config.input!r}")


def check_ready_made(config: ExtractConfig) -> None:
    """Raises UserError for flags that divide, where splits came with the input."""
    refuse_given(config, OF_DIVISION, f"divides images, and {config.input!r} comes with splits of its own")


def check_names(config: ExtractConfig) -> None:
    """Looks for what a configuration names, before anything heavy is loaded.

    Raises:
        UserError: for an input, a backbone or weights that are not there, a store's folder that is a file, or a flag that
            would do nothing.
    """
    _check_used(config)
    check_exists(config.input)
    if config.identity == "listing" and is_record_input(config.input):
        raise UserError("bad-flag", "--identity listing: records are read to be listed, and cost nothing more: leave it out")
    place.names_in(config.store, "--store")
    if config.splits_from:
        check_exists(config.splits_from)
    check_preprocessing(BackboneSource.parse(config.backbone, config.weights, config.unsafe), config.preprocessing)
