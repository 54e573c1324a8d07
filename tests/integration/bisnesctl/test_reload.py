"""Reload and scale under load, with a broken release, and interrupted; starts and stops of some programs."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bisnesctl.processes.supervisor import Supervisor
from tests.support.deployment import Deployment, alive
from tests.support.steady_load import request, steady_load
from tests.support.waiting import wait_until

#: A release whose services cannot be loaded.
BROKEN = "raise RuntimeError('a broken release')"
#: The beginning of a release that passes its self-test, and whose API does what follows as soon as it serves.
AS_SERVER = """
import os, sys, time
if os.environ.get("BISNES_PROCESS") == "api" and any("gunicorn" in word for word in sys.orig_argv[:4]):
"""
#: Its API ends.
BROKEN_SERVER = f"""{AS_SERVER}
    print("this server cannot serve", file=sys.stderr)
    os._exit(9)
"""
#: Its API never answers.
SILENT_SERVER = f"""{AS_SERVER}
    time.sleep(1000)
"""
INFRASTRUCTURE = ("guard", "postgres", "redis", "sandbox")
ALL = {*INFRASTRUCTURE, "api-0", "api-1", "meta", "meta-worker-1", "events", "wwebjs", "alerts"}


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A deployment whose programs look for modules in the folder `release` first."""
    folder = tmp_path_factory.mktemp("reload")
    (folder / "release").mkdir()
    made = Deployment(folder, HEARTBEAT_INTERVAL="1000", META_INSTANCES="1", API_INSTANCES="2")
    try:
        made.environment["PYTHONPATH"] = str(folder / "release")
        made.run("start", "--multiprocess", "--sandbox")
        yield made
    finally:
        made.close()


@pytest.fixture
def running(deployment: Deployment) -> Deployment:
    """The deployment with everything healthy and nothing scaled, also after a test that failed."""
    if (deployment.settings.run_dir / "scale.json").exists():
        deployment.run("scale", "api=default", "meta=default")
    if deployment.steady() != ALL:
        deployment.run("start")
    return deployment


@pytest.fixture
def release(deployment: Deployment) -> Iterator[Path]:
    """The folder of modules of another release; empty again after the test."""
    folder = deployment.folder / "release"
    yield folder
    for file in sorted(folder.rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()


def pids(deployment: Deployment) -> dict[str, int]:
    """The pids of all that runs."""
    found = Supervisor(deployment.settings.run_dir).processes()
    return {name: each.pid for name, each in found.items() if each.pid}


def changed(before: dict[str, int], after: dict[str, int]) -> set[str]:
    return {name for name in before if before[name] != after.get(name)}


def requests_of(deployment: Deployment) -> list[Callable[[], str]]:
    """Requests to the API and to the receiver, which any of their instances must answer.

    Readiness is none of them: it is denied if PostgreSQL does not answer within a second, on a busy machine too.
    """
    api, meta = deployment.settings.api_port, deployment.settings.meta_port
    key = {"X_Api_Key": deployment.key}
    return [
        request(api, "/health/live"),
        request(api, "/api/v2/messages/0100/60123456789", **key),
        request(meta, "/health/live"),
        request(api, "/health/all"),
    ]


def test_a_reload_refuses_no_request_and_proves_each_instance(running: Deployment) -> None:
    before = pids(running)
    with steady_load(*requests_of(running)) as outcomes:
        done = running.run("reload")
    assert set(outcomes.counts) == {"200"}
    assert outcomes.total > 100
    assert changed(before, pids(running)) == before.keys() - set(INFRASTRUCTURE)
    assert "left out: guard, postgres, redis, sandbox" in done.stderr
    assert "meta: no webhook is refused" in done.stderr
    order = re.findall(r"restarting (\S+)|✓ (\S+) is healthy", done.stderr)
    assert [one or two for one, two in order][:4] == ["api-0", "api-0", "api-1", "api-1"]


def test_a_single_instance_refuses_no_request_either(running: Deployment) -> None:
    running.run("scale", "api=1")
    before = pids(running)
    try:
        with steady_load(*requests_of(running)) as outcomes:
            running.run("reload", "api", "meta")
        assert set(outcomes.counts) == {"200"}
        assert changed(before, pids(running)) == {"api-0", "meta"}
    finally:
        running.run("scale", "api=default")


def test_scaling_keeps_the_pids_of_siblings_and_refuses_no_request(running: Deployment) -> None:
    before = pids(running)
    with steady_load(*requests_of(running)) as outcomes:
        running.run("scale", "api=4", "meta=2")
        more = pids(running)
        running.run("scale", "api=1", "meta=+1")
    assert set(outcomes.counts) == {"200"}
    assert more.keys() - before.keys() == {"api-2", "api-3", "meta-worker-2"}
    assert changed(before, more) == set()
    after = pids(running)
    assert before.keys() - after.keys() == {"api-1"}
    assert changed({"api-0": before["api-0"], "meta-worker-1": before["meta-worker-1"]}, after) == set()
    assert {row["status"] for row in running.status().values()} == {"healthy"}
    running.run("scale", "api=default", "meta=default")


def test_a_dry_run_of_a_scale_says_what_it_costs_and_changes_nothing(running: Deployment) -> None:
    before, records = pids(running), running.run("audit", "--json").stdout
    more = running.run("scale", "meta=3", "--dry-run").stdout
    assert "starts meta-worker-2 and meta-worker-3" in more.replace(",", " and")
    assert "MB more" in more
    assert "connections to PostgreSQL: up to" in more
    running.run("scale", "meta=2")
    fewer = running.run("scale", "meta=1", "--dry-run").stdout
    assert "stops meta-worker-2, after the current work" in fewer
    assert "starts and stops nothing" in running.run("scale", "meta=2", "--dry-run").stdout
    running.run("scale", "meta=default")
    assert pids(running) == before
    assert "--dry-run" not in running.run("audit", "--json").stdout
    assert "dry-run" not in records
    assert running.run("scale", "--dry-run", check=False).returncode == 2


def test_a_scale_is_remembered_and_shown_beside_the_settings(running: Deployment) -> None:
    running.run("scale", "meta=2")
    running.run("stop")
    started = running.run("start").stderr
    assert "starting as it was started last: bisnesctl start --multiprocess --sandbox" in started
    assert "meta-worker-2" in pids(running)
    rows = {row["program"]: row for row in json.loads(running.run("scale", "--json").stdout)}
    worker = rows["meta-worker"]
    assert (worker["wanted"], worker["running"], worker["configured"], worker["origin"]) == (2, 2, 1, "scale")
    assert "`bisnesctl scale meta-worker=default` returns to them" in worker["drift"]
    assert "`scale` set META_INSTANCES=2, the settings say 1" in running.run("status").stdout
    before = pids(running)
    running.run("start")  # no setting has changed, not even that of PostgreSQL's connections
    assert pids(running) == before
    running.run("scale", "meta-worker=default")
    assert "meta-worker-2" not in pids(running)
    assert not (running.settings.run_dir / "scale.json").exists()


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["postgres=2"], 2, "always has one instance. These can be scaled: api, meta"),
        (["api=0"], 2, "from 1 to 64 instances; `bisnesctl stop api` stops all"),
        (["api=x"], 2, "that is no number"),
        (["api"], 2, "`bisnesctl scale api=3`"),
    ],
)
def test_a_wrong_scale_says_what_is_possible(running: Deployment, words: list[str], code: int, says: str) -> None:
    before = pids(running)
    done = running.run("scale", *words, check=False)
    assert (done.returncode, says in done.stderr) == (code, True), done.stderr
    assert pids(running) == before


def test_a_number_in_the_environment_is_stronger_than_scale(running: Deployment) -> None:
    environment = {**running.environment, "API_INSTANCES": "3"}
    command = [sys.executable, "-m", "bisnesctl", "scale", "api=4"]
    done = subprocess.run(command, env=environment, cwd=running.folder, capture_output=True, text=True)
    assert (done.returncode, "API_INSTANCES comes from the environment" in done.stderr) == (3, True)


def test_a_release_that_fails_its_self_test_stops_nothing(running: Deployment, release: Path) -> None:
    before = pids(running)
    (release / "services").mkdir()
    (release / "services" / "__init__.py").write_text(BROKEN)
    with steady_load(*requests_of(running)) as outcomes:
        done = running.run("reload", check=False)
        grown = running.run("scale", "api=3", check=False)
    assert set(outcomes.counts) == {"200"}
    assert (done.returncode, grown.returncode) == (5, 5)
    assert "api fails its self-test, so nothing was restarted: RuntimeError: a broken release" in done.stderr
    assert pids(running) == before
    assert "api-2" not in running.status()


def test_settings_with_which_nothing_would_work_stop_nothing(running: Deployment) -> None:
    env_file = running.folder / ".env"
    text, before = env_file.read_text(), pids(running)
    env_file.write_text(f"{text}\nDATABASE_URL=postgresql://nobody@127.0.0.1:1/nothing\n")
    try:
        done = running.run("reload", "api", check=False)
    finally:
        env_file.write_text(text)
    assert (done.returncode, "fails its self-test" in done.stderr) == (5, True)
    assert pids(running) == before


def test_an_instance_that_fails_is_stopped_and_the_others_serve_as_before(running: Deployment, release: Path) -> None:
    before = pids(running)
    (release / "sitecustomize.py").write_text(BROKEN_SERVER)
    with steady_load(*requests_of(running)) as outcomes:
        done = running.run("reload", "api", check=False)
    assert set(outcomes.counts) == {"200"}
    assert done.returncode == 5
    assert "this server cannot serve" in done.stderr
    assert "api-0 was stopped and serves nobody; api-1 serve as before" in done.stderr
    rows = running.status()
    assert (rows["api-0"]["pid"], rows["api-1"]["pid"]) == (None, before["api-1"])
    assert "the reload at" in rows["api-0"]["reason"]
    assert "it is as before: the reload at" in rows["api-1"]["reason"]
    assert "`bisnesctl reload api` tries again" in rows["api-1"]["reason"]
    (release / "sitecustomize.py").unlink()
    running.run("reload", "api")
    rows = running.status()
    assert {rows[name]["status"] for name in ("api-0", "api-1")} == {"healthy"}
    assert not {rows["api-0"]["pid"], rows["api-1"]["pid"]} & {before["api-0"], before["api-1"]}


def test_a_start_that_takes_too_long_names_the_setting_that_limits_it(running: Deployment, release: Path) -> None:
    (release / "sitecustomize.py").write_text(SILENT_SERVER)
    command = [sys.executable, "-m", "bisnesctl", "restart", "api-0"]
    environment = {**running.environment, "START_TIMEOUT_SECONDS": "2"}
    done = subprocess.run(command, env=environment, cwd=running.folder, capture_output=True, text=True)
    assert done.returncode == 5
    assert re.search(r"api-0 did not become healthy: .*; it had START_TIMEOUT_SECONDS=2", done.stderr)
    (release / "sitecustomize.py").unlink()
    running.run("restart", "api-0")


def test_what_a_killed_reload_stopped_is_started_by_the_guard_and_the_rest_is_named(running: Deployment) -> None:
    before = pids(running)
    command, supervisor = [sys.executable, "-m", "bisnesctl", "reload", "api"], Supervisor(running.settings.run_dir)
    with subprocess.Popen(command, env=running.environment, cwd=running.folder, stderr=subprocess.DEVNULL) as tool:

        def is_stopping() -> bool:
            found = supervisor.processes()["api-0"]
            return found.state == "STOPPING" or found.pid != before["api-0"]

        wait_until(is_stopping, what=running.logs)
        tool.send_signal(signal.SIGKILL)
    wait_until(
        lambda: (row := running.status()["api-0"])["status"] == "healthy" and row["pid"] != before["api-0"],
        what=running.logs,
    )
    reason = running.status()["api-1"]["reason"]
    assert re.search(r"it is as before: the reload at \d\d:\d\d was interrupted; `bisnesctl reload api`", reason)
    running.run("reload", "api")
    assert {row["status"] for row in running.status().values()} == {"healthy"}


def test_selectors_show_what_they_mean_and_stop_and_start_it(running: Deployment) -> None:
    assert running.run("stop", "--kind", "meta,events", "--dry-run").stdout == "meta, meta-worker-1, events\n"
    assert running.status()["events"]["status"] == "healthy"
    done = running.run("stop", "--kind", "meta,events")
    assert "--kind meta,events means meta, meta-worker-1, events" in done.stderr
    stopped = [name for name, row in running.status().items() if row["status"] == "stopped"]
    assert stopped == ["meta", "meta-worker-1", "events"]
    assert (
        "stopped on purpose, and left so: meta, meta-worker-1, events"
        in running.run("reload", "--kind", "meta,events").stderr
    )
    assert "started meta-worker-1" in running.run("start", "meta-worker-1", "api").stderr
    done = running.run("start", "--state", "stopped")
    assert "started meta, events" in done.stderr
    assert {row["status"] for row in running.status().values()} == {"healthy"}
    assert running.run("stop", "--state", "failed", check=False).returncode == 2


def test_restart_all_leaves_infrastructure_alone_unless_it_is_named(running: Deployment) -> None:
    before = pids(running)
    assert "left out: guard, postgres, redis, sandbox" in running.run("restart", "all").stderr
    between = pids(running)
    assert changed(before, between) == before.keys() - set(INFRASTRUCTURE)
    running.run("restart", "events", "guard")
    assert changed(between, pids(running)) == {"events", "guard"}


def test_stop_all_is_a_stop_of_everything(running: Deployment) -> None:
    supervisor = int((running.settings.run_dir / "supervisord.pid").read_text())
    assert "everything has stopped" in running.run("stop", "all").stderr
    assert not alive(supervisor)
    done = running.run("start", "api", check=False)
    assert (done.returncode, "`bisnesctl start --multiprocess --sandbox`" in done.stderr) == (4, True)


def test_a_stand_in_for_systemd_keeps_it_running(deployment: Deployment) -> None:
    deployment.run("stop", check=False)
    unit = deployment.run("startup", "--print").stdout
    [command] = re.findall(r"^ExecStart=(.*)$", unit, re.MULTILINE)
    words = [word.strip('"') for word in command.split('" "')]
    log = deployment.folder / "systemd.log"

    def begin() -> subprocess.Popen[bytes]:
        with log.open("ab") as stream:
            return subprocess.Popen(
                words, env=deployment.environment, cwd=deployment.folder, stdout=stream, stderr=stream
            )

    def is_healthy() -> bool:
        return deployment.run("health", check=False).returncode == 0

    service = begin()
    try:
        wait_until(is_healthy, what=log.read_text)
        before = pids(deployment)
        os.kill(int((deployment.settings.run_dir / "supervisord.pid").read_text()), signal.SIGKILL)
        wait_until(lambda: service.poll() is not None, what=log.read_text)
        assert service.returncode == 5  # Restart=on-failure: systemd starts it again
        assert not [pid for pid in before.values() if pid and alive(pid)]
        service = begin()
        wait_until(is_healthy, what=log.read_text)
        assert changed(before, pids(deployment)) == set(before)
        deployment.run("stop")  # an operator's stop is a success, so systemd leaves it stopped
        wait_until(lambda: service.poll() is not None, what=log.read_text)
        assert service.returncode == 0
    finally:
        with contextlib.suppress(ProcessLookupError):
            service.kill()
        service.wait()
