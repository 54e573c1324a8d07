"""The guard, its process events and its state on full and read-only disks, with a real supervisord."""

import contextlib
import json
import os
import queue
import signal
import threading
import time
from pathlib import Path

import pytest
import structlog

from bisnesctl.database.process_events import ProcessEvent, ProcessEventWriter
from bisnesctl.errors import CannotWrite, ExitCode
from bisnesctl.guard import state_file
from bisnesctl.guard.guard import Guard
from bisnesctl.guard.policy import Decision, History
from bisnesctl.guard.state_file import GuardState
from bisnesctl.health import guard_file
from bisnesctl.host import disk
from bisnesctl.host.process_stat import is_alive
from bisnesctl.host.process_times import boottime
from bisnesctl.lifecycle import stop
from bisnesctl.processes.deployment import Deployment, open_deployment, read_last_start, record_start
from bisnesctl.processes.render import File
from bisnesctl.processes.topology import Instance, Mode, Program
from tests.support.deployment import PORTS, free_ports
from tests.support.processes.disks import again_in_a_namespace, mounts, small_disk
from tests.support.processes.servers import settings_in
from tests.support.processes.supervisord import supervised
from tests.support.waiting import HANG_SECONDS, wait_until

EVENT = ProcessEvent("steady", "steady", "process_exited", "warning", 1000.5, {"serial": 1})


def test_again_in_a_namespace_unless_root():
    again_in_a_namespace(__file__, "process_events and not postgresql or says_what and not foreign")


@pytest.fixture
def small(tmp_path):
    """A small disk."""
    with small_disk(tmp_path / "disk") as found:
        yield found


@pytest.fixture
def home(small, tmp_path):
    """Settings whose home is on the small disk, and whose database is nowhere."""
    return settings_in(
        tmp_path, BISNES_HOME=str(small.folder / "var"), DATABASE_URL="postgresql:///x?host=/nonexistent",
        REDIS_URL="redis://127.0.0.1:1", SANDBOX="true",
        **dict(zip(PORTS, map(str, free_ports(len(PORTS))), strict=True)),
    )  # fmt: skip


@pytest.fixture
def stage(home):
    """supervisord with a real guard as its listener, and a program that the guard knows."""
    with supervised(home) as supervisor:
        supervisor.start("guard:guard")
        wait_until(lambda: supervisor.processes()["guard"].state == "RUNNING")
        wait_until(lambda: (home.run_dir / guard_file.GUARD_FILE).exists())
        yield supervisor


NEEDY = """
[program:sandbox]
command = sh -c 'echo x > {file} && exec sleep 1000'
autostart = false
autorestart = false
startsecs = 0
startretries = 0
"""


@mounts
def test_a_program_that_needs_the_disk_is_restarted_until_there_is_space(home, small, monkeypatch):
    """Without the disk as its excuse, it would fail permanently after this many quick deaths."""
    monkeypatch.setattr("bisnesctl.guard.policy.MAX_PAUSE_SECONDS", 0.3)
    row = Program("sandbox", "", "", restart_delay=0.1, min_uptime=1, max_restarts=2)

    class Programs(Deployment):
        @property
        def instances(self):
            return [Instance("needy", row, "needy")]

    section = NEEDY.format(file=small.folder / "needed").replace("program:sandbox", "program:needy")
    with supervised(home, section) as supervisor:
        events, gone = queue.SimpleQueue(), threading.Event()
        duty = Guard(
            Programs(home, supervisor), GuardState(), ProcessEventWriter(home.home / "spool.jsonl", home.database_dsn)
        )
        small.fill()
        supervisor.start("needy:needy")

        def serve():
            while not gone.is_set():
                duty.run_once(events)

        guard = threading.Thread(target=serve, daemon=True)
        guard.start()
        try:
            wait_until(lambda: len(duty._state.of("needy").deaths) > 4)
            small.free()
            wait_until(lambda: supervisor.processes()["needy"].state == "RUNNING"
                       and supervisor.processes()["needy"].uptime > 2)  # fmt: skip
        finally:
            gone.set()
            guard.join(HANG_SECONDS)


def sleeping(supervisor, home):
    """Run the sandbox's program, which needs nothing but the disk for its log, and give its pid."""
    supervisor.start("sandbox:sandbox")
    wait_until(lambda: supervisor.processes()["sandbox"].pid)
    return supervisor.processes()["sandbox"].pid


def noted(home):
    """The events in the spool file."""
    found = []
    with contextlib.suppress(FileNotFoundError):
        for file in home.home.glob("guard-spool.*"):
            found += [json.loads(line)["event_type"] for line in file.read_text().splitlines() if line]
    return found


def restarted(stage, pid):
    """Wait until this process of the sandbox has ended and another one runs, and give that one's pid."""
    wait_until(lambda: not is_alive(pid))
    wait_until(lambda: stage.processes()["sandbox"].pid not in (0, pid), 60, lambda: str(stage.processes()["sandbox"]))
    return stage.processes()["sandbox"].pid


@mounts
@pytest.mark.parametrize("how", ["full", "read-only"])
def test_a_killed_process_is_restarted_on_a_full_disk(stage, home, small, how):
    pid = sleeping(stage, home)
    guard = stage.processes()["guard"].pid
    small.fill() if how == "full" else small.read_only()
    for _ in range(2):
        os.kill(pid, signal.SIGKILL)
        pid = restarted(stage, pid)
    assert stage.processes()["guard"].pid == guard
    small.free() if how == "full" else small.writable()
    wait_until(lambda: noted(home).count("process_restarting") >= 2, what=lambda: str(noted(home)))
    wait_until(lambda: guard_file.guard_status(stage.processes(), home).off_duty == "")


@mounts
def test_a_guard_that_starts_on_a_full_disk_does_its_work(stage, home, small):
    pid = sleeping(stage, home)
    small.fill()
    guard = stage.processes()["guard"].pid
    os.kill(guard, signal.SIGKILL)
    wait_until(lambda: stage.processes()["guard"].pid not in (0, guard))
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: stage.processes()["sandbox"].pid not in (0, pid))


@mounts
@pytest.mark.parametrize("how", ["full", "read-only"])
def test_everything_can_be_stopped_on_a_full_disk(stage, home, small, how):
    pid = sleeping(stage, home)
    record_start(home.run_dir, Mode.MULTIPROCESS, True, ())
    small.fill() if how == "full" else small.read_only()
    deployment, told = open_deployment(home), []
    with deployment.lock("stop"):
        assert stop.stop_all(deployment, told.append)
    assert not is_alive(pid)
    assert deployment.supervisor_pid() is None
    if how == "read-only":
        assert "was stopped on purpose" in told[-1]
    else:
        assert read_last_start(home.run_dir).since == 0.0


@mounts
def test_the_guard_counts_as_alive_on_a_full_disk(stage, home, small):
    small.fill()
    before = (home.run_dir / guard_file.GUARD_FILE).read_text()
    wait_until(lambda: (home.run_dir / guard_file.GUARD_FILE).read_text() not in (before, ""))
    wait_until(lambda: json.loads((home.run_dir / guard_file.GUARD_FILE).read_text())["pid"])


@pytest.mark.parametrize("text", ["", "{", "[]", '{"histories": {"a": 1}}', "\0" * 100])
def test_a_damaged_state_file_is_ignored(tmp_path, text):
    (tmp_path / guard_file.GUARD_FILE).write_text(text)
    with structlog.testing.capture_logs() as logged:
        assert state_file.read(tmp_path) == GuardState()
    assert [each["event"] for each in logged] == ["guard.state_damaged"]


def test_the_state_survives_a_restart_but_not_a_boot(tmp_path):
    known = GuardState({"api-0": History((boottime(),), 1, Decision("restart", "why", boottime() + 5))}, 7, 9)
    known.write(tmp_path)
    assert state_file.read(tmp_path) == known
    content = json.loads((tmp_path / guard_file.GUARD_FILE).read_text())
    (tmp_path / guard_file.GUARD_FILE).write_text(json.dumps(content | {"beat_boottime": boottime() + 1000}))
    assert state_file.read(tmp_path) == GuardState()


def test_a_state_in_wall_clock_time_delays_nothing(tmp_path):
    GuardState({"api-0": History((time.time(),), 1, Decision("restart", "why", time.time() + 5))}).write(tmp_path)
    (history,) = state_file.read(tmp_path).histories.values()
    assert history.deaths == ()
    assert history.decision.at is not None
    assert history.decision.at <= boottime()


@mounts
def test_process_events_are_kept_in_memory_and_written_once_there_is_space(small):
    spool = small.folder / "spool.jsonl"
    writer = ProcessEventWriter(spool, "postgresql:///x?host=/nonexistent")
    writer.record(EVENT)
    small.fill()
    for _ in range(300):
        writer.record(EVENT)
    lines = [line for line in spool.read_text().splitlines() if line]
    assert all(json.loads(line) for line in lines)
    small.free()
    writer.record(EVENT)
    assert len([line for line in spool.read_text().splitlines() if line]) == 302


@mounts
def test_process_events_on_a_full_disk_take_a_limited_amount_of_memory(small, monkeypatch):
    monkeypatch.setattr("bisnesctl.database.process_events.MAX_EVENTS_IN_MEMORY", 10)
    small.fill()
    writer = ProcessEventWriter(small.folder / "new" / "spool.jsonl", "postgresql:///x?host=/nonexistent")
    for _ in range(50):
        writer.record(EVENT)
    assert len(writer._in_memory) == 10


def test_process_events_reach_postgresql_past_a_disk_that_cannot_be_written(database):
    writer = ProcessEventWriter(Path("/proc/nowhere/spool.jsonl"), database)  # cannot be written
    writer.record(EVENT)
    writer.start()
    wait_until(lambda: not writer._in_memory)


@mounts
@pytest.mark.parametrize(("how", "words"), [("full", "is full (0 MB free of 8 MB)"), ("inodes", "no inode free"),
                                            ("read-only", "read-only"), ("foreign", "belongs to ")])  # fmt: skip
def test_an_error_says_what_is_wrong_with_the_disk(tmp_path, how, words):
    with small_disk(tmp_path / "disk", inodes=16) as small:
        folder = small.folder / "var"
        folder.mkdir()
        if how == "full":
            small.fill()
        elif how == "inodes":
            with contextlib.suppress(OSError):
                for number in range(100):
                    (small.folder / str(number)).touch()
        elif how == "read-only":
            small.read_only()

        def write():
            if how == "foreign":
                os.chown(folder, 12345, 12345)
                with disk.writing(folder):
                    raise PermissionError(13, "Permission denied")
            File("a.conf", "x" * 100_000).write(folder)

        with pytest.raises(CannotWrite) as raised:
            write()
        assert words in str(raised.value)
        assert "cannot be written" in str(raised.value)
        assert raised.value.exit_code == ExitCode.CONFLICT
        assert [each.name for each in folder.iterdir()] == []
