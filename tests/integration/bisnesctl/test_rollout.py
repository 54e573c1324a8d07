"""Settings that change while a deployment runs: restarts in turn, extra instances, drift, and stops on purpose."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from tests.support.deployment import Deployment, free_ports
from tests.support.waiting import HANG_SECONDS, wait_until


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    made = Deployment(tmp_path_factory.mktemp("rollout"), HEARTBEAT_INTERVAL="1000", META_INSTANCES="1")
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def running(deployment: Deployment) -> Iterator[Deployment]:
    """The deployment with everything healthy; its settings are as before after the test."""
    env_file = deployment.folder / ".env"
    text, environment = env_file.read_text(), dict(deployment.environment)
    deployment.run("start", "--multiprocess", "--sandbox")
    yield deployment
    env_file.write_text(text)
    deployment.environment = environment


def change(deployment: Deployment, **variables: str) -> None:
    """Set these in the .env."""
    env_file = deployment.folder / ".env"
    kept = [line for line in env_file.read_text().splitlines() if line.partition("=")[0] not in variables]
    env_file.write_text("\n".join([*kept, *(f"{name}={value}" for name, value in variables.items()), ""]))


@contextlib.contextmanager
def traffic(*urls: str) -> Iterator[list[Any]]:
    """Requests to these addresses in turn, each of which one of them must answer; yields what they came to."""
    answers: list[Any] = []
    done = threading.Event()

    def ask() -> Any:
        for url in (*urls, *urls):  # a connection may be closed under a request that was not read yet
            with contextlib.suppress(requests.ConnectionError):
                return requests.get(f"{url}/health/live", timeout=HANG_SECONDS).status_code
        return None

    def ask_on() -> None:
        while not done.is_set():
            answers.append(ask())

    thread = threading.Thread(target=ask_on)
    thread.start()
    try:
        yield answers
    finally:
        done.set()
        thread.join()


def probe(deployment: Deployment) -> tuple[int, str]:
    done = deployment.run("health", "--probe", check=False)
    return done.returncode, done.stdout


def test_more_instances_start_before_the_others_are_restarted_in_turn(running: Deployment) -> None:
    before = running.status()
    change(running, API_INSTANCES="3")
    assert "the settings have it since they changed" in running.status()["api-2"]["reason"]
    with traffic(running.api) as answers:
        running.run("restart", "api")
    after = running.status()
    assert set(answers) == {200}
    assert {name: after[name]["status"] for name in ("api-0", "api-1", "api-2")} == dict.fromkeys(
        ("api-0", "api-1", "api-2"), "healthy"
    )
    assert before["api-0"]["pid"] != after["api-0"]["pid"]
    assert before["events"]["pid"] == after["events"]["pid"]
    change(running, API_INSTANCES="2")
    assert running.status()["api-2"]["status"] == "extra"
    with traffic(running.api) as answers:
        done = running.run("restart", "api")
    assert set(answers) == {200}
    assert "stopping api-2, which the settings do not have" in done.stderr
    assert "api-2" not in running.status()


def test_a_new_port_is_served_before_the_old_one_is_given_up(running: Deployment) -> None:
    [port] = free_ports(1)
    old, new = running.api, f"http://127.0.0.1:{port}"
    change(running, API_PORT=str(port))
    code, line = probe(running)
    assert code == 1
    assert "settings changed since it started: API_PORT; `bisnesctl restart api`" in line
    assert running.status()["api-0"]["status"] == "outdated"
    with traffic(new, old) as answers:
        running.run("restart", "api")
    assert set(answers) == {200}
    assert requests.get(f"{new}/health/live", timeout=HANG_SECONDS).status_code == 200
    with pytest.raises(requests.ConnectionError):
        requests.get(f"{old}/health/live", timeout=HANG_SECONDS)
    assert probe(running)[0] == 0
    change(running, API_PORT=str(running.settings.api_port))
    running.run("start", "--multiprocess", "--sandbox")
    assert requests.get(f"{old}/health/live", timeout=HANG_SECONDS).status_code == 200


def test_a_port_in_use_is_refused_before_anything_stops(running: Deployment) -> None:
    before = running.status()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        change(running, API_PORT=str(taken.getsockname()[1]))
        done = running.run("restart", "api", check=False)
    assert (done.returncode, "in use" in done.stderr) == (6, True)
    change(running, API_PORT=str(running.settings.sandbox_port))
    clash = running.run("restart", "api", check=False)
    assert (clash.returncode, "API_PORT" in clash.stderr, "SANDBOX_PORT" in clash.stderr) == (3, True, True)
    assert {name: row["pid"] for name, row in running.status().items()} == {
        name: row["pid"] for name, row in before.items()
    }


def test_extra_instances_are_shown_watched_and_left_alone_by_other_restarts(running: Deployment) -> None:
    running.environment["META_INSTANCES"] = "3"
    running.run("restart", "meta-worker")
    del running.environment["META_INSTANCES"]
    rows = running.status()
    assert (rows["meta-worker-3"]["status"], rows["meta-worker-1"]["status"]) == ("extra", "healthy")
    assert "META_INSTANCES is 1" in rows["meta-worker-3"]["reason"]
    assert "`bisnesctl restart meta-worker` stops it" in rows["meta-worker-3"]["reason"]
    code, line = probe(running)
    assert (code, "meta-worker-2 extra" in line) == (1, True)
    running.run("restart", "api")
    assert running.status()["meta-worker-3"]["pid"] == rows["meta-worker-3"]["pid"]
    os.kill(rows["meta-worker-3"]["pid"], signal.SIGKILL)
    wait_until(
        lambda: running.status()["meta-worker-3"]["pid"] not in (None, rows["meta-worker-3"]["pid"]), what=running.logs
    )
    assert running.run("restart", "meta-worker-3", check=False).returncode == 2
    running.run("stop", "meta-worker-3")
    assert "meta-worker-3" not in running.status()
    running.run("restart", "meta-worker")
    assert "meta-worker-2" not in running.status()


def test_a_changed_setting_is_named_with_the_next_step(running: Deployment) -> None:
    change(running, LOG_LEVEL="warning", META_ATTEMPTS="4")
    rows = running.status()
    assert "settings changed since it started: LOG_LEVEL; `bisnesctl restart api`" in rows["api-0"]["reason"]
    assert "LOG_LEVEL, META_ATTEMPTS; `bisnesctl restart meta-worker`" in rows["meta-worker-1"]["reason"]
    started = running.run("start", "--multiprocess", "--sandbox").stderr
    assert "meta-worker-1 is outdated" in started
    change(running, LOG_LEVEL="info", META_ATTEMPTS="3")
    assert {row["status"] for row in running.status().values()} == {"healthy"}
    change(running, META_ATTEMPTS="4")
    running.run("restart", "meta-worker")
    assert running.status()["meta-worker-1"]["status"] == "healthy"
    change(running, META_ATTEMPTS="3")
    running.run("restart", "meta-worker")


def test_a_stop_on_purpose_is_a_warning_and_a_process_that_just_does_not_run_is_critical(running: Deployment) -> None:
    running.run("stop", "api")
    code, line = probe(running)
    assert (code, "api-0 stopped (on purpose by " in line) == (1, True)
    (running.settings.run_dir / "stops.json").unlink()
    code, line = probe(running)
    assert (code, "api-0 down (" in line, "`bisnesctl start api-0`" in line) == (2, True, True)
    running.run("restart", "api")
    assert probe(running)[0] == 0


def test_everything_stopped_on_purpose_says_so_and_how_to_start_it_again(running: Deployment) -> None:
    running.run("stop")
    for file in running.settings.heartbeat_dir.glob("*.json"):  # minutes later
        beat = json.loads(file.read_text())
        file.write_text(json.dumps(beat | {"beat_boottime": beat["beat_boottime"] - 600}))
    code, line = probe(running)
    assert code == 1
    assert line.startswith("BISNES WARNING - supervisord stopped (on purpose by ")
    assert "`bisnesctl start --multiprocess --sandbox`" in line
    found = json.loads(running.run("health", "--json", check=False).stdout)
    assert [each["status"] for each in found["processes"]] == ["stopped"]


@pytest.mark.parametrize("how", ["SIGHUP", "supervisorctl reload"])
def test_after_a_reload_of_supervisord_everything_runs_again(running: Deployment, how: str) -> None:
    running.run("stop", "meta-worker-1")
    before = running.status()
    if how == "SIGHUP":
        os.kill(int((running.settings.run_dir / "supervisord.pid").read_text()), signal.SIGHUP)
    else:
        assert supervisorctl(running, "reload").returncode == 0
    others = [name for name in before if name != "meta-worker-1"]

    def all_again() -> bool:
        rows = running.status()
        return all(
            name in rows and rows[name]["status"] == "healthy" and rows[name]["pid"] != before[name]["pid"]
            for name in others
        )

    wait_until(all_again, what=running.logs)
    assert running.status()["meta-worker-1"]["status"] == "stopped"  # as the operator wanted
    wait_until(lambda: {name for (name,) in running.rows(RESTORED)} == {"api", "postgres"}, what=running.logs)


RESTORED = """
SELECT DISTINCT process_name FROM process_events WHERE event_type = 'process_restored'
    AND process_name IN ('api', 'postgres', 'legacy')"""


def supervisorctl(deployment: Deployment, *words: str) -> subprocess.CompletedProcess[str]:
    config = str(deployment.settings.run_dir / "supervisord.conf")
    command = [sys.executable, "-m", "supervisor.supervisorctl", "-c", config, *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=HANG_SECONDS, stdin=subprocess.DEVNULL)


def test_health_asks_the_addresses_in_the_settings(running: Deployment) -> None:
    [nobody] = free_ports(1)
    change(
        running,
        API_HEALTH_ENDPOINT=f"{running.api}/health",
        META_HEALTH_ENDPOINT=f"http://127.0.0.1:{running.settings.meta_port}/health",
        WWEBJS_HEALTH_ENDPOINT=f"http://127.0.0.1:{nobody}/health",
    )
    found = json.loads(running.run("health", "--json", check=False).stdout)["processes"]
    asked = {each["name"]: each for each in found if each["name"].endswith("endpoint")}
    assert {name: each["status"] for name, each in asked.items()} == {
        "api endpoint": "healthy",
        "meta endpoint": "healthy",
        "wwebjs endpoint": "unhealthy",
    }
    assert f"127.0.0.1:{nobody}/health: no answer" in asked["wwebjs endpoint"]["reason"]
    change(running, API_HEALTH_ENDPOINT="localhost:3000")
    assert running.run("health", check=False).returncode == 3


def test_supervisorctl_reads_our_configuration(running: Deployment) -> None:
    shown = supervisorctl(running, "status").stdout
    assert "api:api-0" in shown
    assert "RUNNING" in shown
