"""A process under gunicorn: its master ends as its worker did, and its worker says when it serves."""

import os
import signal
from collections.abc import Iterator

import pytest

from bisnesctl import release
from tests.support.processes.http_process import HttpServer, http_server
from tests.support.processes.servers import settings_in
from tests.support.waiting import HANG_SECONDS, wait_until

APP = "tests.support.processes.mortal_app:app"


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


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT])
def test_the_master_ends_by_the_signal_that_killed_its_worker(server: HttpServer, signum: signal.Signals) -> None:
    worker = server.worker
    worker.send_signal(signum)
    assert server.process.wait(HANG_SECONDS) == -signum
    assert not worker.is_running()


@pytest.mark.parametrize("status", [0, 1, 77])
def test_the_master_ends_with_the_exit_status_of_its_worker(server: HttpServer, status: int) -> None:
    server.ask(f"GET /exit/{status} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert server.process.wait(HANG_SECONDS) == status


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_a_stop_is_a_clean_end(server: HttpServer, signum: signal.Signals) -> None:
    server.process.send_signal(signum)
    assert server.process.wait(HANG_SECONDS) == 0


def test_a_worker_that_is_asked_to_end_is_replaced(server: HttpServer) -> None:
    """As gunicorn does on SIGHUP."""
    before = server.worker
    server.process.send_signal(signal.SIGHUP)
    wait_until(lambda: not before.is_running() and server.worker.pid != before.pid)
    wait_until(lambda: b"ok" in server.ask(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"))
    os.kill(server.worker.pid, signal.SIGKILL)
    assert server.process.wait(HANG_SECONDS) == -signal.SIGKILL


def test_a_worker_that_gives_no_sign_of_life_is_the_end(tmp_path, database, monkeypatch) -> None:
    monkeypatch.setenv("GUNICORN_CMD_ARGS", "--timeout 2")
    with http_server(settings_in(tmp_path, DATABASE_URL=database), APP, "api", "/health") as server:
        server.worker.suspend()
        assert server.process.wait(4 * HANG_SECONDS) in (-signal.SIGABRT, -signal.SIGKILL)


def test_the_legacy_process_which_nobody_restarts_replaces_its_worker(tmp_path, database) -> None:
    with http_server(settings_in(tmp_path, DATABASE_URL=database), APP, "legacy", "/health") as server:
        before = server.worker
        before.kill()
        wait_until(lambda: not before.is_running() and server.worker.pid != before.pid)
        wait_until(lambda: b"ok" in server.ask(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"))
        assert server.process.poll() is None
