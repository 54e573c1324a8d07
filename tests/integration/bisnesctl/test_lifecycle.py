"""The whole tool on one real deployment: start, look, restart, stop, and every kind of death."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg2
import pytest
import requests

from bisnesctl.lifecycle import preflight
from tests.support.deployment import Deployment, alive, descendants, free_ports
from tests.support.waiting import HANG_SECONDS, wait_until

ALL = [
    "guard", "postgres", "redis", "sandbox",
    "api-0", "api-1", "meta", "meta-worker-1", "meta-worker-2", "events", "alerts",
]  # fmt: skip
#: Options of a start that brings up a few programs.
FEW = ("--only", "events")


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    made = Deployment(tmp_path_factory.mktemp("deployment"), HEARTBEAT_INTERVAL="1000", ENABLE_WWEBJS="false")
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def running(deployment: Deployment) -> Deployment:
    """The deployment, with everything healthy."""
    if deployment.steady() != set(ALL):
        deployment.run("start", "--multiprocess", "--sandbox")
    return deployment


def every_pid(deployment: Deployment) -> list[int]:
    """Of supervisord and all that it runs."""
    top = psutil.Process(int((deployment.settings.run_dir / "supervisord.pid").read_text()))
    return [top.pid, *(each.pid for each in top.children(recursive=True))]


def kill_supervisor(deployment: Deployment) -> None:
    os.kill(int((deployment.settings.run_dir / "supervisord.pid").read_text()), signal.SIGKILL)


def test_start_brings_everything_up_and_twice_changes_nothing(running: Deployment) -> None:
    before = running.status()
    assert list(before) == ALL
    assert {row["status"] for row in before.values()} == {"healthy"}
    typed = ("events", "--json", "--kind", "operator_start")
    wait_until(lambda: json.loads(running.run(*typed).stdout), what=running.logs)
    commands = {each["at"] for each in json.loads(running.run(*typed).stdout)}
    again = running.run("start", "--multiprocess", "--sandbox")
    assert "runs already" in again.stderr
    assert "running already: api-0" in running.run("start", "api").stderr
    assert {each["at"] for each in json.loads(running.run(*typed).stdout)} == commands  # nothing changed
    assert {name: row["pid"] for name, row in running.status().items()} == {
        name: row["pid"] for name, row in before.items()
    }


def test_the_operators_key_opens_the_api(running: Deployment) -> None:
    answer = requests.get(f"{running.api}/api/v2/messages/0100/60123456789", headers={"X-Api-Key": running.key})
    assert answer.status_code == 200
    assert requests.get(f"{running.api}/api/v2/messages/0100/60123456789").status_code == 401


def test_secrets_stay_in_the_env_file(running: Deployment) -> None:
    state = [path for path in running.settings.run_dir.rglob("*") if path.is_file()]
    assert not [path for path in state if running.key in path.read_text(errors="replace")]
    assert (running.folder / ".env").stat().st_mode & 0o777 == 0o600
    assert running.settings.run_dir.stat().st_mode & 0o777 == 0o700


def test_the_logs_of_supervisord_are_for_nobody_else(running: Deployment) -> None:
    logs = list(running.settings.log_dir.glob("*.log"))
    assert "supervisord.log" in {each.name for each in logs}
    assert {each.stat().st_mode & 0o777 for each in logs} == {0o600}


def test_a_running_deployment_does_not_switch_the_sandbox_on_or_off(running: Deployment) -> None:
    done = running.run("start", "--multiprocess", check=False)
    assert done.returncode == 6
    assert "bisnesctl stop" in done.stderr


def test_a_bot_that_needs_an_operator_is_shown(running: Deployment) -> None:
    words = ("--company", "0177", "--phone", "3")
    running.run("bots", "add", *words, "--phone-number-id", "1770", "--token-stdin", "--no-verify", given="token\n")
    try:
        with contextlib.closing(psycopg2.connect(running.settings.database_dsn)) as connection:
            connection.autocommit = True
            connection.cursor().execute("UPDATE bot_pace SET held_until = 'infinity', held_reason = '190: expired'")
        assert "bot 0177-3 waiting: 190: expired" in running.run("status").stdout
        assert json.loads(running.run("status", "--json").stdout)["bots"][0]["status"] == "waiting"
        probe = running.run("health", "--probe", check=False)
        assert (probe.returncode, "bot 0177-3" in probe.stdout) == (1, True)
        found = json.loads(running.run("health", "--json", check=False).stdout)
        assert (found["verdict"], [each["name"] for each in found["bots"]]) == ("warning", ["bot 0177-3"])
    finally:
        running.run("bots", "remove", *words, "--yes")


def test_health_for_people_programs_and_monitoring(running: Deployment) -> None:
    assert running.run("health").returncode == 0
    found = json.loads(running.run("health", "--json").stdout)
    assert found["verdict"] == "ok"
    assert [each["name"] for each in found["processes"]] == ALL
    assert running.run("health", "--probe").stdout.startswith(f"BISNES OK - {len(ALL)} healthy")
    running.run("stop", "meta-worker-2")
    probe = running.run("health", "--probe", check=False)
    assert (probe.returncode, probe.stdout.count("\n")) == (1, 1)
    assert "meta-worker-2 stopped" in probe.stdout


def test_a_named_program_is_stopped_alone(running: Deployment) -> None:
    done = running.run("stop", "meta-worker")
    assert "stopped meta-worker-1, meta-worker-2" in done.stderr
    status = running.status()
    assert [name for name in ALL if status[name]["status"] == "stopped"] == ["meta-worker-1", "meta-worker-2"]
    assert "not running" in running.run("stop", "meta-worker").stderr


def test_a_restart_of_the_api_keeps_one_instance_answering(running: Deployment) -> None:
    answers, done = [], threading.Event()

    def ask() -> int | None:
        # A connection may be closed under a request that was not read yet; another one must do at once.
        for _ in range(2):
            with contextlib.suppress(requests.ConnectionError):
                return requests.get(f"{running.api}/health/live", timeout=HANG_SECONDS).status_code
        return None

    def ask_on() -> None:
        while not done.is_set():
            answers.append(ask())

    before = running.status()
    asking = threading.Thread(target=ask_on)
    asking.start()
    running.run("restart", "api")
    done.set()
    asking.join()
    after = running.status()
    api = ("api-0", "api-1")
    assert set(answers) == {200}
    assert not {before[name]["pid"] for name in api} & {after[name]["pid"] for name in api}
    assert before["meta"]["pid"] == after["meta"]["pid"]


def test_a_killed_process_comes_back_and_its_death_is_shown(running: Deployment) -> None:
    pid = running.pid("meta-worker-1")
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: running.status()["meta-worker-1"]["pid"] not in (None, pid), what=running.logs)
    row = running.status()["meta-worker-1"]
    assert row["restarts"] >= 1
    assert "SIGKILL" in row["reason"]


def test_a_killed_api_is_one_process_and_serves_again(running: Deployment) -> None:
    pid = running.pid("api-0")
    assert descendants(pid) == set()
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: running.status()["api-0"]["status"] == "healthy", what=running.logs)
    assert running.pid("api-0") != pid


def test_a_process_that_ended_stays_stopped_after_a_stop(running: Deployment) -> None:
    running.run("stop", "guard")
    os.kill(running.pid("meta-worker-2"), signal.SIGKILL)
    wait_until(lambda: running.status()["meta-worker-2"]["status"] == "failed", what=running.logs)
    assert "it is not restarted: the guard is down" in running.status()["meta-worker-2"]["reason"]
    assert "processes that end are not restarted" in running.status()["guard"]["reason"]
    probe = running.run("health", "--probe", check=False)
    assert (probe.returncode, "the guard is down" in probe.stdout) == (2, True)
    running.run("stop", "meta-worker-2")
    assert running.status()["meta-worker-2"]["status"] == "stopped"


def test_status_logs_and_stop_need_no_server_and_no_services(running: Deployment, tmp_path: Path) -> None:
    broken = tmp_path / "services"
    broken.mkdir()
    (broken / "__init__.py").write_text("raise RuntimeError('cannot be imported')")
    running.run("stop", "postgres", "redis")
    environment = os.environ | {"BISNES_ENV": str(running.folder / ".env"), "PYTHONPATH": str(tmp_path)}

    def tool(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "bisnesctl", *words]
        return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=HANG_SECONDS)

    rows = {row["name"]: row for row in json.loads(tool("status", "--json").stdout)["processes"]}
    assert rows["postgres"]["status"] == "stopped"
    assert rows["api-0"]["reason"]
    assert "postgres" in tool("logs").stdout
    assert tool("health", "--probe").returncode == 2
    assert tool("stop").returncode == 0
    assert "nothing is running" in tool("stop").stderr


def test_changed_settings_reach_running_processes(running: Deployment) -> None:
    env_file = running.folder / ".env"
    text = env_file.read_text()
    env_file.write_text(text.replace("META_INSTANCES=2", "META_INSTANCES=1"))
    try:
        before = running.status()
        running.run("start", "--multiprocess", "--sandbox")
        after = running.status()
        assert "meta-worker-2" not in after
        assert after["meta-worker-1"]["pid"] == before["meta-worker-1"]["pid"]
    finally:
        env_file.write_text(text)


def test_nothing_outlives_a_killed_supervisord(running: Deployment) -> None:
    pids = every_pid(running)
    kill_supervisor(running)
    wait_until(lambda: not any(map(alive, pids)), what=lambda: str(preflight.find_orphans(running.settings)))
    assert running.run("health", "--probe", check=False).returncode == 2
    assert "not stopped on purpose" in running.run("status").stdout


def test_a_start_right_after_a_killed_supervisord_succeeds(running: Deployment) -> None:
    killed = time.time()
    kill_supervisor(running)
    running.run("start", "--multiprocess", "--sandbox")
    assert {row["status"] for row in running.status().values()} == {"healthy"}
    assert json.loads(running.run("status", "--json").stdout)["since"] >= int(killed)
    (end,) = json.loads(running.run("events", "supervisord", "--json").stdout)[-1:]
    assert (end["kind"], end["severity"]) == ("supervisord_ended", "error")
    assert end["text"].startswith("supervisord ended without a stop; last seen ")
    assert "without a stop" in running.run("describe", "supervisord").stdout


def test_stop_ends_a_supervisord_that_hangs(running: Deployment) -> None:
    pids = every_pid(running)
    os.kill(pids[0], signal.SIGSTOP)
    assert "does not answer" in running.run("status").stdout
    assert running.run("start", "--multiprocess", "--sandbox", check=False).returncode == 6
    running.run("stop")
    wait_until(lambda: not any(map(alive, pids)))


def test_stop_leaves_no_process_and_twice_is_harmless(running: Deployment) -> None:
    pids = every_pid(running)
    running.run("stop")
    assert not [pid for pid in pids if alive(pid)]
    done = running.run("stop")
    assert "nothing is running" in done.stderr


def test_only_starts_the_named_programs_and_the_servers(deployment: Deployment) -> None:
    deployment.run("stop")
    deployment.run("start", "--multiprocess", "--sandbox", "--only", "api")
    assert list(deployment.status()) == ["guard", "postgres", "redis", "sandbox", "api-0", "api-1", "alerts"]
    assert deployment.run("health", "--probe").returncode == 0
    deployment.run("start", "--multiprocess", "--sandbox", "--only", "bisnesgpt-meta")
    assert list(deployment.status()) == [name for name in ALL if name != "events"]
    deployment.run("stop")


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_foreground_shows_all_logs_and_stops_everything_when_asked(
    deployment: Deployment, signum: signal.Signals
) -> None:
    deployment.run("stop")
    shown = deployment.folder / "foreground.log"
    environment = os.environ | {"BISNES_ENV": str(deployment.folder / ".env")}
    command = [sys.executable, "-m", "bisnesctl", "start", "--multiprocess", "--sandbox", "--foreground", *FEW]
    with shown.open("w") as log:
        tool = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    wait_until(lambda: "running in the sandbox" in shown.read_text(), what=shown.read_text)
    assert deployment.run("start", "--multiprocess", "--sandbox", "--foreground", check=False).returncode == 6
    pids = every_pid(deployment)
    os.kill(tool.pid, signum)
    assert tool.wait(60) == 0
    assert not [pid for pid in pids if alive(pid)]
    assert "postgres" in shown.read_text()


def test_a_foreground_that_is_killed_takes_everything_with_it(deployment: Deployment) -> None:
    deployment.run("stop")
    environment = os.environ | {"BISNES_ENV": str(deployment.folder / ".env")}
    command = [sys.executable, "-m", "bisnesctl", "start", "--multiprocess", "--sandbox", "--foreground", *FEW]
    tool = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    wait_until(lambda: deployment.run("health", check=False).returncode == 0, what=deployment.logs)
    pids = every_pid(deployment)
    tool.kill()
    tool.wait()
    wait_until(lambda: not any(map(alive, pids)))


def test_a_port_in_use_is_named_with_its_process_and_nothing_starts(deployment: Deployment) -> None:
    deployment.run("stop")
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLD_PORT, str(deployment.settings.meta_port)], stdout=subprocess.PIPE
    )
    try:
        assert holder.stdout is not None
        holder.stdout.readline()
        done = deployment.run("start", "--multiprocess", "--sandbox", check=False)
    finally:
        holder.kill()
        holder.wait()
    assert done.returncode == 6
    assert f"port {deployment.settings.meta_port} of meta" in done.stderr
    assert f"pid {holder.pid}" in done.stderr
    assert deployment.status() == {}


_HOLD_PORT = (
    "import socket, sys, time; s = socket.create_server(('', int(sys.argv[1]))); print('x', flush=True); time.sleep(60)"
)


def test_a_process_that_cannot_start_is_explained_and_the_rest_is_stopped_again(deployment: Deployment) -> None:
    deployment.run("stop")
    folder = deployment.folder / "broken"
    (folder / "services").mkdir(parents=True)
    (folder / "services" / "__init__.py").write_text("raise RuntimeError('a broken release')")
    environment = os.environ | {"BISNES_ENV": str(deployment.folder / ".env"), "PYTHONPATH": str(folder)}
    command = [sys.executable, "-m", "bisnesctl", "start", "--multiprocess", "--sandbox"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 5
    assert "did not become healthy" in done.stderr
    assert "a broken release" in done.stderr
    assert deployment.status() == {}
    assert preflight.find_orphans(deployment.settings) == {}


def test_a_start_that_is_interrupted_stops_what_it_began(deployment: Deployment) -> None:
    deployment.run("stop")
    environment = os.environ | {"BISNES_ENV": str(deployment.folder / ".env")}
    command = [sys.executable, "-m", "bisnesctl", "start", "--multiprocess", "--sandbox"]
    tool = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    assert tool.stderr is not None
    for line in tool.stderr:
        if line.startswith("starting sandbox"):
            break
    tool.terminate()
    tool.communicate()
    assert tool.returncode == 130
    assert deployment.status() == {}
    assert preflight.find_orphans(deployment.settings) == {}


@pytest.mark.parametrize(
    ("variable", "value"),
    [("DATABASE_URL", "postgresql://u:hush@127.0.0.1:1/d"), ("REDIS_URL", "redis://:hush@127.0.0.1:1/0")],
)
def test_an_unavailable_server_is_named_without_its_password(deployment: Deployment, variable: str, value: str) -> None:
    deployment.run("stop")
    environment = os.environ | {"BISNES_ENV": str(deployment.folder / ".env"), variable: value}
    command = [sys.executable, "-m", "bisnesctl", "start", "--multiprocess", "--sandbox"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=HANG_SECONDS)
    assert done.returncode == 4
    assert variable in done.stderr
    assert "hush" not in done.stderr
    assert deployment.status() == {}


def test_two_starts_at_once_do_not_mix(deployment: Deployment) -> None:
    deployment.run("stop")
    environment = os.environ | {"BISNES_ENV": str(deployment.folder / ".env")}
    command = [sys.executable, "-m", "bisnesctl", "start", "--multiprocess", "--sandbox"]
    tools = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) for _ in range(2)]
    said = [tool.communicate(timeout=90)[1] for tool in tools]
    assert sorted(tool.returncode for tool in tools) in ([0, 0], [0, 6]), said
    assert {row["status"] for row in deployment.status().values()} == {"healthy"}


def test_the_tool_works_in_a_deep_folder(tmp_path: Path) -> None:
    folder = tmp_path / ("deep" * 25) / "with space, and 100%"
    folder.mkdir(parents=True)
    ports = dict(zip(("API_PORT", "META_PORT"), map(str, free_ports(2)), strict=True))
    made = Deployment(folder, API_INSTANCES="1", ENABLE_META="false", ENABLE_WWEBJS="false", **ports)
    try:
        made.run("start", "--multiprocess")
        assert {row["status"] for row in made.status().values()} == {"healthy"}
        made.run("stop")
        assert made.status() == {}
    finally:
        made.close()


def test_a_new_encryption_key_interrupts_no_number(running: Deployment) -> None:
    running.add_demo_bot()
    before = running.status()["api-0"]["pid"]
    assert running.send("0100", "60123456701", "with the former key").status_code == 202
    done = running.run("keys", "rotate-encryption")
    assert "is replaced" in done.stderr
    assert running.status()["api-0"]["pid"] != before
    assert {row["status"] for row in running.status().values()} == {"healthy"}
    assert running.send("0100", "60123456702", "with the new key").status_code == 202
    wait_until(lambda: len(running.received()) >= 2)
    held = running.rows("SELECT count(*) FROM bot_pace WHERE held_until = 'infinity'")
    assert held == [(0,)]
