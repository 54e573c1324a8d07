"""Workers of several machines on one database: a worker that slept beyond its lease sends nothing that another one
has taken over, and what has not left is sent by that other one."""

import contextlib
import os
import signal
import subprocess
import sys
from dataclasses import replace

import pytest

from bisnesctl.host import process_times
from services.message import Status
from services.outbox.recovery import JournalRecovery
from tests.support.outbox import accept, add_bot, entry, execute, open_database, outbox, result, status_of
from tests.support.outbox_worker import Stage
from tests.support.waiting import wait_until

CHAT = "60123456789"
#: Seconds.
SHORT_LEASE = 1.5


@pytest.fixture
def stage(database, tmp_path, monkeypatch):
    stage = Stage(database, tmp_path / "here", monkeypatch)
    yield stage
    stage.close()


@pytest.fixture
def elsewhere(database, tmp_path):
    """Start a worker on another machine; gives its process and its folder."""
    with contextlib.ExitStack() as started:

        def start(stage):
            folder = tmp_path / "there"
            folder.mkdir()
            command = [sys.executable, "-m", "tests.support.processes.elsewhere"]
            output = started.enter_context((folder / "log").open("wb"))
            process = subprocess.Popen(
                [*command, database, str(folder), stage.provider.url, "elsewhere"], stdout=output, stderr=output,
                env=os.environ | {"LEASE_SECONDS": str(SHORT_LEASE)},
            )  # fmt: skip
            started.callback(process.wait)
            started.callback(process.kill)
            return process, folder

        yield start


def with_file(bot, text):
    new = entry(bot, CHAT, text)
    return replace(new, payload=new.payload | {"media": {"link": "https://files.example/a.png"}})


def expire_leases(connection):
    execute(connection, "UPDATE lane SET due = now() - interval '1 second' WHERE claim IS NOT NULL")


def a_machine_beats(connection, host):
    execute(
        connection,
        "INSERT INTO process_instances (process_name, host, instance, pid, status, started_at)"
        " VALUES ('meta', %s, 'meta-worker-1', 1, 'healthy', now())",
        (host,),
    )


def take_over(stage):
    """Another machine's worker settles all claims, as if their leases had expired."""
    expire_leases(stage.connection)
    JournalRecovery(outbox("other/meta-worker-1/b"), stage.settings.journal_dir).of_expired_leases(stage.connection)


def test_a_file_of_a_machine_that_sleeps_is_sent_by_another_one_and_in_order(stage, elsewhere):
    bot = stage.bot()
    sleeper, folder = elsewhere(stage)
    stage.accept(with_file(bot, "file"), entry(bot, CHAT, "next"))
    wait_until((folder / "preparing").exists)
    sleeper.send_signal(signal.SIGSTOP)
    stage.sender()
    stage.wait_for(lambda: stage.statuses() == {"sent": 2})
    (folder / "gate").touch()
    sleeper.send_signal(signal.SIGCONT)
    wait_until(lambda: "claim.lost" in (folder / "log").read_text())
    assert [text for _, text in stage.provider.received] == ["file", "next"]
    assert stage.statuses() == {"sent": 2}


def test_a_text_that_was_on_its_way_when_its_machine_slept_is_sent_once(stage, elsewhere):
    bot = stage.bot()
    stage.provider.hanging.clear()
    sleeper, _ = elsewhere(stage)
    stage.accept(entry(bot, CHAT, "hang"), entry(bot, CHAT, "next"))
    stage.wait_for(lambda: stage.provider.waiting)
    sleeper.send_signal(signal.SIGSTOP)
    stage.sender()
    stage.wait_for(lambda: stage.statuses() == {"unknown": 1, "sent": 1})
    stage.provider.hanging.set()
    sleeper.send_signal(signal.SIGCONT)
    stage.wait_for(lambda: stage.statuses() == {"sent": 2})  # its own outcome settles it
    assert sorted(text for _, text in stage.provider.received) == ["hang", "next"]


@pytest.fixture
def asleep(stage, monkeypatch):
    """`asleep(meanwhile)`: the next request is made, then the worker sleeps beyond its lease, and `meanwhile` runs."""

    def prepare(meanwhile):
        usual, slept = stage.connector.request, []

        def request(bot, message):
            made = usual(bot, message)
            if not slept:
                slept.append(message)
                meanwhile()
                now = process_times.boottime
                wakes = now() + 1000
                monkeypatch.setattr(process_times, "boottime", lambda: now() + wakes)
            return made

        monkeypatch.setattr(stage.connector, "request", request)
        return slept

    return prepare


def test_a_claim_that_is_too_old_is_renewed_before_its_message_leaves(stage, asleep):
    slept = asleep(lambda: expire_leases(stage.connection))
    stage.accept(entry(stage.bot(), CHAT, "late"))
    stage.sender()
    stage.wait_for(lambda: stage.statuses() == {"sent": 1})
    assert len(slept) == 1
    assert stage.provider.received == [(CHAT, "late")]


def test_a_message_that_others_count_as_unknown_fails_if_it_did_not_leave(stage, asleep):
    asleep(lambda: take_over(stage))
    late = entry(stage.bot(), CHAT, "late")
    stage.accept(late)
    stage.sender()
    stage.wait_for(lambda: stage.statuses() == {"failed": 1})
    assert execute(stage.connection, "SELECT error_code FROM outbox") == [("worker_suspended",)]
    following = entry(late.bot_id, CHAT, "next")
    stage.accept(following)
    stage.wait_for(lambda: status_of(stage.connection, following.message_id) == "sent")
    assert stage.provider.received == [(CHAT, "next")]


def test_a_text_that_had_not_left_is_sent_by_the_one_who_took_over(stage, asleep):
    a_machine_beats(stage.connection, "other")
    seen = []

    def meanwhile():
        take_over(stage)
        seen.append(stage.statuses())

    asleep(meanwhile)
    stage.accept(entry(stage.bot(), CHAT, "late"))
    stage.sender()
    stage.wait_for(lambda: stage.statuses() == {"sent": 1})
    assert seen == [{"queued": 1}]
    assert stage.provider.received == [(CHAT, "late")]


def test_all_that_leaves_is_marked_while_other_machines_send(stage):
    a_machine_beats(stage.connection, "other")
    bot = stage.bot()
    stage.provider.hanging.clear()
    stage.accept(*(entry(bot, f"6011111{n:04}", f"hang {n}") for n in range(3)))
    stage.sender()
    stage.wait_for(lambda: len(stage.provider.waiting) == 3)
    assert execute(stage.connection, "SELECT unmarked FROM lane WHERE claim IS NOT NULL") == [(None,)] * 3
    stage.provider.hanging.set()
    stage.wait_for(lambda: stage.statuses() == {"sent": 3})


@pytest.fixture
def connection(database):
    pool, connection = open_database(database)
    yield connection
    connection.close()
    pool.close()


def test_an_outcome_of_an_earlier_claim_does_not_end_the_present_one_of_the_same_worker(connection):
    accept(connection, entry(add_bot(connection)))
    (first,) = outbox().claim(connection, 10)
    outbox().record(connection, [result(first, None, fence=first.fence)])
    (second,) = outbox().claim(connection, 10)
    assert (second.id, second.fence) == (first.id, 2)
    outbox().record(connection, [result(first, Status.FAILED, fence=first.fence)])
    assert execute(connection, "SELECT status::text FROM outbox") == [("queued",)]
    assert execute(connection, "SELECT head FROM lane") == [(second.id,)]
    assert outbox().mark(connection, [first]) == set()
    assert outbox().mark(connection, [second]) == {(second.bot_id, second.chat_id, second.fence)}


@pytest.mark.parametrize(("marked", "status"), [(True, "failed"), (False, "unknown")])
def test_a_late_outcome_settles_an_unknown_message_only_if_it_may_have_left_under_that_claim(
    connection, marked, status
):
    accept(connection, entry(add_bot(connection)))
    (message,) = outbox().claim(connection, 10)
    outbox().record(connection, [result(message, Status.UNKNOWN)])
    outbox().record(connection, [result(message, Status.FAILED, marked=marked)])
    assert execute(connection, "SELECT status::text FROM outbox") == [(status,)]


@pytest.mark.parametrize("media", [True, False])
def test_a_claim_of_an_earlier_version_counts_as_marked(connection, tmp_path, media):
    """It sets the claim alone, and leaves the columns that it does not know."""
    bot = add_bot(connection)
    accept(connection, with_file(bot, "x") if media else entry(bot))
    (message,) = outbox("new/meta-worker-1/a").claim(connection, 10)
    assert message.unmarked is media
    execute(connection, "UPDATE lane SET claim = 'old/meta-worker-1/a', due = now() - interval '1 second'")
    JournalRecovery(outbox("other/meta-worker-1/b"), tmp_path).of_expired_leases(connection)
    assert execute(connection, "SELECT status::text FROM outbox") == [("unknown",)]
