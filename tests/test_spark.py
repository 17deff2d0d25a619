"""The runner over PySpark: what it runs and refuses on this machine, and an extraction on a cluster that is disturbed."""

from __future__ import annotations

import importlib.util
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable

import apache_beam as beam
import psutil
import pytest

from headstart.cli import main
from headstart.features.errors import UserError
from headstart.pipelines.units import spark_runner
from headstart.pipelines.units.runner import beam_pipeline, translate_runner_errors
from tests import spark
from tests.conftest import CLASSES, raises, small_backbone_flags, write_photos

PHOTOS, PER_SHARD = int(os.environ.get("SPARK_PHOTOS", "300")), 25  # `make spark-test` takes a thousand
HERE = ["--runner=SparkRunner", "--spark_master_url", "local[2]"]
OURS = ("class ", "extract: ", "engine ", "time ", "there: ", "split ")  # how the lines of an extraction begin
needs_spark = pytest.mark.skipif(bool(spark.why_not()), reason=spark.why_not())


class Note(beam.DoFn):
    """Leaves a file for each time that it is set up or torn down and for each element, named after the process."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder

    def note(self, what: object) -> None:
        (self.folder / f"{what} {os.getpid()} {time.monotonic_ns()}").touch()

    def setup(self) -> None:
        self.note("setup")

    def process(self, number: int) -> Iterable[int]:
        if number < 0:
            self.note("refused")
            raise UserError("bad-numbers", f"{number} is below 0")
        if number > 100:
            raise RuntimeError(f"{number} is too large")
        self.note(number)
        time.sleep(0.3)
        yield number

    def teardown(self) -> None:
        self.note("teardown")


@pytest.fixture
def on_this_machine(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Beam's flags for Spark's workers on this machine."""
    for name in ("PYTHONPATH", "SPARK_LOCAL_IP", "PYSPARK_SUBMIT_ARGS"):
        monkeypatch.setenv(name, spark.ENVIRONMENT[name])
    return HERE


@pytest.mark.slow
@needs_spark
def test_each_element_is_a_task_and_a_process_is_set_up_once(on_this_machine: list[str], tmp_path: pathlib.Path) -> None:
    handler = signal.getsignal(signal.SIGINT)
    with beam_pipeline(on_this_machine) as pipeline:
        _ = pipeline | beam.Create(range(8)) | beam.ParDo(Note(tmp_path))
    notes = sorted(path.name.split()[:2] for path in tmp_path.iterdir())
    processes = {process for _, process in notes}
    assert len(processes) == 2 and str(os.getpid()) not in processes
    assert [what for what, _ in notes] == [*map(str, range(8)), "setup", "setup"]
    assert signal.getsignal(signal.SIGINT) is handler  # PySpark's is gone


@needs_spark
def test_a_context_of_the_host_s_is_left_to_it(
    on_this_machine: list[str], tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pyspark import SparkContext

    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
    handler = signal.getsignal(signal.SIGINT)
    with SparkContext("local[1]", "host") as host:
        signal.signal(signal.SIGINT, handler)
        with beam_pipeline(on_this_machine) as pipeline:
            _ = pipeline | beam.Create([1, 2]) | beam.ParDo(Note(tmp_path))
        assert len(host.getJobTags()) == 0 and host.parallelize([1, 2]).count() == 2
    assert sorted(path.name.split()[0] for path in tmp_path.iterdir()) == ["1", "2", "setup"]


@pytest.mark.slow
@needs_spark
def test_what_fails_comes_out_as_from_other_runners(on_this_machine: list[str], tmp_path: pathlib.Path) -> None:
    numbers = [-1] * 6
    with raises("bad-numbers") as caught, translate_runner_errors(""), beam_pipeline(on_this_machine) as pipeline:
        _ = pipeline | beam.Create(numbers) | beam.ParDo(Note(tmp_path))
    assert str(caught.value) == "-1 is below 0"
    refused = [path.name.split()[1] for path in tmp_path.glob("refused *")]
    assert len(refused) == len(set(refused)) <= 2  # once a process, of which there are two: nobody tries it again
    with pytest.raises(RuntimeError) as crashed, beam_pipeline(on_this_machine) as pipeline:
        _ = pipeline | beam.Create([101]) | beam.ParDo(Note(tmp_path))
    text = str(crashed.value)
    assert text.startswith("Traceback") and text.endswith("RuntimeError: 101 is too large") and "org.apache" not in text
    assert {path.name.split()[0] for path in tmp_path.iterdir()} == {"setup", "refused", "teardown"}


@needs_spark
def test_a_python_that_workers_lack_is_told(
    on_this_machine: list[str], tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYSPARK_PYTHON", "/no/python")
    with raises("worker-failed") as caught, beam_pipeline(on_this_machine) as pipeline:
        _ = pipeline | beam.Create([1]) | beam.ParDo(Note(tmp_path))
    assert "can't run headstart" in str(caught.value) and 'Cannot run program "/no/python"' in str(caught.value)


@needs_spark
@pytest.mark.parametrize(
    "steps",
    [
        lambda start: start | beam.Create([1]) | beam.ParDo(Note(pathlib.Path())) | beam.Map(print),
        lambda start: start | beam.Create([(1, 2)]) | beam.GroupByKey(),
        lambda start: start | beam.Create([1]) | beam.Map(lambda number, other: number, other=2),
        lambda start: start | beam.Create([1]) | beam.Map(lambda number, at=beam.DoFn.TimestampParam: number),
    ],
    ids=["three steps", "groups", "side inputs", "times"],
)
def test_other_pipelines_are_refused(steps: Callable[[beam.Pipeline], object], on_this_machine: list[str]) -> None:
    with raises("not-available") as caught, beam_pipeline(on_this_machine) as pipeline:
        steps(pipeline)
    assert f"take --runner {spark_runner.BEAMS_OWN}" in str(caught.value)


@needs_spark
def test_beams_own_runner_is_asked_for_by_its_whole_name() -> None:
    from apache_beam.runners.portability.spark_runner import SparkRunner

    options = ["--spark_job_server_jar=server.jar"]
    assert isinstance(beam_pipeline([f"--runner={spark_runner.BEAMS_OWN}", *options]).runner, SparkRunner)
    assert isinstance(beam_pipeline(["--runner", "spark"]).runner, spark_runner.SparkRunner)
    with raises("bad-flag") as caught:
        beam_pipeline([*HERE, *options])
    assert "--spark_job_server_jar" in str(caught.value) and spark_runner.BEAMS_OWN in str(caught.value)


def test_pyspark_is_asked_for_in_one_line(
    photos: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, one_line: Callable[[], str]
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *where: None if name == "pyspark" else find(name, *where))
    assert main(["extract", str(photos), "--store", str(tmp_path / "store"), *small_backbone_flags(), *HERE]) == 2
    assert "pip install 'headstart[spark]'" in one_line()


def read(command: subprocess.Popen[str]) -> list[str]:
    """What a command that has ended said on the terminal, in lines."""
    out, told = command.communicate()
    assert out == ""
    return told.splitlines()


def shards(store: pathlib.Path) -> dict[str, bytes]:
    """The shards of a store, or of one that is being made, by name."""
    return {path.name: path.read_bytes() for path in store.rglob("*.tfrecord-*") if re.search(r"-of-\d+$", path.name)}


def when(there: Callable[[], bool], command: subprocess.Popen[str]) -> None:
    """Waits until something is so, while a command runs."""
    while not there():
        assert command.poll() is None, command.communicate()
        time.sleep(0.02)


@pytest.mark.slow
@needs_spark
def test_an_executor_that_is_killed_costs_nothing(tmp_path: pathlib.Path) -> None:
    """Photos on a master and two workers; at half the shards, one of the two executors is killed."""
    write_photos(tmp_path / "photos", {"train": dict(zip(CLASSES, (PHOTOS - 200, 100, 100)))})
    there, count = tmp_path / "there", PHOTOS // PER_SHARD
    flags = [*small_backbone_flags(), "--examples_per_shard", str(PER_SHARD)]
    with spark.cluster(tmp_path) as cluster:
        options = ["--runner", "SparkRunner", "--spark_master_url", cluster.master]
        command = spark.headstart("extract", "photos", "--store", "there", *flags, *options, cwd=tmp_path)  # relative paths
        when(lambda: len(shards(there)) >= count // 2, command)
        executors = cluster.executors()
        assert len(executors) == 2 and len(shards(there)) < count
        executors[0].kill()
        assert command.wait(timeout=300) == 0
        assert [line for line in read(command) if not line.startswith(OURS)] == []
    assert main(["extract", str(tmp_path / "photos"), "--store", str(tmp_path / "here"), *flags]) == 0
    here = shards(tmp_path / "here")
    assert len(here) == count and shards(there) == here


def noting(folder: pathlib.Path) -> subprocess.Popen[str]:
    """Starts a command that notes a hundred numbers in a folder."""
    code = f"""
import pathlib, signal
from headstart.features.interruption import run
from headstart.features.runtime import silence_library_logs

def body():
    silence_library_logs()
    import apache_beam as beam
    from headstart.pipelines.units.runner import beam_pipeline
    from tests.test_spark import HERE, Note

    with beam_pipeline(HERE) as pipeline:
        _ = pipeline | beam.Create(range(100)) | beam.ParDo(Note(pathlib.Path({str(folder)!r})))

signal.signal(signal.SIGINT, signal.default_int_handler)  # a process in the background has it ignored
raise SystemExit(run("headstart", body))
"""
    line, pipe = [sys.executable, "-c", code], subprocess.PIPE
    return subprocess.Popen(line, env=spark.ENVIRONMENT, stdout=pipe, stderr=pipe, text=True)


@needs_spark
def test_spark_that_does_not_start_is_told_in_one_line(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(spark.ENVIRONMENT, "JAVA_HOME", str(tmp_path))
    command = noting(tmp_path)
    assert command.wait(timeout=60) == 2
    (line,) = read(command)
    assert line.startswith("headstart: error: Spark does not start (") and "Java" in line


@pytest.mark.slow
@needs_spark
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_no_job_outlives_its_command(number: int, status: int, tmp_path: pathlib.Path) -> None:
    command = noting(tmp_path)
    when(lambda: len(os.listdir(tmp_path)) > 3, command)
    command.send_signal(number)
    assert command.wait(timeout=30) == status
    workers = {int(name.split()[1]) for name in os.listdir(tmp_path)}
    deadline = time.monotonic() + 30
    while any(map(psutil.pid_exists, workers)):
        assert time.monotonic() < deadline, "its workers go on"
        time.sleep(0.1)
    assert read(command) == ["headstart: interrupted; run the same command again to go on"] * (status == 130)
