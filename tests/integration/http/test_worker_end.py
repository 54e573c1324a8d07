"""A process under gunicorn: it says when it serves, ends when it is asked to or when it hangs, and has no master."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from gunicorn.arbiter import Arbiter

from bisnesctl import release
from services.http_server.watchdog import HUNG_STATUS
from tests.support.processes.http_process import CONFIG, ROOT, HttpServer, http_server
from tests.support.processes.servers import settings_in
from tests.support.waiting import HANG_SECONDS, wait_until

APP = "tests.support.processes.mortal_app:app"
IMPATIENT = "tests.support.processes.mortal_app:impatient_app"


@pytest.fixture
def server(tmp_path, database) -> Iterator[HttpServer]:
    with http_server(settings_in(tmp_path, DATABASE_URL=database), APP, "api", "/health") as found:
        yield found


def test_a_process_logs_once_that_it_serves(tmp_path, database, capfd: pytest.CaptureFixture[str]) -> None:
    said = ""

    def lines() -> list[str]:
        nonlocal said
        said += capfd.readouterr().out
        return [line for line in said.splitlines() if "event=http.ready" in line]

    with http_server(settings_in(tmp_path, DATABASE_URL=database), APP, "api", "/health") as server:
        wait_until(lines)
        server.stop()
    [line] = lines()
    assert f"level=info event=http.ready instance=api address=127.0.0.1:{server.port}" in line
    assert str(release.installed()) in line


def test_an_instance_is_one_process(server: HttpServer) -> None:
    assert psutil.Process(server.process.pid).children(recursive=True) == []


@pytest.mark.parametrize("status", [0, 1, 77])
def test_a_process_has_the_exit_status_of_its_application(server: HttpServer, status: int) -> None:
    server.ask(f"GET /exit/{status} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert server.process.wait(HANG_SECONDS) == status


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP])
def test_a_stop_is_a_clean_end(tmp_path, server: HttpServer, signum: signal.Signals) -> None:
    heartbeat = settings_in(tmp_path).heartbeat_dir / "api.json"
    assert heartbeat.exists()
    server.process.send_signal(signum)
    assert server.process.wait(HANG_SECONDS) == 0
    assert not heartbeat.exists()


def test_a_signal_to_start_a_second_master_does_nothing(server: HttpServer) -> None:
    server.process.send_signal(signal.SIGUSR2)
    assert b"ok" in server.ask(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert psutil.Process(server.process.pid).children() == []


def test_a_process_that_cannot_serve_fails(tmp_path, database) -> None:
    settings = settings_in(tmp_path, DATABASE_URL=database)
    done = subprocess.run(
        [sys.executable, "-m", "gunicorn", "-c", CONFIG, "-b", "127.0.0.1:0", "tests.support.processes.mortal_app:no"],
        env=os.environ | {"BISNES_ENV": str(settings.env_file)}, cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == Arbiter.WORKER_BOOT_ERROR
    assert "Failed to find attribute 'no'" in done.stderr


@pytest.fixture
def errors(tmp_path: Path) -> Path:
    """The standard error of the process."""
    return tmp_path / "errors"


def test_an_event_loop_that_hangs_is_the_end(tmp_path, database, errors: Path) -> None:
    settings = settings_in(tmp_path, DATABASE_URL=database)
    with errors.open("w") as stream, http_server(settings, IMPATIENT, "api", "/health", stream) as server:
        with server.connect(b"GET /hang HTTP/1.1\r\nHost: x\r\n\r\n"):
            assert server.process.wait(4 * HANG_SECONDS) == HUNG_STATUS
        heartbeat = json.loads((settings.heartbeat_dir / "api.json").read_text())
    assert "in __call__" in errors.read_text()  # where it hung
    assert heartbeat["pid"] == server.process.pid


@pytest.mark.parametrize("hang", ["/slow", "/hang"])
def test_a_request_that_never_ends_does_not_prevent_a_stop(tmp_path, database, errors: Path, monkeypatch, hang) -> None:
    monkeypatch.setenv("GUNICORN_CMD_ARGS", "--graceful-timeout 2")
    settings = settings_in(tmp_path, DATABASE_URL=database)
    with (
        errors.open("w") as stream,
        http_server(settings, APP, "api", "/health", stream) as server,
        server.connect(f"GET {hang} HTTP/1.1\r\nHost: x\r\n\r\n".encode()),
    ):
        wait_until(lambda: f"begin {hang}" in errors.read_text())
        server.process.terminate()
        assert server.process.wait(4 * HANG_SECONDS) == 1
    assert "mortal_app.py" in errors.read_text()


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP])
def test_a_stop_ends_a_process_that_is_not_ready(tmp_path, database, signum: signal.Signals) -> None:
    """gunicorn itself would queue the signal for a master."""
    slow = tmp_path / "slow.py"
    slow.write_text(
        "import time\nfrom services.gunicorn_conf import *\n"
        "def when_ready(server):\n    print('starting', flush=True)\n    time.sleep(3600)\n"
    )
    settings = settings_in(tmp_path, DATABASE_URL=database)
    with subprocess.Popen(
        [sys.executable, "-m", "gunicorn", "-c", str(slow), "-b", "127.0.0.1:0", APP],
        env=os.environ | {"BISNES_ENV": str(settings.env_file)}, cwd=ROOT, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "starting\n"
            process.send_signal(signum)
            assert process.wait(HANG_SECONDS) == -signum
        finally:
            process.kill()


def test_the_legacy_process_which_nobody_restarts_replaces_its_worker(tmp_path, database) -> None:
    with http_server(settings_in(tmp_path, DATABASE_URL=database), APP, "legacy", "/health") as server:
        before = server.worker
        before.kill()
        wait_until(lambda: not before.is_running() and server.worker.pid != before.pid)
        wait_until(lambda: b"ok" in server.ask(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"))
        assert server.process.poll() is None
