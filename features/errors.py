"""Errors meant for the person at the keyboard: one line, no traceback, exit status 2."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Literal

Code = Literal[
    "bad-flag",  # a flag or a configuration's field: its name, its value, or two that do not go together
    "bad-input",  # a folder or table of images that does not say what a classifier needs
    "bad-model",  # a model, its weights or a layer can't serve as a backbone, or as asked
    "bad-numbers",  # a number is not finite, or its type can't hold it
    "bad-value",  # a function's argument: its shape, its type or its range
    "below-requirement",  # of a run, by what its evaluation found: --require
    "changed-images",  # images are not what they were, or can't be read any more
    "damaged",  # a store's file is missing, cut short or not what its digest says
    "disk-full",
    "download-failed",  # of ImageNet weights
    "image-size",  # the network does not take images of this size
    "in-use",  # another process writes to the folder
    "incomplete",  # a store or a run: the command that makes it has not finished
    "missing-input",  # an input, a model, weights, a store or a run is not there
    "missing-split",  # or the split that is asked for has no examples
    "model-disagrees",  # the saved model answers otherwise than the head on stored features, or an export than that model
    "no-access",  # an object store denies it
    "not-available",  # this machine, or what is installed on it, can't do it
    "other-dataset",  # other images or classes than those of the store or the run
    "other-features",  # of another network, other weights or other settings
    "other-version",  # written by another version of this package
    "output-taken",  # the output folder holds something else
    "place-failed",  # an object store does not answer, or not as it should
    "replaced",  # a store or a run was written anew while it was read
    "several-labels",  # of an image, where what is asked for is for one label an image
    "too-many-unreadable",  # images, more than --max_bad_fraction allows
    "unknown-name",  # of a command, a network, a layer or a tap
    "unsafe-model",  # a model file brings code along
    "worker-failed",  # a worker met one of these: the message says what
]


class UserError(ValueError):
    """What was expected, what was received, and what to do about it, in one line; and of which kind it is.

    Args:
        code: of its kind, for programs; it stays when the words change.
        message: for the person.
    """

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(code, message)
        self.code: Code = code

    def __str__(self) -> str:
        return str(self.args[1])


class RefusedError(UserError):
    """A server gives a file to nobody who asks for it like this; it may well give others."""


def concerns_all(error: Exception) -> bool:
    """Whether what went wrong with one image will do so with others: it is told to the person, and is no dead letter."""
    return isinstance(error, UserError) and not isinstance(error, RefusedError)


def extract_user_error(error: BaseException) -> str | None:
    """What a UserError said that a runner or TensorFlow handed on as the text of another error; None where there is none."""
    _, found, text = str(error).rpartition("UserError: ")
    return text.split("\n")[0].partition(" [while running")[0] if found else None


class DecodeError(ValueError):
    """One image's bytes cannot become pixels. Never fatal: it becomes a dead letter."""


def nearest(name: str, names: Iterable[str]) -> str:
    """A hint such as ' Did you mean VGG16?', or '' when no name is near.

    >>> nearest("vgg61", ["VGG16", "ResNet50"])
    ' Did you mean VGG16?'
    """
    by_lower = {candidate.lower(): candidate for candidate in names}
    close = difflib.get_close_matches(name.lower(), by_lower, n=2, cutoff=0.6)
    return f" Did you mean {' or '.join(by_lower[match] for match in close)}?" if close else ""
