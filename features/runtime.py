"""What a process computes with, and how: its cores and GPUs, one thread an operation, TensorFlow loaded once and quietly."""

from __future__ import annotations

import contextlib
import functools
import glob
import json
import logging
import os
import sys
import sysconfig
import warnings
from collections.abc import Callable, Iterator
from typing import ParamSpec, TypeVar

from headstart.features import interruption

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

SHARE_OF_MEMORY = 0.25  # of what is free
CACHE, CACHE_SIZE = "HEADSTART_CACHE", "HEADSTART_CACHE_SIZE"  # of copies of remote files: a folder, and gigabytes
ONLY_WRAPPED = ("sklearn", "matplotlib", "jax")  # TensorFlow and Keras import them for what no command uses: over a second
GPU_DEVICES = ("/dev/nvidia*", "/dev/kfd", "/dev/dxg")  # CUDA, ROCm, WSL
LOUD = {"tensorflow": logging.ERROR, "absl": logging.ERROR, "matplotlib": logging.ERROR, "apache_beam": logging.CRITICAL}


def limit_intra_op_threads() -> None:
    """Asks TensorFlow for one thread an operation, so that streams do not fight; heeded if it has not started yet."""
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def fits_in_memory(size: int) -> bool:
    """Whether some bytes take less than a quarter of what is free."""
    import psutil

    return size < SHARE_OF_MEMORY * psutil.virtual_memory().available


def keras_backend() -> str:
    """What Keras computes with, or will when it is loaded: from where it reads that itself, without loading it.

    Source: https://keras.io/getting_started/#configuring-your-backend
    """
    if "keras" in sys.modules:
        import keras

        return str(keras.backend.backend())
    if chosen := os.environ.get("KERAS_BACKEND"):
        return chosen
    home = os.environ.get("KERAS_HOME") or os.path.join(os.path.expanduser("~"), ".keras")
    try:
        with open(os.path.join(home, "keras.json"), encoding="utf-8") as file:
            return str(json.load(file).get("backend", "tensorflow"))
    except (OSError, ValueError):
        return "tensorflow"


def gpu_possible() -> bool:
    """Whether TensorFlow may see a GPU: where Linux has no device that could be one, it need not be loaded to tell."""
    plugins = os.path.join(sysconfig.get_path("purelib"), "tensorflow-plugins")  # of devices that this code can't know
    return sys.platform != "linux" or os.path.isdir(plugins) or any(map(glob.glob, GPU_DEVICES))


def gpu_available() -> bool:
    """Whether TensorFlow sees a GPU."""
    if not gpu_possible():
        return False
    load_tensorflow()
    import tensorflow as tf

    return bool(tf.config.list_physical_devices("GPU"))


def configure_gpus() -> None:
    """Makes GPUs take memory as it is needed, if they have not started yet, and compute float32 exactly."""
    import tensorflow as tf

    tf.config.experimental.enable_tensor_float_32_execution(False)
    for gpu in tf.config.list_physical_devices("GPU"):
        try:
            tf.config.experimental.set_memory_growth(gpu, True)
        except RuntimeError:  # already started, with whatever was chosen then
            return


@functools.cache
def silence_library_logs() -> None:
    """Holds back what the libraries underneath log and warn of, in a command's process, from here on."""
    _hushed.enter_context(quiet())


_hushed = contextlib.ExitStack()  # never left: it ends with the process
_speaking = False  # --verbose
_quiet_blocks = 0  # in which the process is now


def is_hushed() -> bool:
    """Whether somebody in this process has decided who speaks: a command, or a function of the library's that is at work."""
    return _speaking or _quiet_blocks > 0


def is_verbose() -> bool:
    """Whether the libraries underneath are to speak."""
    return _speaking


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Holds back what the libraries underneath log and warn of inside the block; what was set stands again after it.

    With --verbose they speak.
    """
    global _quiet_blocks
    if _speaking:
        yield
        return
    root, null = logging.getLogger(), logging.NullHandler()
    levels = {name: logging.getLogger(name).level for name in LOUD}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, level in LOUD.items():
            logging.getLogger(name).setLevel(level)
        root.addFilter(_is_grave)  # of what is logged without a logger's name
        root.addHandler(null)  # where there is none, the first who logs so would add one for good
        _quiet_blocks += 1
        try:
            yield
        finally:
            _quiet_blocks -= 1
            root.removeHandler(null)
            root.removeFilter(_is_grave)
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)


def _is_grave(entry: logging.LogRecord) -> bool:
    return entry.levelno >= logging.ERROR


def quietly(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """A function of the library's, as quiet from Python as its command is."""

    @functools.wraps(function)
    def quiet_function(*arguments: Parameters.args, **keywords: Parameters.kwargs) -> Result:
        with quiet():
            load_tensorflow()
            return function(*arguments, **keywords)

    return quiet_function


def quietly_each(found: Iterator[Result]) -> Iterator[Result]:
    """An iterator whose steps are quiet; between them the process is as its owner has it."""
    while True:
        with quiet():
            try:
                each = next(found)
            except StopIteration:
                return
        yield each


def hush(verbose: bool = False) -> None:
    """Holds back the chatter of TensorFlow and Beam in a command's process, from here on, unless verbose."""
    global _speaking
    _speaking = verbose
    if not verbose:
        silence_library_logs()


def import_tensorflow_quietly(verbose: bool = False) -> None:
    """Imports TensorFlow for a command, as quietly."""
    hush(verbose)
    load_tensorflow()


def load_tensorflow() -> None:
    """Imports TensorFlow, once; GPUs give memory as it is needed."""
    if "tensorflow" in sys.modules:
        configure_gpus()
        return
    if _speaking:
        with interruption.at_once(2), _left_out(*_unused()):
            configure_gpus()
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with stderr_to_null(), _left_out(*_unused()):  # TensorFlow's first words come from C++, before any level can be set
        import tensorflow as tf

        configure_gpus()
        tf.constant(0)


def _unused() -> Iterator[str]:
    """Of ONLY_WRAPPED, what is not the backend that Keras computes with."""
    return (name for name in ONLY_WRAPPED if name != os.environ.get("KERAS_BACKEND"))


@contextlib.contextmanager
def _left_out(*packages: str) -> Iterator[None]:
    """Hides packages that are not loaded yet from whoever would import them if they are there."""
    hidden = [name for name in packages if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


@contextlib.contextmanager
def stderr_to_null() -> Iterator[None]:
    """Holds back what a library writes to stderr from C++ inside the block, where no level can be set."""
    sys.stderr.flush()
    saved, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        with interruption.at_once(saved):
            yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(null)
