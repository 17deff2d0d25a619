"""Workers that share no folder with their driver, as Dataflow's do: photos, store and network lie in an object store."""

from __future__ import annotations

import pathlib
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

pytest.importorskip("obstore", reason="object stores need the extra `remote`")
pytest.importorskip("moto", reason="an S3 server for tests comes with the extra `test`")

from headstart.cli import main
from headstart.features.places import place
from headstart.features.runtime import CACHE
from headstart.pipelines.units import run_units
from tests.conftest import extracted, small_backbone_flags
from tests.proxy import Server
from tests.servers import BUCKET, s3
from tests.test_remote import put_folder, shards

ROOT = pathlib.Path(__file__).resolve().parent.parent
APART = ["unshare", "--mount", "--map-root-user", "sh", "-c"]


@pytest.fixture(scope="module")
def running() -> Iterator[Server]:
    with s3() as server:
        yield server


@pytest.fixture
def pool(
    running: Server, tmp_path: pathlib.Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[list[str]]:
    """Starts worker processes in a mount namespace where the folder that all of the driver's are in is empty; Beam's flags."""
    hidden = tmp_path_factory.getbasetemp()
    hide = f"mount -t tmpfs none '{hidden}'"
    if not shutil.which("unshare") or subprocess.run([*APART, hide], check=False, stderr=subprocess.DEVNULL).returncode:
        pytest.skip("this machine allows no mount namespaces")
    for name, value in {**running.environment, CACHE: str(tmp_path / "cache")}.items():
        monkeypatch.setenv(name, value)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    worker = f"{sys.executable} -m apache_beam.runners.worker.worker_pool_main --service_port {port}"
    environment = {
        **running.environment,
        "PATH": f"{pathlib.Path(sys.executable).parent}:/usr/bin:/bin",
        "HOME": "/nonexistent",
        "PYTHONPATH": str(ROOT),
        CACHE: str(hidden / "cache"),
    }
    process = subprocess.Popen([*APART, f"{hide} && cd / && exec {worker}"], env=environment, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with socket.socket() as ready:
            if not ready.connect_ex(("127.0.0.1", port)):
                break
        assert process.poll() is None, "the workers' process has ended"
        time.sleep(0.1)
    yield [
        *("--runner", "PortableRunner", "--job_endpoint", "embed", "--environment_type", "EXTERNAL"),
        *("--environment_config", f"127.0.0.1:{port}", "--sdk_worker_parallelism", "2"),
    ]
    process.kill()
    process.wait()
    running.empty()


@pytest.mark.slow
def test_workers_that_share_no_folder_make_the_same_store(
    pool: list[str], photos: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    source, url, flags = put_folder(photos, f"s3://{BUCKET}/photos"), f"s3://{BUCKET}/store", small_backbone_flags()
    place.write(f"s3://{BUCKET}/base.keras", pathlib.Path(flags[1]).read_bytes())
    flags[1] = f"s3://{BUCKET}/base.keras"
    assert main(["extract", source, "--store", url, *flags, *pool]) == 0
    assert shards(url) == shards(str(extracted(photos, tmp_path / "here")))


@pytest.mark.slow
def test_workers_that_never_begin_are_told_of(
    photos: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from headstart.pipelines.units import write_unit

    original = write_unit.load_unit

    def late(work: str, shard: str) -> object:
        time.sleep(1.5)
        return original(work, shard)

    monkeypatch.setattr(run_units, "SILENCE_S", 0.2)
    monkeypatch.setattr(run_units, "POLL_S", 0.1)
    monkeypatch.setattr(write_unit, "load_unit", late)
    extracted(photos, tmp_path / "store")
    told = capsys.readouterr().err
    assert told.count("warning: no worker has begun a unit") == 1
