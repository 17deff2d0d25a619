"""A Spark cluster for tests: a master and two workers of one core each, from the installed packages, on the loopback."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
import pathlib
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import psutil

ROOT = pathlib.Path(__file__).resolve().parent.parent
JAVAS = ("17", "21")  # that both Spark 3.5 and 4 run on
START_S = 60.0  # for a process of Spark's
LEAN = "-XX:+UseSerialGC -XX:TieredStopAtLevel=1"  # of Java: what matters is how soon it starts
EXECUTOR = "org.apache.spark.executor.CoarseGrainedExecutorBackend"
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": str(ROOT),
    "SPARK_LOCAL_IP": "127.0.0.1",
    "SPARK_DAEMON_JAVA_OPTS": LEAN,
    "PYSPARK_SUBMIT_ARGS": f"--executor-memory 512m --driver-java-options '{LEAN}' --conf spark.ui.enabled=false "
    f"--conf 'spark.executor.extraJavaOptions={LEAN}' pyspark-shell",
}


@functools.cache
def why_not() -> str:
    """Why there is no Spark here; '' where there is."""
    if importlib.util.find_spec("pyspark") is None:
        return "Spark needs the extra `spark`"
    home = os.environ.get("JAVA_HOME")
    with contextlib.suppress(OSError):
        java = subprocess.run(
            [f"{home}/bin/java" if home else "java", "-version"], capture_output=True, text=True, check=False
        )
        if (found := re.search(r'version "(\d+)', java.stderr)) and found[1] in JAVAS:
            return ""
    return f"Spark needs Java, {' or '.join(JAVAS)}"


@dataclass
class Cluster:
    """Its master's address, and the processes of its workers."""

    master: str
    workers: list[subprocess.Popen[bytes]]

    def executors(self) -> list[psutil.Process]:
        """The Java processes that run tasks."""
        found = []
        for worker in self.workers:
            for process in psutil.Process(worker.pid).children():
                with contextlib.suppress(psutil.Error):
                    found += [process] * (EXECUTOR in process.cmdline())
        return found


@contextlib.contextmanager
def cluster(folder: pathlib.Path) -> Iterator[Cluster]:
    """A cluster that works in a folder, and ends with the block."""
    processes = list[subprocess.Popen[bytes]]()

    def start(name: str, kind: str, *arguments: str) -> pathlib.Path:
        spark = pathlib.Path(importlib.util.find_spec("pyspark").submodule_search_locations[0])  # type: ignore
        line = [str(spark / "bin" / "spark-class"), f"org.apache.spark.deploy.{kind}", "--host", "127.0.0.1", *arguments]
        log = folder / f"{name}.log"
        with log.open("wb") as out:
            processes.append(subprocess.Popen(line, env=ENVIRONMENT, stdout=out, stderr=out, cwd=folder))
        return log

    try:
        log = start("master", "master.Master", "--port", "0", "--webui-port", "0")
        master = said(log, processes[0], r"Starting Spark master at (spark://\S+)")
        for name in ("one", "two"):
            start(name, "worker.Worker", "--webui-port", "0", "--cores", "1", "--memory", "1g", "--work-dir", name, master)
        for name, worker in zip(("one", "two"), processes[1:]):
            said(folder / f"{name}.log", worker, "Successfully registered with (master)")
        yield Cluster(master, processes[1:])
    finally:
        for process in reversed(processes):
            process.terminate()
        for process in processes:
            process.wait()


def said(log: pathlib.Path, process: subprocess.Popen[bytes], pattern: str) -> str:
    """What a process says sooner or later, in its log."""
    deadline = time.monotonic() + START_S
    while not (found := re.search(pattern, log.read_text(errors="replace"))):
        assert process.poll() is None and time.monotonic() < deadline, log.read_text(errors="replace")
        time.sleep(0.1)
    return found[1]


def headstart(*arguments: str, cwd: pathlib.Path) -> subprocess.Popen[str]:
    """Starts a command, whose workers are to run the Python that runs the tests."""
    line = [sys.executable, "-m", "headstart", *arguments]
    return subprocess.Popen(line, cwd=cwd, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
