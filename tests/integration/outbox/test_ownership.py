"""The side that serves a bot: claims of the other one, hand-overs, and workers that sleep through them."""

import contextlib
import os
import signal
import socket
import subprocess
import sys

import pytest

from bisnesctl.bots import ownership
from bisnesctl.bots.ownership import Side
from services.message import Status
from services.outbox.store import Outbox
from tests.support.outbox import accept, add_bot, entry, execute, open_database, outbox, result
from tests.support.outbox_worker import Stage
from tests.support.waiting import wait_until

LEGACY, MULTI = Side.LEGACY, Side.MULTIPROCESS
CHAT = "60123456789"
#: Seconds.
LONG, SHORT_LEASE = 3600.0, 1.5


@pytest.fixture
def connection(database):
    pool, connection = open_database(database)
    yield connection
    connection.close()
    pool.close()


def side_outbox(side, instance="meta-worker-1"):
    return Outbox("meta", f"host/{instance}/run1", 1e6, 60, side=side)


def texts(messages):
    return sorted(each.payload["message"] for each in messages)


def hand_over(connection, bots, to, force=False):
    ownership.drain(connection, bots, to, LONG)
    return ownership.complete(connection, bots, to, "test", force)


def owner_of(connection, bot):
    return ownership.find(connection, [bot])[0]


def test_without_owners_every_side_claims(connection):
    bot = add_bot(connection)
    accept(connection, entry(bot, CHAT, "a"), entry(bot, "60111111111", "b"))
    assert len(side_outbox(LEGACY).claim(connection, 1)) == 1
    assert len(side_outbox(MULTI).claim(connection, 5)) == 1
    assert not ownership.is_in_use(connection)


def test_a_side_claims_only_its_own_bots_and_a_claim_has_the_epoch(connection):
    ours, theirs = add_bot(connection, index=0), add_bot(connection, index=1)
    ownership.introduce(connection, LEGACY, "test")
    assert hand_over(connection, [ours], MULTI) == {ours}
    accept(connection, entry(ours, CHAT, "ours"), entry(theirs, CHAT, "theirs"))
    assert side_outbox(MULTI).has_due(connection)
    assert texts(side_outbox(MULTI).claim(connection, 5)) == ["ours"]
    assert not side_outbox(MULTI).has_due(connection)
    assert texts(side_outbox(LEGACY).claim(connection, 5)) == ["theirs"]
    epochs = dict(execute(connection, "SELECT bot_id, epoch FROM lane"))
    assert epochs[ours] == owner_of(connection, ours).epoch > epochs[theirs] == owner_of(connection, theirs).epoch


def test_while_a_bot_is_handed_over_nobody_claims_and_what_is_in_hand_is_finished_first(connection):
    bot = add_bot(connection)
    ownership.introduce(connection, LEGACY, "test")
    accept(connection, entry(bot, CHAT, "first"), entry(bot, CHAT, "second"))
    old, new = side_outbox(LEGACY), side_outbox(MULTI)
    (in_hand,) = old.claim(connection, 5)
    assert ownership.drain(connection, [bot], MULTI, LONG) == {bot}
    accept(connection, entry(bot, "60111111111", "meanwhile"))
    assert (old.claim(connection, 5), new.claim(connection, 5)) == ([], [])
    assert ownership.complete(connection, [bot], MULTI, "test") == set()
    assert owner_of(connection, bot).in_hand == 1
    old.record(connection, [result(in_hand, claim=old.worker)])
    assert ownership.complete(connection, [bot], MULTI, "test") == {bot}
    assert old.claim(connection, 5) == []
    assert texts(new.claim(connection, 5)) == ["meanwhile", "second"]


def test_a_hand_over_that_nobody_completes_lapses_and_the_owner_continues(connection):
    bot = add_bot(connection)
    ownership.introduce(connection, LEGACY, "test")
    accept(connection, entry(bot))
    ownership.drain(connection, [bot], MULTI, LONG)
    assert side_outbox(LEGACY).claim(connection, 5) == []
    execute(connection, "UPDATE bot_pace SET drain_until = now() - interval '1 second'")
    assert ownership.complete(connection, [bot], MULTI, "test", force=True) == set()
    found = owner_of(connection, bot)
    assert (found.owner, found.draining, found.next_owner) == (LEGACY, False, None)
    assert len(side_outbox(LEGACY).claim(connection, 5)) == 1


def test_a_drain_that_is_given_up_leaves_the_owner(connection):
    bot = add_bot(connection)
    ownership.introduce(connection, LEGACY, "test")
    accept(connection, entry(bot))
    ownership.drain(connection, [bot], MULTI, LONG)
    assert ownership.give_up(connection, [bot]) == {bot}
    assert ownership.complete(connection, [bot], MULTI, "test", force=True) == set()
    assert len(side_outbox(LEGACY).claim(connection, 5)) == 1


def test_a_new_bot_belongs_to_the_side_that_gets_new_ones(connection):
    ownership.introduce(connection, LEGACY, "test")
    first = add_bot(connection, index=0)
    ownership.set_new_bots(connection, ["meta"], MULTI)
    second = add_bot(connection, index=1)
    ownership.introduce(connection, LEGACY, "test")  # changes nothing that has an owner
    assert [owner_of(connection, bot).owner for bot in (first, second)] == [LEGACY, MULTI]


@pytest.mark.parametrize(
    "statement",
    ["UPDATE phone_configs SET connection_type = 'wwebjs'", "UPDATE phone_configs SET connection_type = '360dialog'"],
)
def test_a_change_of_the_connection_leaves_the_owner(connection, statement):
    bot = add_bot(connection)
    ownership.introduce(connection, LEGACY, "test")
    hand_over(connection, [bot], MULTI)
    before = owner_of(connection, bot)
    execute(connection, statement)
    after = owner_of(connection, bot)
    assert (after.owner, after.epoch) == (MULTI, before.epoch)


def test_the_first_migration_by_hand_leaves_the_owner(connection):
    bot = add_bot(connection)
    ownership.introduce(connection, LEGACY, "test")
    hand_over(connection, [bot], MULTI)
    with open("sql/002_process_isolation.sql") as file:
        execute(connection, file.read())
    assert owner_of(connection, bot).owner is MULTI


def test_every_change_of_an_owner_is_an_event(connection):
    bot = add_bot(connection)
    ownership.introduce(connection, LEGACY, "first")
    hand_over(connection, [bot], MULTI)
    events = execute(connection, "SELECT event_data FROM process_events WHERE event_type = 'bot_owner_changed'"
                     " ORDER BY id")  # fmt: skip
    assert [(each["from"], each["to"], each["by"]) for (each,) in events] == [
        (None, "legacy", "first"), ("legacy", "multiprocess", "test"),
    ]  # fmt: skip
    assert events[0][0]["epoch"] < events[1][0]["epoch"]


def test_what_a_former_owner_has_in_hand_is_not_renewed_and_its_chat_waits(connection):
    bot = add_bot(connection)
    ownership.introduce(connection, LEGACY, "test")
    accept(connection, entry(bot, CHAT, "first"), entry(bot, CHAT, "second"), entry(bot, "60111111111", "other"))
    old, new = side_outbox(LEGACY), side_outbox(MULTI)
    kept = next(each for each in old.claim(connection, 5) if each.chat_id == CHAT)
    hand_over(connection, [bot], MULTI, force=True)
    assert new.claim(connection, 5) == []
    due = execute(connection, "SELECT due FROM lane WHERE chat_id = %s", (CHAT,))
    old.renew(connection)
    assert execute(connection, "SELECT due FROM lane WHERE chat_id = %s", (CHAT,)) == due
    old.record(connection, [result(kept, claim=old.worker)])
    assert texts(new.claim(connection, 5)) == ["second"]


@pytest.fixture
def stage(database, tmp_path, monkeypatch):
    stage = Stage(database, tmp_path / "home", monkeypatch)
    yield stage
    stage.close()


@pytest.fixture
def neighbour(database, tmp_path):
    """Start a worker of the legacy side on this machine; gives its process and its folder."""
    with contextlib.ExitStack() as started:

        def start(stage):
            folder = tmp_path / "neighbour"
            folder.mkdir()
            command = [sys.executable, "-m", "tests.support.processes.elsewhere", database, str(folder)]
            output = started.enter_context((folder / "log").open("wb"))
            process = subprocess.Popen(
                [*command, stage.provider.url, socket.gethostname(), "legacy"], stdout=output, stderr=output,
                env=os.environ | {"LEASE_SECONDS": str(SHORT_LEASE)},
            )  # fmt: skip
            started.callback(process.wait)
            started.callback(process.kill)
            return process, folder

        yield start


def test_a_worker_that_slept_through_a_hand_over_sends_nothing_that_the_new_side_has_sent(stage, neighbour):
    bot = stage.bot()
    ownership.introduce(stage.connection, LEGACY, "test")
    sleeper, folder = neighbour(stage)
    stage.accept(entry(bot, CHAT, "file"), entry(bot, CHAT, "next"))
    wait_until((folder / "preparing").exists)
    sleeper.send_signal(signal.SIGSTOP)
    stage.sender_of(MULTI)
    hand_over(stage.connection, [bot], MULTI, force=True)
    stage.accept(entry(bot, "60111111111", "other chat"))
    stage.wait_for(lambda: stage.statuses() == {"sent": 3})
    (folder / "gate").touch()
    sleeper.send_signal(signal.SIGCONT)
    wait_until(lambda: "claim.lost" in (folder / "log").read_text(), what=(folder / "log").read_text)
    assert sorted(stage.provider.received) == [("60111111111", "other chat"), (CHAT, "file"), (CHAT, "next")]
    assert [text for chat, text in stage.provider.received if chat == CHAT] == ["file", "next"]
    assert stage.statuses() == {"sent": 3}


def test_a_text_on_its_way_during_a_hand_over_is_unknown_until_its_worker_wakes_up(stage, neighbour):
    bot = stage.bot()
    ownership.introduce(stage.connection, LEGACY, "test")
    stage.provider.hanging.clear()
    sleeper, _ = neighbour(stage)
    stage.accept(entry(bot, CHAT, "hang"), entry(bot, CHAT, "next"))
    stage.wait_for(lambda: stage.provider.waiting)
    sleeper.send_signal(signal.SIGSTOP)
    stage.sender_of(MULTI)
    hand_over(stage.connection, [bot], MULTI, force=True)
    stage.wait_for(lambda: stage.statuses() == {"unknown": 1, "sent": 1})
    stage.provider.hanging.set()
    sleeper.send_signal(signal.SIGCONT)
    stage.wait_for(lambda: stage.statuses() == {"sent": 2})
    assert sorted(text for _, text in stage.provider.received) == ["hang", "next"]


def test_a_living_worker_that_still_owns_the_bot_is_waited_for(stage, neighbour):
    bot = stage.bot()
    ownership.introduce(stage.connection, LEGACY, "test")
    sleeper, folder = neighbour(stage)
    stage.accept(entry(bot, CHAT, "file"))
    wait_until((folder / "preparing").exists)
    sleeper.send_signal(signal.SIGSTOP)
    sender = stage.sender_of(LEGACY)
    execute(stage.connection, "UPDATE lane SET due = now() - interval '1 hour'")
    with stage.database.connection() as connection:
        sender._recovery.of_expired_leases(connection)
    assert stage.statuses() == {"queued": 1}
    assert execute(stage.connection, "SELECT claim IS NOT NULL FROM lane") == [(True,)]


def test_outcomes_of_a_claim_that_was_taken_over_change_nothing(connection):
    bot = add_bot(connection)
    ownership.introduce(connection, LEGACY, "test")
    accept(connection, entry(bot, CHAT, "first"))
    old, new = side_outbox(LEGACY), side_outbox(MULTI)
    (message,) = old.claim(connection, 5)
    hand_over(connection, [bot], MULTI, force=True)
    outbox().record(connection, [result(message, None, claim=old.worker)])  # given back after its lease
    (again,) = new.claim(connection, 5)
    old.record(connection, [result(message, claim=old.worker, fence=message.fence)])
    assert execute(connection, "SELECT claim FROM lane") == [(new.worker,)]
    new.record(connection, [result(again, Status.SENT, claim=new.worker)])
    assert execute(connection, "SELECT status::text, attempts FROM outbox") == [("sent", 1)]
