"""The jobs of cron: the crontab, the probe with its dead-man switch, healing, and the clean-up."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bisnesctl.health import dead_man_switch
from bisnesctl.health.dead_man_switch import Ping
from bisnesctl.processes.deployment import open_deployment
from tests.support.deployment import Deployment
from tests.support.processes.servers import settings_in
from tests.support.remote.alert_receiver import AlertReceiver
from tests.support.waiting import HANG_SECONDS, wait_until

STAND_IN = Path(__file__).parents[2] / "support" / "crontab.py"
OTHERS = "# mine\nMAILTO=me@example.com\n0 5 * * *\t/usr/bin/true  # a comment\n@daily /bin/echo 50\\% done\n"


@pytest.fixture
def receiver() -> Iterator[AlertReceiver]:
    made = AlertReceiver()
    yield made
    made.close()


class Table:
    """The crontab of this user during a test: cron's own program, or its stand-in."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.program = shutil.which("crontab")
        if self.program is None:
            programs = folder / "programs"
            programs.mkdir()
            program = programs / "crontab"
            program.write_text(f'#!/bin/sh\nexec {sys.executable} {STAND_IN} "$@"\n')
            program.chmod(0o755)
            monkeypatch.setenv("FAKE_CRONTAB", str(folder / "table"))
            monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
            self.program = str(program)
        self.before = self.read()

    def run(self, word: str, given: str = "") -> "subprocess.CompletedProcess[str]":
        command = [str(self.program), word]
        return subprocess.run(command, input=given, capture_output=True, text=True, timeout=HANG_SECONDS, check=False)

    def read(self) -> str:
        return self.run("-l").stdout

    def write(self, text: str) -> None:
        self.run("-", text)

    def close(self) -> None:
        """Puts back what was there."""
        self.run("-", self.before) if self.before else self.run("-r")


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Table]:
    monkeypatch.setenv("FAKE_CRONTAB", str(tmp_path / "table"))
    made = Table(tmp_path, monkeypatch)
    made.write(OTHERS)
    yield made
    made.close()


def test_the_block_is_installed_changed_and_removed_and_other_lines_stay(environment, tool, table: Table) -> None:
    environment()
    shown = tool("cron", "show", "--heal").out
    tool("cron", "install", "--heal")
    assert table.read() == OTHERS + shown
    assert "already" in tool("cron", "install", "--heal").text
    assert table.read() == OTHERS + shown
    tool("cron", "install")
    assert "--heal" not in table.read()
    assert table.read().count("# BEGIN bisnesctl") == 1
    tool("cron", "remove")
    assert table.read() == OTHERS
    assert "no lines" in tool("cron", "remove").text


def test_without_the_program_crontab_the_reason_is_said(environment, tool, monkeypatch: pytest.MonkeyPatch) -> None:
    environment()
    monkeypatch.setattr(shutil, "which", lambda name, path=None: None)
    assert "install the package cron" in tool("cron", "install", code=6).text


def test_a_crontab_that_cannot_be_read_is_not_overwritten(environment, tool, tmp_path, monkeypatch) -> None:
    environment()
    program = tmp_path / "crontab"
    program.write_text("#!/bin/sh\necho 'You (me) are not allowed to use this program (crontab)' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert "not allowed to use this program" in tool("cron", "install", code=6).text


# --- The dead-man switch -------------------------------------------------------------------------------------------


def test_the_switch_is_called_in_the_form_of_healthchecks(tmp_path: Path, receiver: AlertReceiver) -> None:
    settings = settings_in(tmp_path, HEALTH_PING_URL=f"http://127.0.0.1:{receiver.port}/secret-uuid?create=1")
    for kind in Ping:
        assert dead_man_switch.ping(settings, kind, "a line") == ""
    assert [(each.path, each.body) for each in receiver.calls] == [
        ("/secret-uuid/start?create=1", "a line"),
        ("/secret-uuid?create=1", "a line"),
        ("/secret-uuid/fail?create=1", "a line"),
    ]


@pytest.mark.parametrize(("status", "calls"), [(503, 3), (404, 1), (429, 3)])
def test_a_call_that_fails_is_tried_a_few_times_and_shows_no_address(
    tmp_path: Path, receiver: AlertReceiver, status: int, calls: int
) -> None:
    receiver.answer = lambda call: status
    settings = settings_in(tmp_path, HEALTH_PING_URL=f"http://127.0.0.1:{receiver.port}/secret-uuid")
    reason = dead_man_switch.ping(settings, Ping.SUCCESS)
    assert str(status) in reason
    assert "secret" not in reason
    assert len(receiver.calls) == calls


def test_a_switch_that_never_answers_ends_in_time(tmp_path: Path, receiver: AlertReceiver, monkeypatch) -> None:
    monkeypatch.setattr(dead_man_switch, "TIMEOUT_MS", 200)

    def answer_never(call: object) -> int:
        time.sleep(HANG_SECONDS)
        return 200

    receiver.answer = answer_never
    settings = settings_in(tmp_path, HEALTH_PING_URL=f"http://127.0.0.1:{receiver.port}/secret-uuid")
    assert "no answer within" in dead_man_switch.ping(settings, Ping.SUCCESS)
    nobody = settings_in(tmp_path, HEALTH_PING_URL="http://127.0.0.1:1/secret-uuid")
    assert "no connection" in dead_man_switch.ping(nobody, Ping.SUCCESS)
    assert "secret-uuid" not in repr(nobody)


def test_a_wrong_address_is_refused_without_being_shown(environment, tool) -> None:
    with pytest.raises(Exception, match="HEALTH_PING_URL") as refused:
        environment(HEALTH_PING_URL="ftp://secret-uuid")
    assert "secret" not in str(refused.value)


# --- A deployment --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    receiver = AlertReceiver()
    made = Deployment(
        tmp_path_factory.mktemp("deployment"), HEARTBEAT_INTERVAL="1000", API_INSTANCES="1", META_INSTANCES="1",
        ENABLE_WWEBJS="false", HEALTH_PING_URL=f"http://127.0.0.1:{receiver.port}/uuid", HEAL_RESTARTS_PER_HOUR="2",
    )  # fmt: skip
    try:
        made.run("start", "--multiprocess", "--sandbox")
        made.pings = receiver.calls  # type: ignore[attr-defined]
        yield made
    finally:
        made.close()
        receiver.close()


def status_of(deployment: Deployment, name: str) -> str:
    return str(deployment.status()[name]["status"])


def test_the_probe_writes_its_line_and_calls_the_switch(deployment: Deployment) -> None:
    deployment.pings.clear()  # type: ignore[attr-defined]
    wait_until(lambda: deployment.run("cron", "probe", "--quiet", check=False).returncode in (0, 1))
    paths = [each.path for each in deployment.pings]  # type: ignore[attr-defined]
    assert paths[-2:] == ["/uuid/start", "/uuid"]
    line = (deployment.settings.log_dir / "cron.log").read_text().splitlines()[-1]
    assert line.split(" ", 1)[1].startswith("BISNES ")
    assert deployment.pings[-1].body == line.split(" ", 1)[1]  # type: ignore[attr-defined]


def test_heal_starts_what_was_stopped_behind_our_back_and_says_so(deployment: Deployment) -> None:
    open_deployment(deployment.settings).supervisor.stop("events:events")
    wait_until(lambda: status_of(deployment, "events") == "down")
    done = deployment.run("cron", "heal")
    assert "events is down though nobody stopped it: starting it (1 of 2 within an hour)" in done.stderr
    wait_until(lambda: status_of(deployment, "events") == "healthy")
    events = "SELECT severity FROM process_events WHERE event_type = 'process_healed' AND process_name = 'events'"
    wait_until(lambda: deployment.rows(events) == [("warning",)])


def test_heal_never_undoes_an_operators_stop(deployment: Deployment) -> None:
    deployment.run("stop", "meta")
    assert "nothing was started" in deployment.run("cron", "heal").stderr
    assert status_of(deployment, "meta") == "stopped"
    deployment.run("restart", "meta")


def test_heal_leaves_a_running_command_alone(deployment: Deployment) -> None:
    client = open_deployment(deployment.settings)
    client.supervisor.stop("sandbox:sandbox")
    wait_until(lambda: status_of(deployment, "sandbox") == "down")
    with client.lock("restart"):
        done = deployment.run("cron", "heal", check=False)
    assert done.returncode == 6
    assert "another command is running here" in done.stderr
    assert status_of(deployment, "sandbox") == "down"
    deployment.run("restart", "sandbox")


def test_heal_starts_everything_after_supervisord_was_killed_and_stops_at_its_limit(deployment: Deployment) -> None:
    for count in (1, 2):
        pid = open_deployment(deployment.settings).supervisor_pid()
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        done = deployment.run("cron", "probe", "--heal", check=False)
        assert f"supervisord is down though nobody stopped it: starting it ({count} of 2" in done.stderr
        assert open_deployment(deployment.settings).supervisor.running()
    pid = open_deployment(deployment.settings).supervisor_pid()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    done = deployment.run("cron", "probe", "--heal", check=False)
    assert done.returncode == 2
    assert "was started 2 times within an hour already" in done.stderr
    assert deployment.pings[-1].path == "/uuid/fail"  # type: ignore[attr-defined]
    deployment.run("start", "--multiprocess", "--sandbox")


def test_heal_does_not_start_what_an_operator_stopped_as_a_whole(deployment: Deployment) -> None:
    deployment.run("stop")
    assert "nothing was started" in deployment.run("cron", "heal").stderr
    assert not open_deployment(deployment.settings).supervisor.running()


def test_the_clean_up_removes_remains_and_nothing_else(deployment: Deployment) -> None:
    settings = deployment.settings
    old = time.time() - 40 * 86400
    gone = [settings.log_dir / "wwebjs-session-0100-9.log", settings.log_dir / "wwebjs-session-0100-9.err.log.3",
            settings.run_dir / ".alerts.json.new"]  # fmt: skip
    kept = [settings.log_dir / "events.log", settings.log_dir / "supervisord.log", settings.run_dir / "mode.json"]
    for path in gone:
        path.write_text("old")
    for path in (*gone, *kept):
        os.utime(path, (old, old))
    fresh = settings.log_dir / "wwebjs-session-0100-8.log"
    fresh.write_text("new")
    assert "removed 3 old files" in deployment.run("cron", "clean-up").stderr
    assert [path.exists() for path in gone] == [False] * 3
    assert all(path.exists() for path in (*kept, fresh))
