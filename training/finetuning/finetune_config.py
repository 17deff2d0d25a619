"""What `headstart finetune` takes."""

from __future__ import annotations

import os
from dataclasses import dataclass

from headstart.features.augmentation import OPERATIONS, POLICIES, Augmentation
from headstart.features.config import check_fields, flag, positional, refuse_given, required
from headstart.features.dataset.inputs import LAYOUTS
from headstart.features.errors import UserError
from headstart.features.places import place
from headstart.training.finetuning.unfreeze import Unfreezing
from headstart.training.scoring.goals import check_flags
from headstart.training.train_config import CLASS_WEIGHTS, HEADS, MONITORS, PRECISIONS

HEAD_RATE, UNFROZEN_RATE = 1e-4, 1e-5
READING = (  # how images are read, whose labels and splits are compared with the run's
    *("layout", "image_column", "label_column", "label_delimiter", "split_column"),
    *("image_field", "label_field", "label_names", "data_dir"),
)


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig:
    """Trains a head on augmented images, the backbone frozen; or the top of the backbone with it, at a low rate.

    From the images of a run (INPUT and --init_from), or from stored feature maps (--from_store and --unfreeze_after).
    """

    input: str | None = positional(
        "the folder or table of images that the run's features came from", metavar="INPUT", nargs="?", default=None
    )
    run: str = required("the folder to leave the model and its figures in", metavar="RUN")
    init_from: str = flag("", "the run whose head and backbone to begin with", metavar="RUN0")
    from_store: str = flag("", "train what lies above a stored, unpooled tap, from the store alone", metavar="STORE")
    unfreeze_from: str = flag("", "train the backbone from this layer on", metavar="LAYER")
    unfreeze_after: str = flag("", "train the backbone's layers above this one", metavar="LAYER")
    unfreeze_last: int = flag(0, "train the backbone's last N layers with weights", metavar="N")
    unfreeze_all: bool = flag(False, "train all of the backbone")
    augment: str = flag("", "what is done to training images (default: standard)", choices=POLICIES)
    no_flip: bool = flag(False, "left and right matter: never mirror")
    no_rotation: bool = flag(False, "never turn or shear")
    no_zoom: bool = flag(False, "never zoom")
    no_shift: bool = flag(False, "never shift")
    no_colour: bool = flag(False, "never change brightness, contrast or colour")
    epochs: int = flag(20, "at most; early stopping ends sooner where there is a validation split", least=1)
    patience: int = flag(
        5,
        "epochs without a better --monitor before it stops; never while the rate is above half of its peak",
        least=1,
    )
    batch_size: int = flag(32, "examples a step, over all devices", least=1)
    learning_rate: float | None = flag(
        None,
        f"of Adam (default: {HEAD_RATE:g} for a head alone, {UNFROZEN_RATE:g} with layers of the backbone)",
        aliases=("--lr",),
        above=0,
    )
    layer_decay: float = flag(
        0.5, "each stage of the backbone below the top one learns at this share of the one above", above=0, most=1
    )
    lr_warmup: float = flag(
        0.1,
        "share of the steps in which the rate rises; then a cosine takes it to 0",
        aliases=("--warm_up",),
        least=0,
        below=1,
    )
    head: str = flag("linear", "with --from_store alone: the head to train first", choices=HEADS)
    dropout: float = flag(0.5, "with --from_store alone: of the mlp's hidden units", least=0, below=1)
    class_weight: str = flag("none", "balanced: every class counts the same", choices=CLASS_WEIGHTS)
    monitor: str = flag("val_loss", "what the best epoch is best at", choices=MONITORS)
    precision: str = flag("auto", "auto: mixed where the GPU has tensor cores, else float32", choices=PRECISIONS)
    devices: int = flag(1, "GPUs to spread each batch over", metavar="N", least=1)
    seed: int = flag(0, "of the order of examples, augmentation, and first weights", least=0, below=2**32)
    layout: str = flag("auto", "whether INPUT's top folders are splits or classes", choices=LAYOUTS)
    image_column: str = flag("path", "a table's column of image paths, relative to the table")
    label_column: str = flag("label", "a table's column of class names")
    label_delimiter: str = flag(
        "", "of a run on several labels an image: what parts them in INPUT (default: as where it learned)", metavar="TEXT"
    )
    split_column: str = flag("split", "a table's column of splits")
    image_field: str = flag("", "of records: the field of the encoded image (default: image/encoded, or as TFDS says)")
    label_field: str = flag("", "of records: the field of the label (default: image/class/label, or as TFDS says)")
    label_names: str = flag("", "of records: a file with the name of each label's number, a line each", metavar="FILE")
    data_dir: str = flag("", "of tfds:NAME: where TFDS keeps what it prepared (default: as TFDS does)", metavar="DIR")
    no_calibrate: bool = flag(False, "leave the probabilities as training made them: no temperature by the validation split")
    operating_point: str = flag(
        "", "choose a threshold by the validation split, such as recall@precision=0.95", metavar="WANTED@HELD=SHARE"
    )
    positive_class: str = flag("", "the class that the threshold is for (default: the last of two)", metavar="CLASS")
    unsafe: bool = flag(False, "run Python code that a model file brings along in Lambda layers")

    def __post_init__(self) -> None:
        check_fields(self)
        check_flags(self.operating_point, self.positive_class)
        if self.batch_size % self.devices:
            raise UserError(
                "bad-flag", f"--batch_size {self.batch_size} can't be spread over {self.devices} devices: give a multiple"
            )
        self._check_source()
        if not self.augment and not self.from_store:
            object.__setattr__(self, "augment", "standard")
        unfreezing = self.unfreezing  # it refuses what it must
        if unfreezing == Unfreezing():
            refuse_given(self, ("layer_decay",), "is of layers of the backbone, and none is unfrozen")

    def _check_source(self) -> None:
        if self.from_store and self.input:
            raise UserError("bad-flag", "give INPUT with --init_from, or --from_store, not both")
        if not self.from_store and not (self.input and self.init_from):
            raise UserError("bad-flag", "give INPUT and --init_from RUN0 (`headstart train` makes one), or --from_store STORE")
        if self.from_store and (self.augment not in ("", "none") or self.augmentation.without):
            raise UserError(
                "bad-flag", "--from_store reads what is stored: leave --augment and --no_... out, and extract with --views"
            )
        if self.from_store:
            refuse_given(self, READING, "says how INPUT is read, and --from_store reads what is stored")
        if self.init_from:
            refuse_given(self, ("head", "dropout"), "is of a head to train first, and that of --init_from is there")
        if self.head != "mlp":
            refuse_given(self, ("dropout",), "is of the mlp, and --head is linear")
        if self.init_from and _same(self.init_from, self.run):
            raise UserError("bad-flag", f"--run {self.run!r} is where the training begins (--init_from): give another folder")
        if self.from_store and not self.unfreeze_after:
            raise UserError("bad-flag", "--from_store needs --unfreeze_after LAYER, the stored tap above which to train")

    @property
    def unfreezing(self) -> Unfreezing:
        """Which layers of the backbone are trained."""
        return Unfreezing(self.unfreeze_from, self.unfreeze_after, self.unfreeze_last, self.unfreeze_all)

    @property
    def augmentation(self) -> Augmentation:
        """What is done to training images."""
        return Augmentation(
            self.augment or "none", tuple(name for name in OPERATIONS if getattr(self, f"no_{name}")), self.seed
        )


def _same(one: str, other: str) -> bool:
    """Whether two paths are of one folder."""
    if place.is_remote(one) or place.is_remote(other):
        return place.absolute(one) == place.absolute(other)
    return os.path.realpath(one) == os.path.realpath(other)
