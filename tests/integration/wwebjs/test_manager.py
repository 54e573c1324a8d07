"""The manager on a real database and a real supervisord, whose sessions are stand-ins without a browser."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from bisnesctl.bots import ownership, web_sessions
from bisnesctl.bots.ownership import Side
from bisnesctl.naming import session_name
from services.connectors.wwebjs.browser.profiles import Profile
from services.connectors.wwebjs.manager import store
from services.connectors.wwebjs.manager.session_supervisor import SessionSupervisor
from services.connectors.wwebjs.session import commands, status_store
from services.connectors.wwebjs.session.bot_lock import BotLock
from services.database.connection import Database
from tests.support.deployment import alive, descendants, free_ports
from tests.support.outbox import execute
from tests.support.processes.servers import settings_in
from tests.support.processes.supervisord import supervised
from tests.support.waiting import HANG_SECONDS, wait_until

#: Does what a session does with its row. One of the company "broken" fails to start, one of "mute" is killed hard.
STAND_IN = """
import os, signal, sys, time, psycopg2
company, phone = sys.argv[1], int(sys.argv[2])
lines = dict(line.strip().split("=", 1) for line in open(os.environ["BISNES_ENV"]))
connection = psycopg2.connect(lines["DATABASE_URL"])
connection.autocommit = True

def become(setting):
    connection.cursor().execute(
        "UPDATE wa_session SET " + setting + " WHERE bot_id ="
        " (SELECT id FROM phone_configs WHERE company_id = %s AND phone_index = %s)", (company, phone))

become("state = 'STARTING', started_at = now()")
if company == "broken":
    become("state = 'FAILED', reason = 'Chromium does not start', failed_starts = failed_starts + 1")
    sys.exit(75)
if company == "slow":
    time.sleep(600)

def end(*_):
    if company == "stubborn":
        return
    if company != "mute":
        become("state = 'STOPPED'")
    os._exit(0)

signal.signal(signal.SIGTERM, end)
become("state = 'WORKING', beat_at = now(), failed_starts = 0, memory_mb = 300")
while True:
    time.sleep(600)
"""
COMPANY = "0128"


class Quiet:
    """Sessions look for their commands by themselves."""

    def notify(self, queue_name):
        pass


class Stage:
    """A supervisord, a database with bots, and the manager's discovery, done by hand."""

    def __init__(self, settings, supervisor, side=Side.MULTIPROCESS):
        self.settings, self.supervisor = settings, supervisor
        self._database = Database(settings.database_dsn, 2)
        self.discovery = SessionSupervisor(settings, Quiet(), side)

    def add(self, phone, company=COMPANY):
        """A WhatsApp Web number."""
        self.rows("INSERT INTO phone_configs (company_id, phone_index) VALUES (%s, %s)", (company, phone))

    def rows(self, statement, values=()):
        with self._database.connection() as connection:
            return execute(connection, statement, values)

    def round(self):
        """One round of the discovery; returns the seconds to the next."""
        with self._database.connection() as connection:
            return self.discovery.round(connection)

    def look(self):
        with self._database.connection() as connection:
            return self.discovery.look(connection)

    def settle(self):
        """Rounds until every session that may be started is."""
        wait_until(lambda: self.round() > 5, what=lambda: str(self.states()))

    def session(self, phone, company=COMPANY):
        with self._database.connection() as connection:
            return web_sessions.find_one(connection, company, phone)

    def do(self, action, phone, *arguments, company=COMPANY):
        with self._database.connection() as connection:
            action(connection, web_sessions.find_one(connection, company, phone), *arguments)

    def states(self):
        return {f"{company}-{phone}": state for company, phone, state in self.rows(
            "SELECT company_id, phone_index, state FROM wa_session JOIN phone_configs ON id = bot_id"
        )}  # fmt: skip

    def until(self, state, phone, company=COMPANY):
        wait_until(lambda: self.session(phone, company).state == state, what=lambda: str(self.states()))

    def pids(self):
        """Of the sessions that run, by name."""
        return {name: each.pid for name, each in self.supervisor.processes().items() if _is_session(name) and each.pid}

    def close(self):
        self._database.close()


def _is_session(name):
    return name.startswith("wwebjs-session")


def name(phone, company=COMPANY):
    return session_name(company, phone)


@pytest.fixture
def settings(database, tmp_path):
    package = tmp_path / "var" / "services" / "connectors" / "wwebjs"
    package.mkdir(parents=True)
    for folder in (package, package.parent, package.parent.parent):
        (folder / "__init__.py").touch()
    (package / "__main__.py").write_text(STAND_IN)
    more = {"MAX_SESSIONS": "2", "WWEBJS_MEMORY_MB": "1000", "HEALTH_CHECK_INTERVAL": "300"}
    return settings_in(tmp_path, DATABASE_URL=database, REDIS_URL="redis://127.0.0.1:1", **more)


@pytest.fixture
def stage(settings):
    with supervised(settings) as supervisor:
        found = Stage(settings, supervisor)
        yield found
        found.close()


def test_sessions_come_and_go_without_touching_the_others(stage):
    stage.add(0)
    stage.settle()
    stage.until("WORKING", 0)
    first = stage.pids()[name(0)]
    stage.add(1)
    stage.settle()
    stage.until("WORKING", 1)
    assert stage.look() == 2
    stage.do(web_sessions.want, 1, False)
    stage.settle()
    stage.until("STOPPED", 1)
    assert stage.pids() == {name(0): first}
    stage.do(web_sessions.want, 1, True)
    stage.settle()
    stage.until("WORKING", 1)
    stage.rows("DELETE FROM phone_configs WHERE phone_index = 1")
    stage.settle()
    assert stage.pids() == {name(0): first}


def test_no_more_than_max_sessions_run_and_the_rest_say_why(stage):
    for phone in range(3):
        stage.add(phone)
    stage.settle()
    for phone in (0, 1):
        stage.until("WORKING", phone)
    assert set(stage.pids()) == {name(0), name(1)}
    assert (stage.session(2).state, "MAX_SESSIONS" in stage.session(2).reason) == ("STOPPED", True)
    stage.do(web_sessions.want, 0, False)
    stage.settle()
    stage.until("WORKING", 2)
    assert set(stage.pids()) == {name(1), name(2)}


def tried_again(stage, program):
    """How often it was started in vain; it is started again, as the guard does."""
    if not stage.supervisor.processes()[program].active:
        stage.supervisor.start(f"{program}:{program}")
    return stage.session(0, "broken").failed_starts


def test_three_failed_starts_block_for_an_hour(stage):
    stage.add(0, "broken")
    stage.add(0)
    program = name(0, "broken")
    stage.settle()
    wait_until(lambda: tried_again(stage, program) >= 3)
    stage.until("FAILED", 0, "broken")
    stage.settle()
    stage.until("WORKING", 0)
    assert program not in stage.supervisor.processes()
    blocked = stage.session(0, "broken")
    assert blocked.block.kind == "failed_starts"
    assert "Chromium does not start" in blocked.block.reason
    assert 3590 <= (blocked.block.until - blocked.block.since).total_seconds() <= 3610
    assert stage.rows("SELECT severity FROM process_events WHERE event_type = 'session_blocked'") == [("error",)]
    assert stage.session(0).block is None

    stage.rows("UPDATE wa_block SET until = now() - interval '1 second'")
    stage.settle()
    wait_until(lambda: 1 <= stage.session(0, "broken").failed_starts < 3)
    assert stage.session(0, "broken").block is None


def test_a_start_that_is_under_way_is_not_cut_off_by_a_block(stage):
    stage.add(0, "slow")
    stage.settle()
    stage.until("STARTING", 0, "slow")
    before = stage.pids()
    stage.rows("UPDATE wa_session SET failed_starts = 3")
    stage.settle()
    assert stage.session(0, "slow").block is None
    assert stage.pids() == before


def test_a_number_that_was_kicked_stays_blocked_until_an_operator_unblocks_it(stage):
    stage.add(0)
    stage.settle()
    stage.until("WORKING", 0)
    bot = stage.session(0).bot_id
    stage.rows("INSERT INTO wa_block (bot_id, kind, reason, until) VALUES (%s, 'banned', 'banned', 'infinity')", (bot,))
    stage.settle()
    assert stage.pids() == {}
    assert (stage.session(0).state, stage.session(0).reason) == ("FAILED", "banned")
    stage.settle()
    assert stage.pids() == {}
    stage.do(web_sessions.unblock, 0)
    stage.settle()
    stage.until("WORKING", 0)


def test_the_profile_of_a_removed_number_goes_once_its_browser_has_ended(stage):
    stage.add(0)
    stage.settle()
    profile = Profile(stage.settings.profile_dir, COMPANY, 0)
    profile.assign(stage.session(0).bot_id)
    profile.mark_linked("60110000001")
    stage.rows("DELETE FROM phone_configs")
    wait_until(lambda: stage.round() < 60 and name(0) not in stage.pids())
    assert stage.round() < 60, "it is in use, and tried again"
    assert profile.linked
    profile.close()
    stage.round()
    assert [each for each in stage.settings.profile_dir.iterdir() if each.is_dir()] == []
    assert stage.rows("SELECT * FROM wa_removed") == []


def test_a_session_stopped_by_name_stays_stopped_until_a_start(stage):
    stage.add(0)
    stage.settle()
    stage.until("WORKING", 0)
    stage.supervisor.stop(f"{name(0)}:{name(0)}")
    stage.until("STOPPED", 0)
    wait_until(lambda: not stage.supervisor.processes()[name(0)].active)
    stage.settle()
    assert stage.pids() == {}
    stage.do(web_sessions.want, 0, True)
    stage.settle()
    stage.until("WORKING", 0)


def test_a_session_without_a_process_is_published_as_failed(stage):
    stage.add(0, "mute")
    stage.settle()
    stage.until("WORKING", 0, "mute")
    stage.supervisor.stop(f"{name(0, 'mute')}:{name(0, 'mute')}")
    wait_until(lambda: not stage.supervisor.processes()[name(0, "mute")].active)
    stage.look()
    assert stage.session(0, "mute").state == "WORKING", "it may be about to be restarted"
    stage.look()
    found = stage.session(0, "mute")
    assert (found.state, found.reason) == ("FAILED", "its process does not run (it ended with 0)")


@pytest.mark.parametrize("shift", ["-1 hour", "150 seconds", "-150 seconds"])
def test_a_heartbeat_from_a_wrong_clock_restarts_no_session(stage, shift):
    stage.add(0)
    stage.settle()
    stage.until("WORKING", 0)
    before = stage.pids()
    stage.rows(f"UPDATE wa_session SET beat_at = now() + interval '{shift}', started_at = beat_at")
    for _ in range(3):
        stage.look()
        stage.round()
    assert stage.pids() == before


def test_the_heartbeat_of_an_earlier_process_does_not_count(stage):
    stage.add(0)
    stage.settle()
    stage.until("WORKING", 0)
    stage.rows("UPDATE wa_session SET beat_at = now() - interval '1 hour', started_at = now()")
    assert stage.session(0).silence() is None
    stage.rows("UPDATE wa_session SET started_at = now() - interval '2 hours'")
    assert 3500 < stage.session(0).silence() < 3700


@contextlib.contextmanager
def on_another_machine(stage, phone):
    """A number that a process of another machine has."""
    bot = stage.session(phone).bot_id
    stage.rows("UPDATE wa_session SET host = 'other', state = 'WORKING', started_at = now() WHERE bot_id = %s", (bot,))
    database = Database(stage.settings.database_dsn, 1)
    lock = BotLock(database, bot)
    assert lock.acquire()
    yield
    lock.release()
    database.close()


def test_a_session_of_another_machine_is_neither_started_nor_published_here(stage):
    stage.add(0)
    with stage._database.connection() as connection:
        status_store.adopt_bots(connection)
    with on_another_machine(stage, 0):
        stage.settle()
        for _ in range(3):
            stage.look()
        assert stage.pids() == {}
        assert (stage.session(0).state, stage.session(0).block) == ("WORKING", None)
    stage.settle()
    wait_until(lambda: list(stage.pids()) == [name(0)])


def test_sessions_that_are_slow_to_end_do_not_keep_others_from_starting(stage):
    stage.add(0, "stubborn")
    stage.settle()
    stage.until("WORKING", 0, "stubborn")
    stage.do(web_sessions.want, 0, False, company="stubborn")
    stage.add(0)
    stage.add(1)  # for which there is room once the first has ended
    stage.round()
    assert name(1) not in stage.pids()
    assert stage.supervisor.processes()[name(0, "stubborn")].state == "STOPPING"
    assert stage.session(0, "stubborn").state == "WORKING", "it has not ended yet"
    stage.until("WORKING", 0)
    stage.settle()
    assert stage.session(0, "stubborn").state == "STOPPED"
    wait_until(lambda: set(stage.pids()) == {name(0), name(1)})


def test_over_the_memory_limit_of_all_the_browser_with_the_most_memory_is_renewed(stage):
    for phone in (0, 1):
        stage.add(phone)
    stage.settle()
    for phone in (0, 1):
        stage.until("WORKING", phone)
    stage.look()
    assert stage.rows("SELECT 1 FROM wa_command") == []
    fat = stage.session(1).bot_id
    stage.rows("UPDATE wa_session SET memory_mb = 800 WHERE bot_id = %s", (fat,))
    stage.look()
    stage.look()
    assert stage.rows("SELECT bot_id, command FROM wa_command") == [(fat, "recycle")]


def test_killing_the_manager_stops_no_session_and_the_next_one_goes_on(settings, stage):
    stage.add(0)
    stage.rows("INSERT INTO api_keys (key_hash, prefix) VALUES (sha256('key'), 'key')")
    with manager(settings) as (process, url):
        stage.until("WORKING", 0)
        before = stage.pids()
        assert requests.get(f"{url}/health/ready", timeout=HANG_SECONDS).json()["process"] == "wwebjs"
        assert requests.get(f"{url}/api/sessions", timeout=HANG_SECONDS).status_code == 401
        answer = requests.get(f"{url}/api/sessions/{COMPANY}/0", headers={"X-Api-Key": "key"}, timeout=HANG_SECONDS)
        assert answer.json()["session"]["status"] == "WORKING"
        workers = descendants(process.pid)
        process.kill()
        process.wait()
    wait_until(lambda: not any(alive(pid) for pid in workers))
    stage.add(1)
    assert stage.pids() == before
    with manager(settings) as (process, _):
        stage.until("WORKING", 1)
        process.terminate()
        process.wait(HANG_SECONDS)
    assert stage.pids().items() > before.items()


def test_one_manager_at_a_time_leads_on_a_machine(database):
    found = Database(database, 2)
    first, other = found.connect(), found.connect()
    assert store.take_lead(first, "here", Side.MULTIPROCESS)
    assert not store.take_lead(other, "here", Side.MULTIPROCESS)
    assert store.take_lead(other, "there", Side.MULTIPROCESS)
    first.close()
    wait_until(lambda: store.take_lead(other, "here", Side.MULTIPROCESS))
    other.close()


def test_with_owners_each_side_has_a_lead(database):
    found = Database(database, 2)
    first, other = found.connect(), found.connect()
    ownership.introduce(first, Side.LEGACY, "test")
    assert store.take_lead(first, "here", Side.MULTIPROCESS)
    assert store.take_lead(other, "here", Side.LEGACY)
    other.close()
    second = found.connect()
    assert not store.take_lead(second, "here", Side.MULTIPROCESS)
    for each in (first, second):
        each.close()


def test_each_side_supervises_its_own_sessions_and_a_hand_over_disturbs_none(stage):
    for phone in (0, 1):
        stage.add(phone)
    stage.settle()
    for phone in (0, 1):
        stage.until("WORKING", phone)
    before = stage.pids()
    other = Stage(stage.settings, stage.supervisor, Side.LEGACY)
    with stage._database.connection() as connection:
        ownership.introduce(connection, Side.MULTIPROCESS, "test")
        moved = web_sessions.find_one(connection, COMPANY, 0).bot_id
        ownership.drain(connection, [moved], Side.LEGACY, 60)
        assert ownership.complete(connection, [moved], Side.LEGACY, "test") == {moved}
    for each in (stage, other):
        each.settle()
    assert stage.pids() == before
    assert (stage.look(), other.look()) == (1, 1)
    stage.do(web_sessions.want, 0, False)
    stage.round()
    assert stage.pids() == before
    wait_until(lambda: other.round() > 5)
    stage.until("STOPPED", 0)
    assert stage.pids() == {name(1): before[name(1)]}
    other.close()


def test_a_command_waits_for_its_session(database):
    found = Database(database, 2)
    with found.connection() as connection:
        number = commands.send(connection, Quiet(), 1, "restart", {"why": "test"})
        assert commands.answer(found, number, 0.0) is None
        execute(connection, 'UPDATE wa_command SET done_at = now(), answer = \'{"state": "WORKING"}\'')
        assert commands.answer(found, number, 0.0) == {"state": "WORKING"}
        execute(connection, "UPDATE wa_command SET error = 'the page is lost'")
        with pytest.raises(commands.CommandFailed, match="the page is lost"):
            commands.answer(found, number, 0.0)
    found.close()


@contextlib.contextmanager
def manager(settings):
    """The manager as supervisord runs it: its process and its address."""
    (port,) = free_ports(1)
    words = ("-c", "python:services.gunicorn_conf", "--no-control-socket", "-b", f"127.0.0.1:{port}")
    process = subprocess.Popen(
        [sys.executable, "-m", "gunicorn", *words, "services.wwebjs_manager:create_service()"],
        env={**os.environ, "BISNES_ENV": str(settings.env_file), "BISNES_PROCESS": "wwebjs"},
        cwd=Path(__file__).parents[3],
    )
    try:
        wait_until(lambda: _answers(f"http://127.0.0.1:{port}/health"))
        yield process, f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def _answers(url):
    with contextlib.suppress(requests.RequestException):
        return requests.get(url, timeout=HANG_SECONDS).ok
    return False
