"""Processes that end before supervisord looks at them, or that it cannot start: a real supervisord and a real guard."""

import contextlib
import os
import queue
import signal
import threading
from types import SimpleNamespace

import pytest

from bisnesctl.database.process_events import ProcessEventWriter
from bisnesctl.errors import SupervisorFault
from bisnesctl.guard import state_file
from bisnesctl.guard.guard import Guard
from bisnesctl.guard.state_file import GuardState
from bisnesctl.processes.deployment import Deployment
from bisnesctl.processes.topology import Instance, Program
from tests.support.processes.servers import settings_in
from tests.support.processes.supervisord import supervised
from tests.support.waiting import HANG_SECONDS, wait_until

#: A busy machine: supervisord gets no processor after a fork, or no process while the file is there.
BUSY = """
import errno
import pathlib
import time

from supervisor.options import ServerOptions
from supervisor.process import Subprocess

spawn, fork = Subprocess.spawn, ServerOptions.fork


def spawn_and_wait(process):
    pid = spawn(process)
    time.sleep(0.3)
    return pid


def fork_or_fail(options):
    if pathlib.Path({file!r}).exists():
        raise OSError(errno.EAGAIN, "no process left")
    return fork(options)


def make(supervisord):
    Subprocess.spawn, ServerOptions.fork = spawn_and_wait, fork_or_fail
    return object()
"""
SECTIONS = """
[rpcinterface:busy]
supervisor.rpcinterface_factory = busy_machine:make
"""
ROWS = {
    name: Program(name, "", "", restart_delay=0.1, min_uptime=0, max_restarts=5) for name in ("away", "quick", "steady")
}


class Programs(Deployment):
    """A deployment of our own programs."""

    @property
    def instances(self):
        return [Instance(name, row, name) for name, row in ROWS.items()]


@pytest.fixture
def stage(tmp_path, monkeypatch):
    """supervisord on a busy machine; `away` is a program that the test removes."""
    no_fork, away = tmp_path / "no-fork", tmp_path / "away"
    (tmp_path / "busy_machine.py").write_text(BUSY.format(file=str(no_fork)))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    away.symlink_to("/bin/sleep")
    commands = {"away": f"{away} 1000", "quick": "sh -c 'exit 3'", "steady": "sleep 1000"}
    sections = [
        f"\n[program:{name}]\ncommand = {command}\nautostart = false\nautorestart = false\nstartsecs = 0\n"
        "startretries = 0\n"
        for name, command in commands.items()
    ]
    settings = settings_in(tmp_path, DATABASE_URL="postgresql:///x?host=/nonexistent")
    with supervised(settings, SECTIONS + "".join(sections)) as supervisor:
        yield SimpleNamespace(
            settings=settings, supervisor=supervisor, no_fork=no_fork, away=away,
            process=lambda name: supervisor.processes()[name],
        )  # fmt: skip


@contextlib.contextmanager
def guarded(stage, known):
    """A guard that knows this much is on duty."""
    events, gone = queue.SimpleQueue(), threading.Event()
    process_events = ProcessEventWriter(stage.settings.home / "spool.jsonl", stage.settings.database_dsn)
    duty = Guard(Programs(stage.settings, stage.supervisor), known, process_events)

    def be_on_duty():
        while not gone.is_set():
            duty.run_once(events)

    thread = threading.Thread(target=be_on_duty, daemon=True)
    thread.start()
    try:
        yield
    finally:
        gone.set()
        thread.join(HANG_SECONDS)


def run(stage, name):
    stage.supervisor.start(f"{name}:{name}")
    wait_until(lambda: stage.process(name).state == "RUNNING")
    return stage.process(name).pid


def test_a_process_that_ends_at_once_counts_as_started(stage):
    stage.supervisor.start("quick:quick")
    wait_until(lambda: stage.process("quick").state == "EXITED")
    assert stage.process("quick").exit_status == 3
    assert stage.supervisor.revive("quick:quick")
    wait_until(lambda: stage.process("quick").state == "EXITED")
    pid = run(stage, "steady")
    assert not stage.supervisor.revive("steady:steady")
    assert stage.process("steady").pid == pid


def test_a_process_that_cannot_be_forked_is_started_by_the_guard_later(stage):
    stage.no_fork.touch()
    stage.supervisor.start("steady:steady")
    wait_until(lambda: stage.process("steady").state == "FATAL")
    assert "Too many processes" in stage.process("steady").error
    with guarded(stage, GuardState()):
        stage.no_fork.unlink()
        wait_until(lambda: stage.process("steady").state == "RUNNING")


def restarted(stage, pid):
    """Wait until another process than this one runs as `steady`, and give its pid."""
    wait_until(lambda: stage.process("steady").pid not in (0, pid))
    return stage.process("steady").pid


def test_a_missing_program_is_started_once_it_is_back_and_does_not_delay_others(stage):
    pid, known = run(stage, "steady"), GuardState()
    known.renewing["away"] = "it uses 2 MB of 1"  # the guard stopped it for its memory
    stage.away.unlink()
    with pytest.raises(SupervisorFault, match="NO_FILE"):
        stage.supervisor.start("away:away")
    with guarded(stage, known):
        for _ in range(2):
            os.kill(pid, signal.SIGKILL)
            pid = restarted(stage, pid)
        assert stage.process("away").state == "STOPPED"
        wait_until(lambda: "away" in state_file.read(stage.settings.run_dir).renewing)
        stage.away.symlink_to("/bin/sleep")
        wait_until(lambda: stage.process("away").state == "RUNNING")
    assert not state_file.read(stage.settings.run_dir).renewing
