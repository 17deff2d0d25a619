"""The command line: a subcommand to its module, nothing imported before it is chosen."""

from __future__ import annotations

import gc
import importlib
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

from headstart.features import interruption
from headstart.features.errors import UserError, nearest

COLLECT_EVERY = 100_000  # objects: importing TensorFlow and Beam makes millions, and looking for garbage in them a fifth of it
COMMANDS = {  # each a module of its name in headstart/commands/
    "fit": "extract, train and evaluate in one go",
    "demo": "the same on images that ship with a dependency; downloads nothing",
    "notebook": "the notebook's two techniques side by side on your images",
    "extract": "a folder or table of images to a feature store",
    "backbones": "the networks, and the layers of one of them",
    "doctor": "what this machine has for headstart, and what it lacks",
    "info": "what a store holds",
    "verify": "reads every shard of a store and checks it",
    "clean": "removes what a store was before it was made anew",
    "compact": "makes one generation of the several that a store has grown by",
    "audit": "what may be wrong with a dataset: copies, wrong labels, shortcuts",
    "train": "a feature store to a trained head and a model of images",
    "finetune": "augmentation and fine-tuning: a run and its images to a better run",
    "probe": "which tap of which backbone transfers, by linear probes",
    "learning_curve": "what more images would bring",
    "evaluate": "a run's figures, with intervals",
    "report": "all of a run as one page that opens from disk",
    "runs": "every run below a folder, the best one first",
    "compare": "two runs on the same images: which is better, and where",
    "predict": "the classes of images",
    "export": "a run as a model to ship: Keras, SavedModel, ONNX, TFLite, OpenVINO",
}


def usage() -> str:
    """The list of commands."""
    lines = [f"  {name:<15}{text}" for name, text in COMMANDS.items()]
    return "\n".join(["usage: headstart COMMAND ...", "", *lines, "", "`headstart COMMAND --help` lists what it takes."])


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a subcommand; returns its exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    if arguments[0] == "--version":
        from headstart import __version__

        print(__version__)
        return 0
    name = arguments[0].replace("-", "_")
    if name not in COMMANDS:
        return interruption.run("headstart", lambda: _unknown(name))
    return interruption.run(
        f"headstart {name}", lambda: importlib.import_module(f"headstart.commands.{name}").main(arguments[1:])
    )


def script() -> NoReturn:
    """What the console runs. Once a command is done, Ctrl-C can only spoil its exit status, and is ignored."""
    gc.set_threshold(COLLECT_EVERY)
    status = main()
    gc.freeze()  # Python would look through all of it once more before it ends: a second, where TensorFlow is loaded
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.exit(status)


def _unknown(name: str) -> None:
    raise UserError("unknown-name", f"unknown command {name!r}.{nearest(name, COMMANDS)} There are {', '.join(COMMANDS)}")
