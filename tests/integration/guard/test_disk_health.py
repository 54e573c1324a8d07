"""Health sees disks that are nearly full, or that take nothing."""

import contextlib
import json
import os
import tempfile
import time

import pytest

from bisnesctl import paths
from bisnesctl.__main__ import main
from bisnesctl.health import guard_file, probes
from bisnesctl.health.probes import Status
from bisnesctl.host import volumes
from bisnesctl.processes.deployment import make_folders, record_start
from bisnesctl.processes.supervisor import Process
from bisnesctl.processes.topology import Instance, Mode, program
from bisnesctl.terminal import output
from tests.support.api import KEY, add_company, settings_for
from tests.support.api import api as serve
from tests.support.processes.disks import again_in_a_namespace, mounts, small_disk
from tests.support.processes.servers import settings_in


def test_again_in_a_namespace_unless_root():
    again_in_a_namespace(__file__, "not upload")


@pytest.fixture
def small(tmp_path):
    with small_disk(tmp_path / "disk", megabytes=32, inodes=200) as found:
        yield found


@pytest.fixture
def home(small, tmp_path):
    """Settings whose home, and nothing else, is on the small disk."""
    settings = settings_in(
        tmp_path, BISNES_HOME=str(small.folder / "var"), DATABASE_URL="postgresql://127.0.0.1:1/x",
        REDIS_URL="redis://127.0.0.1:1",
    )  # fmt: skip
    make_folders(settings)
    return settings


def of_home(settings, small):
    """The trouble that is reported for the small disk."""
    found = {each.mount: each for each in volumes.troubled(settings)}
    return found.get(str(small.folder))


@mounts
def test_a_disk_with_space_is_fine_and_keeps_no_test_file(home, small):
    assert of_home(home, small) is None
    assert not list(small.folder.rglob(".write-test*"))


@mounts
@pytest.mark.parametrize(("left", "critical"), [(2 << 20, False), (300 << 10, True)])
def test_a_disk_that_is_nearly_full_is_reported(home, small, left, critical):
    small.fill()
    with (small.folder / "ballast").open("r+b") as ballast:
        ballast.truncate(os.fstat(ballast.fileno()).st_size - left)
    trouble = of_home(home, small)
    assert (trouble.critical, "free of 32 MB" in trouble.reason) == (critical, True)
    assert "BISNES_HOME" in trouble.reason


@mounts
@pytest.mark.parametrize(("how", "words"), [("full", "the disk is full"), ("read-only", "read-only"),
                                            ("inodes", "no inode free")])  # fmt: skip
def test_a_disk_that_cannot_be_written_is_critical(home, small, how, words):
    if how == "full":
        small.fill()
    elif how == "read-only":
        small.read_only()
    else:
        with contextlib.suppress(OSError):
            for number in range(1000):
                (small.folder / f"file{number}").touch()
    trouble = of_home(home, small)
    assert trouble.critical
    assert words in trouble.reason


@mounts
def test_a_disk_that_is_low_on_inodes_is_reported(home, small):
    with contextlib.suppress(OSError):
        for number in range(1000):
            (small.folder / f"file{number}").touch()
    for number in range(12):
        (small.folder / f"file{number}").unlink()
    assert "inodes free of 200" in of_home(home, small).reason


@mounts
def test_the_disk_of_the_embedded_postgresql_is_checked(tmp_path):
    settings = settings_in(tmp_path, BISNES_HOME=str(tmp_path / "var"))
    with small_disk(tmp_path / "pg") as small:
        data = paths.postgres_data(settings.server_home)
        assert volumes.folders(settings)["PostgreSQL"] == data
        moved = settings_in(tmp_path, BISNES_HOME=str(small.folder))
        data = paths.postgres_data(small.folder)
        data.mkdir()
        small.fill()
        assert of_home(moved, small).critical


@mounts
def test_health_and_status_report_a_full_disk(home, small, monkeypatch, capsys):
    monkeypatch.setenv("BISNES_ENV", str(home.env_file))
    record_start(home.run_dir, Mode.MULTIPROCESS, False, ())
    small.fill()
    for console in (output.out, output.err):
        console.cache_clear()
    capsys.readouterr()
    assert main(["health", "--probe"]) == 2
    said = capsys.readouterr().out
    assert said.startswith("BISNES CRITICAL - ")
    assert f"disk {small.folder} unhealthy" in said
    assert "the disk is full" in said
    assert main(["health", "--json"]) == 5
    assert json.loads(capsys.readouterr().out)["disks"][0]["status"] == "unhealthy"
    main(["status"])
    assert "the disk is full" in " ".join(capsys.readouterr().out.split())
    for console in (output.out, output.err):
        console.cache_clear()


@mounts
def test_a_process_that_cannot_write_its_heartbeat_is_degraded(home, small):
    instance = Instance("meta-worker-1", program("meta-worker"), "meta-worker-1")
    process = Process("meta-worker-1", "meta-worker-1", "RUNNING", os.getpid(), "", 0, 1000.0, 0.0)
    beat = {
        "pid": os.getpid(), "process": "meta", "status": "healthy",
        "beat_boottime": time.clock_gettime(time.CLOCK_BOOTTIME) - 9999,
    }  # fmt: skip
    (home.heartbeat_dir / "meta-worker-1.json").write_text(json.dumps(beat))
    guard = guard_file.GuardStatus("", {})
    assert probes.probe(instance, process, guard, home).status is Status.UNHEALTHY
    small.read_only()
    health = probes.probe(instance, process, guard, home)
    assert health.status is Status.DEGRADED
    assert "read-only" in health.reason


@mounts
def test_an_upload_that_finds_no_space_is_a_503(small, database, tmp_path, monkeypatch):
    add_company(database)
    with serve(settings_for(database, tmp_path)) as (_, client):
        small.fill()
        monkeypatch.setattr(tempfile, "tempdir", str(small.folder))
        part = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\n\r\n'
        answer = client.post(
            "/api/v2/messages/image/0128/60123456789", data=part + b"\xff\xd8\xff" + bytes(3 << 20) + b"\r\n--x--\r\n",
            headers={"X-Api-Key": KEY}, content_type="multipart/form-data; boundary=x",
        )  # fmt: skip
    assert (answer.status_code, answer.get_json()["code"]) == (503, "media_unavailable")
    assert "space" in answer.get_json()["error"]
