"""The health of a process, from supervisord's state and its heartbeat; and the verdict on all."""

import contextlib
import http.server
import json
import os
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from bisnesctl.health.guard_file import GuardDecision, GuardStatus
from bisnesctl.health.inspection import mild_redis
from bisnesctl.health.probes import Health, Status, endpoint, probe
from bisnesctl.health.verdict import HealthFinding, Verdict, judge
from bisnesctl.processes.supervisor import Process
from bisnesctl.processes.topology import expand
from tests.support.processes.servers import settings_in

ON_DUTY = GuardStatus("", {})


def worker_health(
    folder: Path, state: str = "RUNNING", pid: int = 7, beat: dict[str, Any] | None = None, uptime: float = 100,
    guard: GuardStatus = ON_DUTY,
) -> Health:  # fmt: skip
    """The health of a worker in that state with this last heartbeat."""
    settings = settings_in(folder, MAX_HEARTBEAT_AGE="5000")
    [worker] = [each for each in expand(settings) if each.name == "meta-worker-1"]
    if beat is not None:
        settings.heartbeat_dir.mkdir(parents=True, exist_ok=True)
        (settings.heartbeat_dir / "meta-worker-1.json").write_text(json.dumps(beat))
    return probe(worker, Process("meta-worker-1", "meta-worker-1", state, pid, "", 3, uptime), guard, settings)


def beat(**changes: Any) -> dict[str, Any]:
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    return {"pid": 7, "process": "meta", "status": "healthy", "reason": None, "beat_boottime": now} | changes


@contextlib.contextmanager
def answering(status: int, body: bytes) -> Iterator[int]:
    """The port of a program with one answer to everything."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (200, b'{"success": true, "process": "meta"}', ""),
        (200, b'{"success": true, "process": "api"}', "api of bisnesctl answers on port"),
        (200, b'{"status": "ok"}', "another program answers on port"),
        (200, b"<html>", "another program answers on port"),
        (200, b"[]", "another program answers on port"),
        (404, b'{"error": "x", "process": "api"}', "api of bisnesctl answers on port"),
        (503, b'{"success": false, "error": "the database is unavailable"}', "the database is unavailable"),
        (404, b"", "another program answers on port"),
    ],
)
def test_only_an_answer_that_names_the_process_counts(tmp_path: Path, status: int, body: bytes, reason: str) -> None:
    with answering(status, body) as port:
        settings = settings_in(tmp_path, META_PORT=str(port))
        [meta] = [each for each in expand(settings) if each.name == "meta"]
        health = probe(meta, Process("meta", "meta", "RUNNING", 7, "", 0, 100), ON_DUTY, settings, timeout=30)
    assert health.reason.startswith(reason)
    assert health.healthy == (not reason)


def test_a_fresh_heartbeat_of_this_process_is_healthy(tmp_path: Path) -> None:
    assert worker_health(tmp_path, beat=beat()).healthy


def test_a_new_process_has_time_to_start(tmp_path: Path) -> None:
    assert worker_health(tmp_path, beat=beat(), uptime=1).healthy
    assert worker_health(tmp_path, pid=8, uptime=1).status is Status.STARTING
    assert worker_health(tmp_path, pid=8, uptime=11).status is Status.UNHEALTHY


def test_the_heartbeat_may_come_from_a_child_of_a_shim(tmp_path: Path) -> None:
    assert worker_health(tmp_path, pid=os.getppid(), beat=beat(pid=os.getpid())).healthy
    assert not worker_health(tmp_path, pid=os.getpid(), beat=beat(pid=os.getppid())).healthy


def test_the_heartbeat_of_a_predecessor_does_not_count(tmp_path: Path) -> None:
    assert worker_health(tmp_path, beat=beat(pid=6)).status is Status.UNHEALTHY


def test_an_old_heartbeat_is_not_healthy(tmp_path: Path) -> None:
    old = beat(beat_boottime=time.clock_gettime(time.CLOCK_BOOTTIME) - 6)
    assert worker_health(tmp_path, beat=old) == Health(Status.UNHEALTHY, "no heartbeat for 6 s")


def test_a_degraded_process_says_why(tmp_path: Path) -> None:
    assert worker_health(tmp_path, beat=beat(status="degraded", reason="no database")) == Health(
        Status.DEGRADED, "no database"
    )


@pytest.mark.parametrize(("state", "status"), [("STOPPED", Status.STOPPED), ("BACKOFF", Status.FAILING)])
def test_the_state_in_supervisord_counts_if_nothing_runs(tmp_path: Path, state: str, status: Status) -> None:
    assert worker_health(tmp_path, state, beat=beat()).status is status


@pytest.mark.parametrize(
    ("decision", "status"), [("restart", Status.FAILING), ("block", Status.BLOCKED), ("fail", Status.FAILED)]
)
def test_the_decision_of_the_guard_counts_for_a_process_that_ended(
    tmp_path: Path, decision: str, status: Status
) -> None:
    guard = GuardStatus("", {"meta-worker-1": GuardDecision(decision, "because", 2)})
    assert worker_health(tmp_path, "EXITED", beat=beat(), guard=guard) == Health(status, "because", 2)


def test_a_process_without_a_decision_yet_is_failing(tmp_path: Path) -> None:
    assert worker_health(tmp_path, "EXITED") == Health(Status.FAILING, "ended with exit status 3")


def test_a_process_that_ended_has_failed_if_the_guard_is_down(tmp_path: Path) -> None:
    health = worker_health(tmp_path, "EXITED", guard=GuardStatus("the guard is down", {}))
    assert health == Health(Status.FAILED, "ended with exit status 3; it is not restarted: the guard is down")


def test_a_heartbeat_of_before_the_boot_is_none_of_this_process(tmp_path: Path) -> None:
    earlier = beat(beat_boottime=time.clock_gettime(time.CLOCK_BOOTTIME) + 1000)
    assert worker_health(tmp_path, beat=earlier) == Health(Status.UNHEALTHY, "no heartbeat yet")


@pytest.mark.parametrize(
    ("statuses", "verdict"),
    [
        ([Status.HEALTHY, Status.HEALTHY], Verdict.OK),
        ([Status.HEALTHY, Status.STOPPED], Verdict.WARNING),
        ([Status.DEGRADED, Status.UNHEALTHY, Status.HEALTHY], Verdict.CRITICAL),
        ([], Verdict.UNKNOWN),
    ],
)
def test_the_verdict_is_the_worst(statuses: list[Status], verdict: Verdict) -> None:
    findings = [HealthFinding(f"p{number}", Health(status)) for number, status in enumerate(statuses)]
    assert judge(findings) is verdict


@contextlib.contextmanager
def server(status: int, body: bytes) -> Iterator[str]:
    """A server that gives one answer; yields its URL."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    found = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=found.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{found.server_port}"
    finally:
        found.shutdown()
        found.server_close()


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [(200, b"anything", ""), (204, b"", ""), (503, b'{"error": "no database"}', "no database"), (404, b"", "404")],
)
def test_an_endpoint_is_healthy_if_it_answers_with_success(status: int, body: bytes, expected: str) -> None:
    with server(status, body) as url:
        health = endpoint(f"{url}/health?deep=1")
    assert health.healthy is (expected == "")
    assert expected in health.reason


@pytest.mark.parametrize("status", [Status.UNHEALTHY, Status.DOWN, Status.FAILING])
def test_a_redis_that_does_not_answer_is_a_warning(status: Status) -> None:
    assert HealthFinding("redis", mild_redis(Health(status, "frozen"))).verdict is Verdict.WARNING


@pytest.mark.parametrize("status", [Status.HEALTHY, Status.STOPPED, Status.FAILED])
def test_other_states_of_redis_stay(status: Status) -> None:
    assert mild_redis(Health(status, "so")) == Health(status, "so")


@pytest.mark.parametrize("state", ["STOPPED", "EXITED", "FATAL"])
def test_an_evaluator_of_alerts_that_does_not_run_says_what_is_missing(tmp_path: Path, state: str) -> None:
    settings = settings_in(tmp_path)
    [alerts] = [each for each in expand(settings) if each.name == "alerts"]
    health = probe(alerts, Process("alerts", "alerts", state, 0, "", 1), ON_DUTY, settings)
    assert "nothing sends alerts" in health.reason
    assert not health.healthy
