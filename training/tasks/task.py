"""What a head is asked, which one of the classes an image is of or which of them it has; what the two differ by in training.

How answers are measured, and shown, follows from their kind: `training/evaluation/`, modules `set_...` for sets of labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headstart.features.errors import UserError

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class Task:
    """One label an image, or several.

    activation makes a head's logits probabilities; several says that labels are rows uint8 [B, classes], and not class ids.
    """

    activation: str
    several: bool

    def loss(self) -> keras.losses.Loss:
        """What a training minimises where nothing else is asked for: the cross-entropy."""
        import keras

        return keras.losses.BinaryCrossentropy() if self.several else keras.losses.SparseCategoricalCrossentropy()

    def check_loss(self, loss: Any) -> None:
        """Raises UserError for a loss that can't take the task's labels."""
        if self.several and takes_ids(loss):
            raise UserError("bad-flag", "labels of several classes come as rows of 0 and 1: a sparse loss can't take them")


ONE = Task("softmax", False)
SEVERAL = Task("sigmoid", True)


def task_of(label_delimiter: str) -> Task:
    """The task of a dataset: that of several labels where it has a delimiter."""
    return SEVERAL if label_delimiter else ONE


def takes_ids(loss: Any) -> bool:
    """Whether a loss takes class ids, and not rows."""
    names = (type(loss).__name__, getattr(loss, "name", ""), getattr(loss, "__name__", ""))
    return any("sparse" in str(name).lower() for name in names)
