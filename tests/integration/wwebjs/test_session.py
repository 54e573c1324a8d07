"""The session process of a WhatsApp Web number: how it begins and ends, on the simulated page in a real browser."""

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from typing import cast

import pytest

from bisnesctl import wajs
from bisnesctl.backoff import Backoff
from bisnesctl.health import heartbeats
from bisnesctl.naming import session_name
from services.connectors.wwebjs.browser import process_tree
from services.connectors.wwebjs.browser.browser import BrowserOptions
from services.connectors.wwebjs.browser.chromium import StartFailed
from services.connectors.wwebjs.browser.profiles import MAX_ARCHIVED, Profile, ProfileInUse, discard
from services.connectors.wwebjs.session import commands, session, status_store
from services.connectors.wwebjs.session import process as session_process
from services.connectors.wwebjs.session.bot_lock import BotLock
from services.connectors.wwebjs.session.browser_loop import Hooks
from services.connectors.wwebjs.session.event_recorder import EventRecorder
from services.connectors.wwebjs.session.session import ExitStatus, Session
from services.connectors.wwebjs.session.status_store import StatusStore
from services.connectors.wwebjs.states import relaunch
from services.connectors.wwebjs.states.state_machine import Limits, State
from services.connectors.wwebjs.translation.incoming import parse
from services.database.connection import Database
from services.inbox.webhook_inbox import Inbox
from services.runtime.process import Process
from tests.support.deployment import alive, descendants
from tests.support.outbox import execute, open_database
from tests.support.processes.servers import settings_in
from tests.support.sandbox import eventually, free_port
from tests.support.web_page import WebSandbox
from tests.unit.wwebjs.test_browser_loop import Browser
from tests.unit.wwebjs.test_state_machine import MAIN, health

COMPANY, NUMBER = "0128", "60110000007"


#: The same as `python -m services.connectors.wwebjs`.
MAIN_MODULE = "import sys; from services.connectors.wwebjs.__main__ import main; sys.exit(main())"
#: Has a step that takes more than 6 seconds beyond twice its deadline count as one that hangs.
SOON_HUNG = "import time; from services.connectors.wwebjs.session import process; process.STEP_MARGIN_SECONDS = 6.0"
#: Has the thread that owns the browser hang in a step.
HANGS = {
    "launch": "from services.connectors.wwebjs.browser.browser import Browser; "
    "from services.connectors.wwebjs.session import session; session.LAUNCH_TIMEOUT_SECONDS = 5.0; "
    "Browser.launch = lambda *_: time.sleep(1e6)",
    "look": "from services.connectors.wwebjs.session.browser_loop import BrowserLoop; "
    "BrowserLoop._look = lambda _: time.sleep(1e6)",
}


class Nobody:
    """A notifier that wakes nobody."""

    def notify(self, _queue):
        pass


class SessionProcess(subprocess.Popen[str]):
    """The process of a session, and its output once it has ended."""

    said = ""


class Stage:
    """A bot, and the processes that serve it."""

    def __init__(self, dsn, redis_url, folder, page_url, **more):
        self.settings = settings_in(
            folder, DATABASE_URL=dsn, REDIS_URL=redis_url, WA_URL=page_url, HEARTBEAT_INTERVAL="1000",
            WA_JS_PATH=str(wajs.fetch()), ENCRYPTION_KEY="00" * 32, **more,
        )  # fmt: skip
        self.pool, self.connection = open_database(dsn)
        ((self.bot,),) = execute(
            self.connection,
            "INSERT INTO phone_configs (company_id, phone_index, connection_type) VALUES (%s, 0, 'wwebjs')"
            " RETURNING id",
            (COMPANY,),
        )
        self.processes = []

    def start(self, before=""):
        """Start the process; it runs the Python code `before` at first."""
        environment = {**os.environ, "BISNES_ENV": str(self.settings.env_file)}
        command = [sys.executable, "-c", f"{before}\n{MAIN_MODULE}", COMPANY, "0"]
        process = SessionProcess(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.processes.append(process)
        threading.Thread(target=lambda: setattr(process, "said", process.stdout.read()), daemon=True).start()
        return process

    def end(self):
        for process in self.processes:
            if process.poll() is None:
                everything = process_tree.members(process.pid)
                process.kill()
                process.wait()
                for pid in everything:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
        self.connection.close()
        self.pool.close()

    def row(self, column):
        found = execute(self.connection, f"SELECT {column} FROM wa_session WHERE bot_id = %s", (self.bot,))
        return found[0][0] if found else None

    def becomes(self, state, process):
        """Wait until the session is in that state; its process must not end before."""

        def became():
            assert process.poll() is None or self.row("state") == state, process.said
            return self.row("state") == state

        eventually(became)

    def tell(self, command, **arguments):
        """Have a command carried out, and return the answer."""
        number = commands.send(self.connection, Nobody(), self.bot, command, arguments)
        return eventually(lambda: commands.answer(self.pool, number, 60) or {"done": True})

    def statuses(self):
        """The events of the session that customers received, in their order."""
        query = "SELECT event_data -> 'payload' ->> 'status' FROM process_events WHERE event_type = %s ORDER BY id"
        return [status for (status,) in execute(self.connection, query, ("session_status",))]


@pytest.fixture
def stage(database, redis_server, tmp_path):
    """A bot of a page that nobody serves, unless a test has one served."""
    stage = Stage(database, redis_server.url, tmp_path, f"http://127.0.0.1:{free_port()}")
    yield stage
    stage.end()


@pytest.fixture
def sandbox(tmp_path):
    sandbox = WebSandbox(tmp_path / "sandbox")
    yield sandbox
    sandbox.end()


def test_a_session_shows_a_code_works_and_stops(database, redis_server, sandbox, tmp_path):
    stage = Stage(database, redis_server.url, tmp_path, sandbox.page_url)
    try:
        live(stage, sandbox)
    finally:
        stage.end()


def live(stage, sandbox):
    process = stage.start()
    stage.becomes("SCAN_QR_CODE", process)
    first = eventually(lambda: stage.row("qr"))
    assert (stage.row("failed_starts"), stage.row("beat_at")) == (0, None)
    sandbox.scan(NUMBER)
    stage.becomes("WORKING", process)
    assert (stage.row("own_number"), stage.row("qr")) == (NUMBER, None)
    assert first.count(",") == 4
    assert stage.tell("status")["view"] == "working"
    with pytest.raises(commands.CommandFailed, match="no command dance"):
        stage.tell("dance")
    with pytest.raises(commands.CommandFailed, match="nothing to link"):
        stage.tell("pair", phoneNumber=NUMBER)
    everything = process_tree.members(process.pid)
    assert len(everything) > 4
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == ExitStatus.STOPPED
    assert [pid for pid in everything if pid in process_tree.members(pid)] == []
    assert (stage.row("state"), stage.row("failed_starts")) == ("STOPPED", 0)
    again = stage.start()
    stage.becomes("WORKING", again)  # nobody scans: the profile was kept
    again.kill()
    third = stage.start()
    eventually(lambda: stage.row("pid") == third.pid)
    eventually(lambda: stage.row("state") != "WORKING")  # what the killed one said does not stand
    stage.becomes("WORKING", third)
    told = stage.statuses()
    assert told[0] == "STARTING"
    assert [each for each in told if each != "STARTING"] == ["SCAN_QR_CODE", "WORKING", "STOPPED", "WORKING", "WORKING"]


def test_a_page_that_cannot_be_reached_for_a_while_is_no_failed_start(database, redis_server, tmp_path):
    port = free_port()
    stage = Stage(database, redis_server.url, tmp_path, f"http://127.0.0.1:{port}/_wa/")
    process = stage.start()
    try:
        eventually(lambda: "ERR_CONNECTION_REFUSED" in (stage.row("reason") or ""))
        assert stage.row("state") == "STARTING"
        assert stage.tell("status") == {"view": "unreachable"}
        with pytest.raises(commands.CommandFailed, match="not open"):
            stage.tell("doctor")
        sandbox = WebSandbox(tmp_path / "sandbox", port=port)
        try:
            stage.becomes("SCAN_QR_CODE", process)
            assert (stage.row("failed_starts"), stage.row("reason")) == (0, None)
        finally:
            sandbox.end()
    finally:
        stage.end()


class Unlaunchable:
    """A browser that does not start."""

    events, lost = queue.Queue(), None

    def __init__(self, *_):
        pass

    def launch(self):
        raise StartFailed("no display")

    def kill(self):
        pass


class Shown(Browser):
    """A browser of which the page says one thing."""

    def launch(self):
        pass

    def open(self):
        pass

    def kill(self):
        pass

    def close(self, _seconds):
        pass


def serve(stage, monkeypatch, browser, ours=True):
    """Run a session with such browsers; returns how it ended."""
    monkeypatch.setattr(session, "Browser", browser)
    monkeypatch.setattr(relaunch, "BACKOFF", Backoff(0.0, 1.0, 0.0))
    status = StatusStore(stage.pool, stage.bot, lambda *_: None)
    profile = Profile(stage.settings.profile_dir, COMPANY, 0)
    recorder = EventRecorder(stage.pool, stage.bot, Inbox("wwebjs", parse, bot_id=stage.bot), lambda: None)
    hooks = Hooks(
        stopping=lambda: False,
        set_working=lambda works: None,
        idle=lambda: True,
        memory_mb=lambda _: 1.0,
        handle_commands=lambda loop: None,
        lock_held=lambda: ours,
    )
    status.begin()
    options = cast(BrowserOptions, None)  # these browsers use none
    return Session(options, profile, status, recorder, [], Limits(500.0, 2), hooks).run(threading.Event())


def test_browsers_that_do_not_start_are_tried_a_few_times_then_the_start_has_failed(stage, monkeypatch):
    assert serve(stage, monkeypatch, Unlaunchable) == ExitStatus.START_FAILED
    assert (stage.row("state"), stage.row("reason"), stage.row("failed_starts")) == ("FAILED", "no display", 1)


def test_a_session_that_runs_elsewhere_publishes_no_state(stage, monkeypatch):
    assert serve(stage, monkeypatch, lambda *_: Shown(MAIN), ours=False) == ExitStatus.ELSEWHERE
    assert stage.row("state") == "STARTING"  # as published before


def test_a_refused_account_is_blocked_for_good_and_its_queue_is_held(stage, monkeypatch):
    assert serve(stage, monkeypatch, lambda *_: Shown(health("TOS_BLOCK"))) == ExitStatus.GIVEN_UP
    ((kind, forever),) = execute(stage.connection, "SELECT kind, until = 'infinity' FROM wa_block")
    assert (kind, forever, stage.row("state")) == ("banned", True, "FAILED")


def test_a_blocked_number_is_not_started(stage):
    execute(stage.connection, "INSERT INTO wa_block VALUES (%s, 'banned', 'spam', now(), 'infinity')", (stage.bot,))
    process = stage.start()
    assert process.wait(60) == ExitStatus.GIVEN_UP
    eventually(lambda: "spam" in process.said)
    assert stage.row("state") is None
    execute(stage.connection, "UPDATE wa_block SET until = now() - interval '1 second'")
    assert StatusStore(stage.pool, stage.bot, lambda *_: None).block() is None


def test_an_unknown_number_exits_as_misconfigured(stage):
    execute(stage.connection, "DELETE FROM phone_configs")
    assert stage.start().wait(60) == ExitStatus.MISCONFIGURED


def test_two_processes_never_serve_one_bot(stage, database):
    one, two = (BotLock(Database(database, 2, "t"), stage.bot) for _ in range(2))
    stopping, process_health = threading.Event(), session_process.ProcessHealth(Process(stage.settings, "t"))
    assert session_process._acquire(one, process_health, stopping)
    threading.Timer(3.0, stopping.set).start()
    assert not session_process._acquire(two, process_health, stopping)
    assert "another process" in str(process_health.counters.degraded)
    execute(stage.connection, "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'")
    assert one.held()  # it acquires the lock again
    one.release()
    eventually(two.acquire)
    assert not one.held()
    two.release()


@pytest.mark.parametrize("step", HANGS)
def test_a_process_whose_browser_thread_hangs_ends_itself_and_says_where(
    database, redis_server, sandbox, tmp_path, step
):
    stage = Stage(database, redis_server.url, tmp_path, sandbox.page_url, MAX_HEARTBEAT_AGE="2000")
    try:
        process = stage.start(f"{SOON_HUNG}; {HANGS[step]}")
        below = set()

        def ended():
            below.update(process_tree.members(process.pid))
            return process.poll() is not None

        eventually(ended)
        assert process.returncode == ExitStatus.HUNG
        beat = heartbeats.current(stage.settings, session_name(COMPANY, 0))
        assert "its browser's thread has not moved for" in beat.reason
        eventually(lambda: "most recent call first" in process.said)  # where every thread was
        assert stage.row("failed_starts") == 0
        eventually(lambda: not any(alive(pid) for pid in below))
    finally:
        stage.end()


def test_a_database_that_freezes_for_long_ends_no_session(postgres, database, redis_server, sandbox, tmp_path):
    stage = Stage(database, redis_server.url, tmp_path, sandbox.page_url, MAX_HEARTBEAT_AGE="2000")
    try:
        process = stage.start(SOON_HUNG)
        stage.becomes("SCAN_QR_CODE", process)
        frozen = [postgres.pid, *descendants(postgres.pid)]
        signal_all(frozen, signal.SIGSTOP)
        try:
            time.sleep(20)  # more than any step may take
        finally:
            signal_all(frozen, signal.SIGCONT)
        sandbox.scan(NUMBER)
        stage.becomes("WORKING", process)
    finally:
        stage.end()


def signal_all(pids, signum):
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signum)


def test_a_profile_is_used_by_one_process_and_two_archived_ones_are_kept(tmp_path):
    profile = Profile(tmp_path, COMPANY, 0)
    with pytest.raises(ProfileInUse):
        Profile(tmp_path, COMPANY, 0)
    for number in range(MAX_ARCHIVED + 2):
        assert not profile.linked
        (profile.path / "key").write_text(str(number))
        profile.mark_linked(NUMBER)
        assert profile.linked
        profile.archive()
    assert profile.path.stat().st_mode & 0o777 == 0o700
    name = session_name(COMPANY, 0)
    kept = sorted(each for each in tmp_path.iterdir() if each.is_dir() and each.name != name)
    assert [(each / "key").read_text() for each in kept] == ["2", "3"]
    profile.close()
    Profile(tmp_path, COMPANY, 0).close()


def test_a_removed_number_leaves_nothing_that_links_it_and_its_successor_does_not_inherit_it(tmp_path):
    profile = Profile(tmp_path, COMPANY, 0)
    profile.assign(7)
    profile.mark_linked(NUMBER)
    profile.archive()
    profile.mark_linked(NUMBER)
    with pytest.raises(ProfileInUse):
        discard(tmp_path, COMPANY, 0, 7)
    profile.close()
    successor = Profile(tmp_path, COMPANY, 0)
    successor.assign(8)
    assert not successor.linked
    successor.mark_linked(NUMBER)
    assert len(folders(tmp_path)) == 3
    discard(tmp_path, COMPANY, 0, 7)
    assert folders(tmp_path) == [successor.path.name]
    assert successor.linked
    successor.close()
    discard(tmp_path, COMPANY, 0, 8)
    assert folders(tmp_path) == []
    discard(tmp_path, COMPANY, 0, 8)


def folders(place):
    return sorted(each.name for each in place.iterdir() if each.is_dir())


def test_a_state_lasts_since_it_began_whatever_its_reasons(stage):
    status = StatusStore(stage.pool, stage.bot, lambda *_: None)
    status.begin()
    status.change(State.STARTING)
    first = stage.row("changed_at")
    status.change(State.STARTING, "the network is unavailable")
    assert (stage.row("changed_at"), stage.row("reason")) == (first, "the network is unavailable")
    status.change(State.WORKING)
    assert stage.row("changed_at") > first


@pytest.mark.parametrize("end", [State.STOPPED, None])
def test_a_start_that_is_stopped_or_killed_did_not_fail(stage, end):
    for _ in range(4):
        status = StatusStore(stage.pool, stage.bot, lambda *_: None)
        status.begin()
        status.change(State.STARTING)
        if end:
            status.change(end)
    assert stage.row("failed_starts") == 0
    with stage.pool.connection() as connection:
        assert status_store.block_failing(connection) == []


def test_three_failed_starts_block_the_session_and_a_good_one_resets_the_count(stage):
    def fail():
        status = StatusStore(stage.pool, stage.bot, lambda *_: None)
        status.begin()
        status.fail("no display")

    def blocked():
        with stage.pool.connection() as connection:
            return status_store.block_failing(connection)

    fail()
    fail()
    status = StatusStore(stage.pool, stage.bot, lambda *_: None)
    status.begin()
    assert blocked() == []
    status.change(State.SCAN_QR_CODE)
    assert stage.row("failed_starts") == 0
    for _ in range(2):
        fail()
        assert blocked() == []
    fail()
    assert blocked() == [stage.bot]
