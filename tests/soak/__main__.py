"""A long test: extract, train and finetune are killed or interrupted at random moments and at random operations on files.

After each, the same command is run until it succeeds. Then what it made has to be what an undisturbed run makes, byte for byte
but for the files that NOT_COMPARED and the fields that TIMES names, and nothing may be left over. A full disk is an error of
renaming and syncing, raised by the hook: it runs everywhere and needs no mount. Each line that is printed can be repeated:

    python -m tests.soak [--kills 20] [--interrupts 10] [--full 5] [--twice 2] [--seed 0] [--only extract]
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
HOOK = pathlib.Path(__file__).resolve().parent / "hook"
LIMIT_S = 600
OPERATIONS = {"extract": 60, "train": 25, "finetune": 40}  # about as many as an undisturbed run does
NOT_COMPARED = {
    "logs": "times, in a format of TensorBoard's",
    ".digests.parquet": "the survey's cache",
    "learning_curve.png": "drawn from history.csv",
    "augmented.png": "drawn by the first process only",
    "report.html": "it names its folder",
}
OF_LIBRARIES = (
    "__autograph_generated_file",
    "beam-pipeline-temp",
)  # of a killed process
TIMES = ("seconds", "run", "folder", "first_step", "files")  # and where it is, and what is of its last process alone


@dataclasses.dataclass
class Command:
    """A command, its output folder, and what an undisturbed run of it left."""

    name: str
    flags: list[str]
    out: str  # the flag of its output folder
    expected: pathlib.Path
    seconds: float = 0.0

    def start(self, folder: pathlib.Path, temporary: pathlib.Path, at: int = 0, end: str = "") -> subprocess.Popen[str]:
        """Starts it into a folder; `at` and `end` as the hook takes them."""
        environment = {**os.environ, "TMPDIR": str(temporary), "PYTHONPATH": f"{HOOK}{os.pathsep}{ROOT}", "SOAK_AT": str(at)}
        environment |= {"SOAK_END": end, "SOAK_FOLDER": str(folder), "CUDA_VISIBLE_DEVICES": ""}
        line = [sys.executable, "-m", "headstart", self.name, *self.flags, self.out, str(folder)]
        return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)


def contents(folder: pathlib.Path) -> dict[str, Any]:
    """What counts of a folder: path to bytes, or, of a run, to JSON without times."""
    found: dict[str, Any] = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = str(path.relative_to(folder))
        if NOT_COMPARED.keys() & {*path.relative_to(folder).parts}:
            continue
        run = (folder / "metrics.json").exists()
        found[name] = untimed(json.loads(path.read_bytes())) if run and path.suffix == ".json" else path.read_bytes()
    return found


def untimed(value: Any) -> Any:
    """JSON without the fields that differ from run to run."""
    if isinstance(value, dict):
        return {key: untimed(inner) for key, inner in value.items() if not any(word in key for word in TIMES)}
    return [untimed(inner) for inner in value] if isinstance(value, list) else value


def differences(found: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    """A line for each path that is missing, left over or other."""
    return [name for name in sorted({*found, *expected}) if found.get(name) != expected.get(name)]


def finish(command: Command, folder: pathlib.Path, temporary: pathlib.Path) -> list[str]:
    """Runs a command again until it succeeds; what is wrong with what it made."""
    for _ in range(2):
        process = command.start(folder, temporary)
        said, _ = process.communicate(timeout=LIMIT_S)
        if process.returncode == 0:
            break
    else:
        return [f"does not go on: exit {process.returncode}: {said.strip().splitlines()[-1:]}"]
    wrong = [f"other: {name}" for name in differences(contents(folder), contents(command.expected))]
    return wrong + [f"left: {path.name}" for path in temporary.iterdir() if not of_libraries(path)]


def of_libraries(path: pathlib.Path) -> bool:
    """Whether a library left it, whose names nobody else can know: Keras makes a folder, without files, to save a model."""
    without_files = path.is_dir() and not any(inner.is_file() for inner in path.rglob("*"))
    return path.name.startswith(OF_LIBRARIES) or (path.name.startswith("tmp") and without_files)


def disturb(command: Command, how: str, draw: random.Random, folder: pathlib.Path, temporary: pathlib.Path) -> str:
    """Runs a command once and ends it; says how."""
    if how == "twice":
        return twice(command, folder, temporary)
    if how == "full" or draw.random() < 0.6:
        at = draw.randint(1, OPERATIONS[command.name])
        process = command.start(folder, temporary, at, how)
        where = f"at operation {at}"
    else:
        moment = draw.uniform(0.2, 1.0) * command.seconds
        process = command.start(folder, temporary)
        where = f"after {moment:.2f} s"
        try:
            process.wait(moment)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL if how == "kill" else signal.SIGINT)
    said, _ = process.communicate(timeout=LIMIT_S)
    wrong = "" if how == "kill" or "Traceback" not in said else f" TRACEBACK {said.strip().splitlines()[-1]}"
    return f"{where}, exit {process.returncode}{wrong}"


def twice(command: Command, folder: pathlib.Path, temporary: pathlib.Path) -> str:
    """Two starts at once: one is refused in one line, or finds it done; the other finishes."""
    processes = [command.start(folder, temporary) for _ in range(2)]
    said = [process.communicate(timeout=LIMIT_S)[0] for process in processes]
    codes = sorted(process.returncode for process in processes)
    refused = [text for text, process in zip(said, processes) if process.returncode]
    fine = codes in ([0, 2], [0, 0]) and all(len(text.strip().splitlines()) == 1 for text in refused)
    return f"two starts, exits {codes}" + ("" if fine else f" TRACEBACK {refused}")


def prepared(folder: pathlib.Path, only: str) -> Iterator[Command]:
    """Photos, a little base, and each command run undisturbed: later ones need what earlier ones made.

    Where one command only is asked for, it is the last.
    """
    from tests.conftest import CLASSES, IMAGE_SIZE, little_base, write_photos

    counts = {split: dict.fromkeys(CLASSES, count) for split, count in {"train": 12, "validation": 4, "test": 4}.items()}
    photos, base = str(write_photos(folder / "photos", counts)), str(little_base(folder / "little.keras"))
    flags = ["--backbone", base, "--preprocessing", "tf", "--image_size", str(IMAGE_SIZE), "--examples_per_shard", "8"]

    def long(epochs: int) -> list[str]:  # enough to leave checkpoints
        return ["--epochs", str(epochs), "--patience", str(epochs)]

    made = [
        Command("extract", [photos, *flags], "--store", folder / "store"),
        Command("train", [str(folder / "store"), *long(200)], "--run", folder / "run0"),
        Command("finetune", [photos, "--init_from", str(folder / "run0"), *long(40)], "--run", folder / "run1"),
    ]
    for command in made:
        temporary = folder / "temporary"
        temporary.mkdir(exist_ok=True)
        started = time.monotonic()
        process = command.start(command.expected, temporary)
        said, _ = process.communicate(timeout=LIMIT_S)
        command.seconds = time.monotonic() - started
        if process.returncode:
            raise SystemExit(f"{command.name} fails undisturbed: {said}")
        yield command
        if command.name == only:
            return


def soak(arguments: argparse.Namespace, folder: pathlib.Path) -> int:
    """Every trial, a line each; how many went wrong."""
    commands = list(prepared(folder, arguments.only))
    rounds = {"kill": arguments.kills, "interrupt": arguments.interrupts, "full": arguments.full, "twice": arguments.twice}
    failed = 0
    for command in commands:
        if arguments.only and command.name != arguments.only:
            continue
        for how, count in rounds.items():
            for number in range(count):
                name = f"{command.name} {how} {number}"
                out, temporary = folder / "out", folder / "trial temporary"
                temporary.mkdir()
                draw = random.Random(f"{arguments.seed} {name}")
                told = disturb(command, how, draw, out, temporary)
                if number % 3 == 2 and how != "twice":  # and the same to what goes on from there
                    told += f", then {disturb(command, how, draw, out, temporary)}"
                wrong = finish(command, out, temporary) + (["said a traceback"] if "TRACEBACK" in told else [])
                failed += bool(wrong)
                print(f"seed {arguments.seed} {name}: {told}: {'; '.join(wrong) or 'the same'}", flush=True)
                shutil.rmtree(out, ignore_errors=True)
                shutil.rmtree(temporary)
    print(f"{failed} went wrong")
    return failed


def main() -> int:
    """The command; its exit status is 1 when anything went wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    for name, count in (("kills", 20), ("interrupts", 10), ("full", 5), ("twice", 2), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=count, help="of each command" if name != "seed" else "of all draws")
    parser.add_argument("--only", default="", choices=("", *OPERATIONS))
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it, and what they start
    with tempfile.TemporaryDirectory(prefix="headstart soak ") as folder:
        return int(soak(parser.parse_args(), pathlib.Path(folder)) > 0)


if __name__ == "__main__":
    sys.exit(main())
