"""The guard with a real supervisord, real processes and a real PostgreSQL."""

import contextlib
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import psutil
import psycopg2
import pytest
import requests

from bisnesctl.audit import trail
from bisnesctl.database.process_events import ProcessEvent, ProcessEventWriter
from bisnesctl.guard import guard as guard_module
from bisnesctl.guard import state_file
from bisnesctl.guard.guard import Guard
from bisnesctl.guard.listener import SupervisorEvent
from bisnesctl.health import guard_file
from bisnesctl.host import disk
from bisnesctl.host.process_stat import is_alive
from bisnesctl.host.process_times import boottime
from bisnesctl.logs import exits
from bisnesctl.processes import command_records, restart_records, stop_records
from bisnesctl.processes.deployment import Deployment
from bisnesctl.processes.topology import Instance, Program
from tests.support.processes.servers import settings_in
from tests.support.processes.supervisord import supervised
from tests.support.sandbox import free_port
from tests.support.waiting import HANG_SECONDS, wait_until

#: Holds 150 MB in a child that ignores SIGTERM.
HOG = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    held = b"x" * (150 << 20)
time.sleep(1000)
"""
ROOT = Path(__file__).parents[3]
PORT = free_port()
#: Seconds between looks of the guard, and between its checks.
WATCH_INTERVAL, CHECK_INTERVAL = 0.2, 1.0
#: Seconds after which the guard would have ended a process that gives no sign of life here.
SILENCE = 14.0
ROWS = {
    "steady": Program("steady", "", "sleep 1000", restart_delay=0.2, min_uptime=0, max_restarts=5),
    "quick": Program("quick", "", "sh -c 'exit 3'", restart_delay=0.1, min_uptime=60, max_restarts=2),
    "talker": Program("talker", "", "sh -c …", restart_delay=60),
    "kicked": Program("kicked", "", "sh -c 'exit 77'", restart_delay=0.1, final_exits=frozenset({77})),
    "mute": Program("mute", "", "sleep 1000", restart_delay=0.1, hang_check=True),
    "hanging": Program("hanging", "", "sh -c 'sleep 0.2; exit 70'", restart_delay=60, hang_exits=frozenset({70})),
    "jam": Program("jam", "", "jam", restart_delay=0.1, kill_timeout=12, hang_check=True),
    "sick": Program("sick", "", "…", restart_delay=0.1, probe="postgres"),
    "hog": Program("hog", "", f'{sys.executable} -c "{{hog}}"', restart_delay=0.1, memory=100, kill_timeout=2),
}


class Programs(Deployment):
    """A deployment of our own programs."""

    @property
    def instances(self):
        return [Instance(name, row, name) for name, row in ROWS.items()]


class Stage:
    """supervisord with these programs, and a guard that can be replaced by another one."""

    def __init__(self, settings, supervisor):
        self.settings, self.supervisor = settings, supervisor
        self._guards = []

    def guard(self, dsn=None):
        """Put a guard on duty; the one before it is gone, as by a SIGKILL."""
        self.relieve()
        events, gone = queue.SimpleQueue(), threading.Event()
        notes = ProcessEventWriter(self.settings.home / "spool.jsonl", dsn or self.settings.database_dsn)
        notes.start()
        programs = Programs(self.settings, self.supervisor)
        duty = Guard(programs, state_file.read(self.settings.run_dir), notes)

        def be_on_duty():
            while not gone.is_set():
                duty.run_once(events)

        thread = threading.Thread(target=be_on_duty, daemon=True)
        thread.start()
        self._guards.append((gone, thread))
        return events

    def relieve(self):
        """Nobody is on duty."""
        for gone, thread in self._guards:
            gone.set()
            thread.join(HANG_SECONDS)

    def process(self, name):
        return self.supervisor.processes()[name]

    def run(self, name):
        """Start it, wait until it runs, and give its pid."""
        self.supervisor.start(f"{name}:{name}")
        wait_until(lambda: self.process(name).pid)
        return self.process(name).pid

    def word(self, name):
        """The guard's decision about it."""
        with contextlib.suppress(FileNotFoundError):
            return json.loads((self.settings.run_dir / guard_file.GUARD_FILE).read_text())["instances"].get(name)
        return None

    def noted(self, event):
        """The event in the database: severity and details."""
        with contextlib.closing(psycopg2.connect(self.settings.database_dsn)) as connection:
            cursor = connection.cursor()
            cursor.execute(
                "SELECT severity, event_data FROM process_events WHERE event_type = %s ORDER BY id", (event,)
            )
            return cursor.fetchall()


@pytest.fixture
def stage(tmp_path, database, monkeypatch):
    monkeypatch.setattr(guard_module, "WATCH_INTERVAL_SECONDS", WATCH_INTERVAL)
    monkeypatch.setattr(guard_module, "CHECK_INTERVAL_SECONDS", CHECK_INTERVAL)
    settings = settings_in(tmp_path, DATABASE_URL=database, HEARTBEAT_INTERVAL="200", MAX_HEARTBEAT_AGE="5000")
    hog = tmp_path / "hog.py"
    hog.write_text(HOG)
    gunicorn = f"{sys.executable} -m gunicorn -c python:services.gunicorn_conf --no-control-socket"
    commands = {name: row.command for name, row in ROWS.items()} | {
        "hog": f"{sys.executable} {hog}",
        "talker": "sh -c 'echo the file is missing: fetch it >&2; exit 3'",
        "sick": "bash -c '(exec -a \"postgres: checkpointer\" sleep 1000) & wait'",
        "jam": f"{gunicorn} -b 127.0.0.1:{PORT} tests.support.processes.jammed_app:app",
    }
    sections = [
        f"\n[program:{name}]\ncommand = {command}\nautostart = false\nautorestart = false\nstartsecs = 0\n"
        f"startretries = 0\nstderr_logfile = {settings.log_dir / name}.err.log\n"
        f"killasgroup = true\nstopwaitsecs = {ROWS[name].kill_timeout}\ndirectory = {ROOT}\n"
        f'environment = BISNES_PROCESS="{name}",BISNES_INSTANCE="{name}",BISNES_ENV="{settings.env_file}"\n'
        for name, command in commands.items()
    ]
    with supervised(settings, "".join(sections)) as supervisor:
        stage = Stage(settings, supervisor)
        yield stage
        stage.relieve()


def test_a_killed_process_is_restarted_and_recorded(stage):
    stage.guard()
    pid = stage.run("steady")
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: stage.process("steady").pid not in (0, pid))
    wait_until(lambda: stage.noted("process_restarting"))
    ((severity, details),) = stage.noted("process_restarting")
    assert (severity, details["instance"], details["exit_status"]) == ("warning", "steady", -1)


def test_an_end_that_is_noticed_late_has_its_own_time(stage):
    os.kill(stage.run("steady"), signal.SIGKILL)
    wait_until(lambda: stage.process("steady").ended_at)
    ended_at = stage.process("steady").ended_at
    wait_until(lambda: time.time() - ended_at > guard_module.LATE_SECONDS)
    stage.guard()
    wait_until(lambda: stage.noted("process_restarting"))
    with contextlib.closing(psycopg2.connect(stage.settings.database_dsn)) as connection:
        cursor = connection.cursor()
        cursor.execute(
            "SELECT extract(epoch FROM timestamp)::float FROM process_events WHERE event_type = 'process_restarting'"
        )
        assert cursor.fetchone() == (ended_at,)


def test_decisions_of_the_guard_are_in_the_audit_trail(stage):
    stage.guard()
    stage.supervisor.start("quick:quick")
    wait_until(lambda: stage.noted("process_failed"))
    found = [record for _, record in trail.waiting(stage.settings.home)]
    assert [record.action for record in found] == ["process_restarting", "process_restarting", "process_failed"]
    assert {(record.source, record.actor, *record.arguments) for record in found} == {("guard", "guard", "quick")}
    assert "quick deaths in a row" in found[-1].message


def test_quick_deaths_end_in_a_failure_until_an_operator_starts_it(stage):
    stage.guard()
    stage.supervisor.start("quick:quick")
    wait_until(lambda: (stage.word("quick") or {}).get("decision") == "fail", what=lambda: str(stage.word("quick")))
    assert "3 quick deaths in a row" in stage.word("quick")["reason"]
    assert "exit status 3" in stage.word("quick")["reason"]
    wait_until(lambda: stage.noted("process_failed"))
    assert [severity for severity, _ in stage.noted("process_failed")] == ["critical"]
    assert len(stage.noted("process_restarting")) == 2


def test_what_a_process_said_about_its_end_is_reported(stage):
    events = stage.guard()
    stage.supervisor.start("talker:talker")
    wait_until(lambda: stage.word("talker"))
    how = "it ended with exit status 3: the file is missing: fetch it"
    assert stage.word("talker")["reason"].startswith(how)
    assert guard_file.guard_status(stage.supervisor.processes(), stage.settings).ends["talker"] == how
    events.put(SupervisorEvent(1, "PROCESS_STATE_EXITED", {"processname": "talker", "expected": "0", "pid": "1"}))
    wait_until(lambda: stage.noted("process_exited"))
    severity, details = stage.noted("process_exited")[0]
    assert (severity, details["reason"]) == ("error", "the file is missing: fetch it")
    stage.supervisor.stop("talker:talker")
    wait_until(lambda: not guard_file.guard_status(stage.supervisor.processes(), stage.settings).ends)


def test_a_clean_end_is_no_error(stage):
    stage.guard().put(SupervisorEvent(1, "PROCESS_STATE_EXITED", {"processname": "steady", "expected": "1"}))
    wait_until(lambda: stage.noted("process_exited"))
    assert [severity for severity, _ in stage.noted("process_exited")] == ["warning"]


def test_a_command_of_an_operator_is_recorded_for_each_program(stage):
    settings = stage.settings
    command_records.write(
        settings.run_dir, "restart", [Instance(name, ROWS[name], name) for name in ("steady", "mute")]
    )
    stage.guard()
    wait_until(lambda: len(stage.noted("operator_restart")) == 2)
    found = {
        details["instances"][0]: (severity, details["user"]) for severity, details in stage.noted("operator_restart")
    }
    assert found == dict.fromkeys(("steady", "mute"), ("info", stop_records.operator()))
    assert list((settings.run_dir / command_records.FOLDER).iterdir()) == []


def test_an_interrupted_rolling_restart_is_recorded_once(stage):
    settings = stage.settings
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    record = restart_records.begin(settings.run_dir, "restart all", "steady", ("mute",))
    restart_records.write(settings.run_dir, replace(record, pid=int(ended.stdout)))
    stage.guard()
    wait_until(lambda: len(stage.noted("command_interrupted")) == 2)
    stage.guard()  # a new one knows it
    os.kill(stage.run("steady"), signal.SIGKILL)
    wait_until(lambda: stage.noted("process_restarting"))
    found = [details["instances"] for _, details in stage.noted("command_interrupted")]
    assert found == [["mute"], ["steady"]]


def test_a_final_exit_is_not_followed_by_a_start(stage):
    stage.guard()
    stage.supervisor.start("kicked:kicked")
    wait_until(lambda: stage.word("kicked"))
    assert (stage.word("kicked")["decision"], stage.word("kicked")["at"]) == ("block", None)
    wait_until(lambda: stage.noted("process_blocked"))
    assert stage.process("kicked").state == "EXITED"


def test_a_stopped_process_stays_stopped(stage):
    events = stage.guard()
    stage.run("steady")
    stage.supervisor.stop("steady:steady")
    wait_until(lambda: stage.process("steady").settled)
    for serial in range(30):  # each wakes it
        events.put(SupervisorEvent(serial, "PROCESS_STATE_STOPPED", {"processname": "steady"}))
        time.sleep(0.02)
    assert stage.process("steady").settled
    assert stage.word("steady") is None


def test_a_tree_over_its_memory_limit_is_stopped_by_force_if_necessary_and_restarted(stage):
    stage.guard()
    pid = stage.run("hog")
    wait_until(lambda: stage.process("hog").pid not in (0, pid), what=lambda: str(stage.process("hog")))
    wait_until(lambda: not is_alive(pid))
    wait_until(lambda: stage.noted("memory_exceeded"))
    severity, details = stage.noted("memory_exceeded")[0]
    assert (severity, details["limit"], details["used"] > 100 << 20) == ("error", 100 << 20, True)
    told = guard_file.guard_status(stage.supervisor.processes(), stage.settings).hangs["hog"]
    assert "restarted once within an hour" in told


def heart(stage, name, pid, reason=None, age=0.0):
    """Write a heartbeat."""
    stage.settings.heartbeat_dir.mkdir(parents=True, exist_ok=True)
    told = {"pid": pid, "process": "meta", "status": "healthy", "reason": reason, "waited": 0.0}
    told["beat_boottime"] = boottime() - age
    (stage.settings.heartbeat_dir / f"{name}.json").write_text(json.dumps(told))


def test_a_process_without_heartbeat_is_killed_recorded_and_restarted(stage):
    heart(stage, "mute", 1, age=10_000.0)  # a predecessor's
    stage.guard()
    pid = stage.run("mute")
    wait_until(lambda: stage.process("mute").pid not in (0, pid), 90, lambda: str(stage.process("mute")))
    assert not is_alive(pid)
    wait_until(lambda: stage.noted("process_hung"))
    severity, details = stage.noted("process_hung")[0]
    assert (severity, details["instance"]) == ("error", "mute")
    assert "no heartbeat for" in details["reason"]
    told = guard_file.guard_status(stage.supervisor.processes(), stage.settings).hangs["mute"]
    assert "hung once within an hour" in told
    assert "no heartbeat for" in told


def test_a_process_with_a_heartbeat_or_a_recent_start_is_not_killed(stage):
    stage.guard()
    pid = stage.run("mute")
    for _ in range(75):
        heart(stage, "mute", pid)
        time.sleep(0.2)
    assert stage.process("mute").pid == pid


def test_a_postgresql_that_neither_works_nor_recovers_is_killed_and_started_again(stage, monkeypatch):
    monkeypatch.setattr(guard_module, "RECOVERY_CHECKS", 2)
    stage.guard()
    pid = stage.run("sick")
    wait_until(lambda: stage.process("sick").pid not in (0, pid), 90, lambda: str(stage.process("sick")))
    wait_until(lambda: stage.noted("process_hung"))
    assert "recovery from a crash failed" in stage.noted("process_hung")[0][1]["reason"]


def test_nothing_is_killed_while_no_heartbeat_can_be_written(stage, monkeypatch):
    asked = []

    def refuse(folder):
        asked.append(folder)
        return "the disk is full"

    monkeypatch.setattr(disk, "write_refusal", refuse)
    stage.guard()
    pid = stage.run("mute")
    wait_until(lambda: len(asked) > 5, 90)
    assert stage.process("mute").pid == pid


def test_a_process_that_ends_itself_after_a_hang_is_recorded_with_its_reason(stage):
    heart(stage, "hanging", 1, "its browser thread has not moved for 130 s")
    stage.guard()
    stage.supervisor.start("hanging:hanging")
    wait_until(lambda: stage.word("hanging"))
    assert "has not moved for 130 s" in stage.word("hanging")["reason"]
    wait_until(lambda: stage.noted("process_hung"))
    assert stage.noted("process_hung")[0][0] == "error"


def test_a_guard_continues_after_a_killed_one_and_records_nothing_twice(stage):
    events = stage.guard()
    stage.supervisor.start("quick:quick")
    wait_until(lambda: (stage.word("quick") or {}).get("deaths", 0) >= 2)
    told = [
        SupervisorEvent(serial, "PROCESS_STATE_RUNNING", {"processname": "steady", "pid": "1"}) for serial in (5, 6)
    ]
    for event in told:
        events.put(event)
    wait_until(lambda: len(stage.noted("process_running")) == 2)
    events = stage.guard()
    for event in [*told, SupervisorEvent(7, "PROCESS_STATE_RUNNING", {"processname": "steady", "pid": "1"})]:
        events.put(event)
    wait_until(lambda: (stage.word("quick") or {}).get("decision") == "fail")
    wait_until(lambda: len(stage.noted("process_running")) >= 3)
    assert [details["serial"] for _, details in stage.noted("process_running")] == [5, 6, 7]


def test_events_during_an_outage_of_postgresql_are_stored_after_it(stage):
    stage.guard(dsn="postgresql:///nobody?host=/nonexistent")
    pid = stage.run("steady")
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: stage.process("steady").pid not in (0, pid))
    assert stage.noted("process_restarting") == []
    stage.guard()
    wait_until(lambda: len(stage.noted("process_restarting")) == 1)


def test_an_event_that_was_stored_before_a_crash_is_not_stored_again(stage):
    note = ProcessEvent("steady", "steady", "process_exited", "warning", 1000.5, {"serial": 1})
    spool = stage.settings.home / "other.jsonl"
    for _ in range(2):  # the second finds the file of the first, as though it had not been removed
        spool.write_text(note.line() + "\n{torn")
        ProcessEventWriter(spool, stage.settings.database_dsn).start()
        wait_until(lambda: not spool.exists() and not spool.with_suffix(".sending").exists())
    assert len(stage.noted("process_exited")) == 1


def test_process_events_are_stored_in_the_order_of_their_recording(stage):
    spool = stage.settings.home / "other.jsonl"
    notes = [
        ProcessEvent("steady", "steady", "process_exited", "warning", 1000.5, {"serial": serial})
        for serial in range(300)
    ]
    spool.write_text("".join(f"{note.line()}\n" for note in notes))
    ProcessEventWriter(spool, stage.settings.database_dsn).start()
    wait_until(lambda: len(stage.noted("process_exited")) == 300)
    assert [details["serial"] for _, details in stage.noted("process_exited")] == list(range(300))


def jammed(stage):
    """Start the process that can be jammed, and wait until it answers; gives its pid."""
    pid = stage.run("jam")
    wait_until(lambda: answers("/health"))
    return pid


def answers(path):
    with contextlib.suppress(requests.RequestException):
        return requests.get(f"http://127.0.0.1:{PORT}{path}", timeout=HANG_SECONDS).ok
    return False


def restarted(stage, pid, reason):
    """It is started again, serves again, and what happened is noted with its reason."""
    wait_until(lambda: stage.process("jam").pid not in (0, pid), 120, lambda: str(stage.process("jam")))
    wait_until(lambda: answers("/other"))
    wait_until(lambda: stage.noted("process_hung"))
    ((severity, details),) = stage.noted("process_hung")
    assert (severity, details["instance"]) == ("error", "jam")
    assert reason in details["reason"]
    assert any(reason in told["reason"] for _, told in stage.noted("process_restarting"))
    assert not is_alive(pid)


def test_a_process_whose_threads_are_all_stuck_is_restarted(stage):
    stage.guard()
    pid = jammed(stage)
    with contextlib.ExitStack() as clients:
        for _ in range(5):  # more than it has threads
            client = clients.enter_context(socket.create_connection(("127.0.0.1", PORT), HANG_SECONDS))
            client.sendall(b"GET /jam HTTP/1.1\r\nHost: x\r\n\r\n")
        assert answers("/health")  # which has threads of its own
        restarted(stage, pid, "requests wait, and no thread has ended one")


def test_a_process_that_cannot_give_a_heartbeat_is_restarted(stage):
    stage.guard()
    pid = jammed(stage)
    psutil.Process(pid).suspend()
    restarted(stage, pid, "no heartbeat for")


def test_a_process_that_serves_is_not_restarted(stage):
    stage.guard()
    pid = jammed(stage)
    time.sleep(SILENCE + 3)
    assert stage.process("jam").pid == pid
    assert stage.noted("process_hung") == []


def test_a_killed_server_is_the_end_of_its_instance(stage):
    events = stage.guard()
    pid = jammed(stage)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: stage.process("jam").pid not in (0, pid), 60, lambda: str(stage.process("jam")))
    wait_until(lambda: answers("/other"))
    wait_until(lambda: stage.noted("process_restarting"))
    ((_, details),) = stage.noted("process_restarting")
    assert (details["instance"], details["exit_status"]) == ("jam", -1)
    assert details["reason"].startswith("it was killed by SIGKILL")
    events.put(SupervisorEvent(1, "PROCESS_STATE_EXITED", {"processname": "jam", "expected": "0", "pid": str(pid)}))
    wait_until(lambda: stage.noted("process_exited"))
    ((severity, told),) = stage.noted("process_exited")
    assert (severity, told["reason"]) == ("error", "killed by SIGKILL")
    found = exits.read_exits(stage.settings.log_dir / exits.SUPERVISORD_LOG)["jam"]
    assert (found.count, found.last) == (1, "terminated by SIGKILL")
    assert "jam" in guard_file.guard_status(stage.supervisor.processes(), stage.settings).ends
