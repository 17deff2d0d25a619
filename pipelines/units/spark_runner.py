"""A small Beam runner over PySpark: `Create(elements) | ParDo(DoFn)` in, one Spark job with a task for each element out.

It runs nothing else, and says so: Beam's own runner for Spark, which needs a job server, runs any pipeline. What the DoFn
yields is dropped: the pipelines of this room leave what they make in the store. The package beam-pyspark-runner does the like,
but takes no Beam other than 2.48, makes one task of up to a hundred elements, and passes over steps that it does not know.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import inspect
import os
import re
import signal
import sys
import tempfile
import threading
import uuid
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, Any

import apache_beam as beam
from apache_beam.internal import pickler
from apache_beam.options.pipeline_options import PipelineOptions, SparkRunnerOptions
from apache_beam.runners.runner import PipelineResult, PipelineRunner, PipelineState

from headstart.features import runtime
from headstart.features.errors import UserError

BEAMS_OWN = "apache_beam.runners.portability.spark_runner.SparkRunner"
OF_BEAMS_OWN = {"--spark_job_server_jar", "--spark_submit_uber_jar", "--spark_rest_url", "--spark_version"}
OTHER_PYTHON = ("Cannot run program", "ModuleNotFoundError: ", "PYTHON_VERSION_MISMATCH")  # what Spark says of its workers'
TRACEBACK = "Traceback (most recent call last)"


class SparkRunner(PipelineRunner):
    """Runs a pipeline on the cluster that a flag, spark-submit or Spark's configuration names.

    Args:
        master: such as spark://HOST:7077; None: what Spark's configuration says, or else all cores of this machine.

    Raises:
        UserError: when PySpark is not installed.
    """

    def __init__(self, master: str | None) -> None:
        if importlib.util.find_spec("pyspark") is None:
            raise UserError("not-available", "--runner SparkRunner needs a package: pip install 'headstart[spark]'")
        self.master = master

    def run_pipeline(self, pipeline: beam.Pipeline, options: PipelineOptions) -> PipelineResult:
        """Runs it to its end.

        Raises:
            UserError: when Spark does not start, its workers can't run headstart, or the pipeline is another.
            RuntimeError: with the traceback of a worker.
        """
        elements, fn = _create_and_pardo(pipeline)
        if elements:
            task = functools.partial(run_bundle, pickler.dumps(fn))
            with _context(self.master) as spark, _worker_errors(), _cancelled_with_its_block(spark):
                mistakes = spark.parallelize(elements, len(elements)).mapPartitions(task).collect()
            if mistakes:
                raise mistakes[0]
        return _Done(PipelineState.DONE)


class _Done(PipelineResult):
    def wait_until_finish(self, duration: int | None = None) -> str:
        return str(self.state)


def spark_runner(options: Sequence[str], parsed: PipelineOptions) -> SparkRunner:
    """The runner that Beam's flags ask for.

    Args:
        options: as on a command line; they tell whether a master was named, for Beam has a default.
        parsed: the same.

    Raises:
        UserError: for flags of Beam's own runner, which this one would not read, or when PySpark is not installed.
    """
    named = {option.partition("=")[0] for option in options}
    if theirs := named & OF_BEAMS_OWN:
        raise UserError("bad-flag", f"{min(theirs)} goes with Beam's own runner for Spark: --runner {BEAMS_OWN}")
    master = parsed.view_as(SparkRunnerOptions).spark_master_url
    return SparkRunner(master if "--spark_master_url" in named else None)


def _create_and_pardo(pipeline: beam.Pipeline) -> tuple[Sequence[Any], beam.DoFn]:
    """The elements and the DoFn of a pipeline of these two steps, whose `process` takes elements, and no state or window."""
    match [node.transform for node in pipeline.transforms_stack[0].parts]:
        case [beam.Create() as create, beam.ParDo() as pardo] if not (pardo.args or pardo.kwargs or pardo.side_inputs):
            if len(inspect.signature(pardo.fn.process).parameters) == 1:
                return create.values, pardo.fn
    raise UserError(
        "not-available",
        f"--runner SparkRunner runs Create | ParDo of elements alone, and this pipeline is another: take --runner {BEAMS_OWN}",
    )


@contextlib.contextmanager
def _context(master: str | None) -> Iterator[Any]:
    """The SparkContext of this process: its host's, or one that is stopped afterwards."""
    from pyspark import SparkConf, SparkContext

    if SparkContext._active_spark_context:
        yield SparkContext._active_spark_context
        return
    conf = SparkConf().setAppName("headstart").set("spark.ui.showConsoleProgress", "false")
    if master:
        conf.setMaster(master)
    with _starting() as log:  # in a process that had a context before, its Java is there still
        spark = SparkContext(conf=conf, gateway=SparkContext._gateway or _start_java(conf, log))
    try:
        if "PYSPARK_PYTHON" not in os.environ:  # Spark's default is whatever python3 is on the workers' path
            spark.pythonExec = sys.executable
        yield spark
    finally:
        spark.stop()


@contextlib.contextmanager
def _starting() -> Iterator[IO[bytes]]:
    """A file for what Java says, which tells why Spark did not start. Signals stay whose they were: PySpark takes Ctrl-C's."""
    from py4j.protocol import Py4JJavaError

    handler, is_main = signal.getsignal(signal.SIGINT), threading.current_thread() is threading.main_thread()
    with tempfile.TemporaryFile() as log:
        try:
            yield log
        except Py4JJavaError as error:
            reason = error.java_exception.getMessage().splitlines()[0]
            raise UserError("not-available", f"Spark does not start: {reason}") from error
        except Exception as error:
            log.seek(0)
            said = log.read().decode(errors="replace").splitlines() or [str(error)]
            reason = next((line for line in said if "rror" in line or "Exception" in line), said[0]).strip()
            raise UserError(
                "not-available", f"Spark does not start ({reason}); it needs Java on the path, or in JAVA_HOME"
            ) from error
        finally:
            if is_main:
                signal.signal(signal.SIGINT, handler)


def _start_java(conf: Any, log: IO[bytes]) -> Any:
    """Starts Spark's Java, which ends with this process. What it says goes to a file, or with --verbose to the terminal."""
    from pyspark.java_gateway import launch_gateway

    return launch_gateway(conf, {} if runtime.is_verbose() else {"stdout": log, "stderr": log})


@contextlib.contextmanager
def _cancelled_with_its_block(spark: Any) -> Iterator[None]:
    """Cancels what was started in the block, and nothing of the host's, when the block ends early."""
    tag = f"headstart-{uuid.uuid4()}"
    spark.addJobTag(tag)
    try:
        yield
    except BaseException:
        with contextlib.suppress(Exception):  # Java may be gone
            spark.cancelJobsWithTag(tag)
        raise
    finally:
        with contextlib.suppress(Exception):
            spark.removeJobTag(tag)


@contextlib.contextmanager
def _worker_errors() -> Iterator[None]:
    """A worker's traceback, out of a hundred lines of Java's."""
    from py4j.protocol import Py4JError, Py4JJavaError

    try:
        yield
    except Py4JJavaError as error:
        raise _without_java(error.java_exception.getMessage()) from None
    except Py4JError as error:
        raise UserError(
            "worker-failed", "Spark has ended: run the same command again to go on, --verbose tells more"
        ) from error


def _without_java(message: str) -> Exception:
    """What Spark says of a job that failed, as the error to raise."""
    told = re.split(r"\n(?:\tat | SQLSTATE: )", message)[0].strip()
    lines = told.splitlines()
    if reason := next((line for line in reversed(lines) if any(sign in line for sign in OTHER_PYTHON)), ""):
        return UserError(
            "worker-failed",
            f"Spark's workers can't run headstart ({reason}): install it, with all it needs, for a Python of theirs, and name "
            f"that one in PYSPARK_PYTHON",
        )
    if TRACEBACK in told:
        return RuntimeError(TRACEBACK + told.partition(TRACEBACK)[2])
    return UserError("worker-failed", f"Spark has given up ({lines[-1]}): does the cluster answer? --verbose tells more")


# Of this worker process: tasks come one after the other.
_ready: tuple[bytes, beam.DoFn] | None = None
_mistake: tuple[bytes, UserError] | None = None


def run_bundle(pickled: bytes, elements: Iterable[Any]) -> list[UserError]:
    """A task: elements through a DoFn, which is set up once a worker process and kept until one fails or another comes.

    Args:
        pickled: the DoFn, as Beam pickles it.
        elements: what its `process` takes.

    Returns:
        A user's mistake, if there is one. Spark would try again what it is raised from, and this process the next task, with
        the same end.
    """
    global _mistake
    if not (_mistake and _mistake[0] == pickled):
        try:
            _run(pickled, elements)
            return []
        except UserError as error:
            _mistake = pickled, error
    deque(elements, 0)  # a process that leaves some of them is not used again
    return [_mistake[1]]


def _run(pickled: bytes, elements: Iterable[Any]) -> None:
    fn = _set_up(pickled)
    try:
        fn.start_bundle()
        for element in elements:
            for _ in fn.process(element) or ():
                pass
        fn.finish_bundle()
    except BaseException:
        _tear_down()
        raise


def _set_up(pickled: bytes) -> beam.DoFn:
    global _ready
    if _ready and _ready[0] == pickled:
        return _ready[1]
    _tear_down()
    fn = pickler.loads(pickled)
    fn.setup()
    _ready = pickled, fn
    return fn


def _tear_down() -> None:
    global _ready
    if _ready:
        _, fn = _ready
        _ready = None
        fn.teardown()
