"""`bisnesctl queue` on a real outbox."""

import contextlib
from dataclasses import replace

import pytest

from bisnesctl import moments
from bisnesctl.bots import check_records
from bisnesctl.queue import message_changes, messages, pauses, stats, targets
from bisnesctl.queue.messages import QueueFilter
from bisnesctl.queue.states import State
from services.database.connection import Database
from services.message import Scope, Status
from services.outbox import holds
from services.outbox.outcome_policy import Hold
from tests.support.outbox import accept, add_bot, entry, execute, outbox, result, status_of

COMPANY, OTHER, CHAT = "0128", "0999", "60123456789"


@pytest.fixture
def connection(environment, database):
    settings = environment(DATABASE_URL=database)
    with contextlib.closing(Database(settings.database_dsn).connect()) as opened:
        yield opened


@pytest.fixture
def bot(connection):
    return add_bot(connection, COMPANY)


@pytest.fixture
def alive(connection):
    """A worker of the channel is alive."""
    execute(
        connection,
        "INSERT INTO process_instances (process_name, host, instance, pid, status, started_at)"
        " VALUES ('meta', 'host', 'meta-worker-1', 1, 'healthy', now())",
    )


def wait(connection, bot, *chats):
    """Accept a message for each of these chats; returns their ids."""
    ((company, phone),) = execute(connection, "SELECT company_id, phone_index FROM phone_configs WHERE id = %s", (bot,))
    entries = [replace(entry(bot, chat), company_id=company, phone_index=phone) for chat in chats]
    accept(connection, *entries)
    return [each.message_id for each in entries]


def counts(connection, **narrowed):
    total = sum((each.counts for each in stats.of_bots(connection, **narrowed)), stats.Counts())
    assert total.total == total.left + total.completed + total.failed + total.unknown
    return total


def pause(connection, bot, **more):
    (chosen,) = [each for each in targets.find(connection) if each.id == bot]
    pauses.pause(connection, [chosen], "root", **more)
    return chosen


def fail(connection, claimed, code="network"):
    outbox().record(connection, [result(claimed, Status.FAILED, code=code, error="could not be reached")])


def test_stats_count_each_message_once(tool, connection, bot):
    wait(connection, bot, "1", "1", "2", "3", "4", "5")
    by_chat = {each.chat_id: each for each in outbox().claim(connection, 4)}
    one, two, three, four = (by_chat[chat] for chat in "1234")
    outbox().record(connection, [result(one), result(two, Status.QUEUED, after=600.0)])
    fail(connection, three)
    found = tool("queue", "stats", "--json").json
    assert list(found["queues"]) == ["meta-messages", "wwebjs-messages"]
    expected = {"waiting": 2, "active": 1, "completed": 1, "failed": 1, "delayed": 1, "total": 6, "unknown": 0}
    assert {name: found["total"][name] for name in expected} == expected
    assert found["queues"]["meta-messages"] == found["total"]
    assert 0 <= found["total"]["oldest_seconds"] < 3600
    outbox().record(connection, [result(four, Status.UNKNOWN)])
    assert counts(connection).unknown == 1


def test_stats_are_of_one_company_or_bot(tool, connection, bot):
    other = add_bot(connection, OTHER)
    wait(connection, bot, "1")
    wait(connection, other, "1", "2")
    assert counts(connection).waiting == 3
    assert counts(connection, company=OTHER).waiting == 2
    assert tool("queue", "stats", "--bot", "0128/0", "--json").json["total"]["waiting"] == 1
    assert "no bot" in tool("queue", "stats", "--bot", "0128/7", code=2).text


def test_stats_count_what_earlier_versions_accepted_and_what_was_deleted(connection, bot):
    wait(connection, bot, "1", "1", "2")
    execute(connection, "UPDATE lane SET accepted = NULL")
    (claimed, other) = outbox().claim(connection, 10)
    outbox().record(connection, [result(claimed), result(other)])
    assert counts(connection).completed == 2
    execute(connection, "DELETE FROM outbox WHERE id = %s", (claimed.id,))
    assert counts(connection).completed == 1


def test_a_held_bot_delays_all_its_messages(connection, bot):
    wait(connection, bot, "1", "1", "2")
    holds.hold(connection, [Hold(bot, Scope.BOT, None, "190: expired", code="190")])
    assert (counts(connection).delayed, counts(connection).waiting) == (3, 0)


def test_the_list_says_why_each_message_waits(tool, connection, bot, alive):
    first, second, third = wait(connection, bot, "1", "1", "2")
    claimed = {each.message_id: each for each in outbox().claim(connection, 10)}
    outbox().record(
        connection, [result(claimed[first], Status.QUEUED, after=600.0, code="131000", error="something went wrong")]
    )
    found = {each["id"]: each for each in tool("queue", "list", "--json").json}
    assert [each["state"] for each in found.values()] == ["delayed", "waiting", "active"]
    assert "131000: something went wrong" in found[first]["reason"]
    assert found[first]["next"] == f"bisnesctl queue retry {first}"
    assert first in found[second]["reason"]
    assert "has it in hand" in found[third]["reason"]
    assert found[first]["next_attempt_at"]
    assert first in tool("queue", "list", width=80).out
    assert [each["id"] for each in tool("queue", "list", "--state", "delayed", "--json").json] == [first]
    assert [each["id"] for each in tool("queue", "list", "--state", "waiting", "--json").json] == [second]
    assert [each["id"] for each in tool("queue", "list", "--state", "active", "--json").json] == [third]


def test_the_list_names_holds_pauses_and_a_channel_without_processes(connection, bot):
    (message_id,) = wait(connection, bot, "1")
    execute(
        connection,
        "INSERT INTO process_instances (process_name, host, instance, pid, status, started_at)"
        " VALUES ('meta', 'host', 'meta', 1, 'healthy', now())",  # the receiver of webhooks sends nothing
    )
    assert "no worker of meta" in messages.get(connection, message_id).reason
    holds.hold(connection, [Hold(bot, Scope.BOT, None, "190: expired", code="190")])
    assert messages.get(connection, message_id).next.endswith("--token-stdin")
    pause(connection, bot, reason="price list")
    found = messages.get(connection, message_id)
    assert "is paused since" in found.reason
    assert "price list" in found.reason
    assert "190: expired" in found.reason
    assert found.next == "bisnesctl queue resume 0128/0"


def test_the_legacy_process_sends_for_all(connection, bot):
    (message_id,) = wait(connection, bot, "1")
    execute(
        connection,
        "INSERT INTO process_instances (process_name, host, instance, pid, status, started_at)"
        " VALUES ('legacy', 'host', 'legacy', 1, 'healthy', now())",
    )
    assert "for its turn" in messages.get(connection, message_id).reason


def test_the_list_is_paged_without_gaps(tool, connection, bot):
    other = add_bot(connection, OTHER)
    for chat in ("1", "2", "3"):
        for each in (bot, other):
            wait(connection, each, chat, chat, chat)
    seen, after = [], 0
    while page := messages.find(connection, QueueFilter(), 4, after)[0]:
        seen += [each.number for each in page]
        after = page[-1].number
    assert seen == sorted(row[0] for row in execute(connection, "SELECT id FROM outbox"))
    assert {each["company"] for each in tool("queue", "list", "--company", OTHER, "--json").json} == {OTHER}
    assert len(tool("queue", "list", "--bot", "0999-0", "--chat", "2", "--json").json) == 3
    said = tool("queue", "list", "--limit", "3")
    assert "--after" in said.err


def test_the_list_of_old_failed_and_unknown_messages(connection, bot):
    old, new, _, _ = wait(connection, bot, "1", "2", "3", "4")
    execute(connection, "UPDATE outbox SET accepted_at = now() - interval '1 hour' WHERE message_id = %s", (old,))
    found, _ = messages.find(connection, QueueFilter(older_than=1800), 10)
    assert [each.id for each in found] == [old]
    by_chat = {each.chat_id: each for each in outbox().claim(connection, 10)}
    fail(connection, by_chat["3"])
    outbox().record(connection, [result(by_chat["4"], Status.UNKNOWN)])
    (failed,), _ = messages.find(connection, QueueFilter(state=State.FAILED), 10)
    assert (failed.chat, failed.code, failed.next) == ("3", "network", f"bisnesctl queue retry {failed.id}")
    (unknown,), _ = messages.find(connection, QueueFilter(state=State.UNKNOWN), 10)
    assert unknown.chat == "4"
    assert "dead-letters resolve" in str(unknown.next)
    assert new not in {failed.id, unknown.id}


def test_show_tells_the_life_of_a_message(tool, connection, bot, alive):
    first, second = wait(connection, bot, CHAT, CHAT)
    (claimed,) = outbox().claim(connection, 1)
    outbox().record(connection, [result(claimed, Status.QUEUED, after=60.0, code="131000", error="sorry")])
    found = tool("queue", "show", second, "--json").json
    assert (found["ahead"], found["first"], found["payload"]["message"][:4]) == (1, first, "text")
    said = tool("queue", "show", first, width=80).out
    for words in ("131000: sorry", CHAT, "accepted", "queued (attempt 1)"):
        assert words in said
    outbox().record(connection, [])
    assert "there is no message" in tool("queue", "show", "01934f7e-5bb0-7f41-9d41-2f1f8c1d2e3f", code=2).text


def test_a_sent_message_is_found_by_the_providers_id(tool, connection, bot):
    wait(connection, bot, CHAT)
    (claimed,) = outbox().claim(connection, 1)
    outbox().record(connection, [result(claimed)])
    assert tool("queue", "show", f"wamid.{claimed.id}", "--json").json["state"] == "sent"


def test_cancelling_frees_the_next_message_at_once(tool, connection, bot):
    first, second = wait(connection, bot, CHAT, CHAT)
    (claimed,) = outbox().claim(connection, 1)
    outbox().record(connection, [result(claimed, Status.QUEUED, after=600.0)])
    assert f"cancelled {first}" in tool("queue", "cancel", first).out
    assert status_of(connection, first) == "failed"
    assert [each.message_id for each in outbox().claim(connection, 10)] == [second]
    assert counts(connection).left == 1


def test_cancelling_is_refused_with_the_reason(tool, connection, bot):
    (message_id,) = wait(connection, bot, CHAT)
    (claimed,) = outbox().claim(connection, 1)
    assert "has it in hand" in tool("queue", "cancel", message_id, code=2).text
    outbox().record(connection, [result(claimed)])
    assert "it is sent" in tool("queue", "cancel", message_id, code=2).text
    assert status_of(connection, message_id) == "sent"


def test_cancelling_many_needs_a_confirmation(tool, connection, bot):
    wait(connection, bot, "1", "1", "2")
    other = wait(connection, add_bot(connection, OTHER), "1")
    assert "would cancel 3 messages" in tool("queue", "cancel", "--bot", "0128/0", "--dry-run").out
    assert "--yes" in tool("queue", "cancel", "--bot", "0128/0", code=2).text
    assert counts(connection).left == 4
    assert "cancelled 3 messages" in tool("queue", "cancel", "--bot", "0128/0", "--yes").out
    assert [each.message_id for each in outbox().claim(connection, 10)] == other
    assert "no message that waits" in tool("queue", "cancel", "--company", COMPANY, "--yes", code=2).text


def test_retry_sends_failed_messages_and_tries_delayed_ones_now(tool, connection, bot):
    failed, delayed = wait(connection, bot, "1", "2")
    by_id = {each.message_id: each for each in outbox().claim(connection, 10)}
    fail(connection, by_id[failed])
    outbox().record(connection, [result(by_id[delayed], Status.QUEUED, after=600.0)])
    assert "would retry 1 message" in tool("queue", "retry", "--failed", "--bot", "0128/0", "--dry-run").out
    tool("queue", "retry", failed, delayed)
    assert {each.message_id for each in outbox().claim(connection, 10)} == {failed, delayed}
    assert "in hand" in tool("queue", "retry", failed, code=2).text
    assert counts(connection).failed == 0


def test_all_failed_messages_are_retried(tool, connection, bot):
    ids = wait(connection, bot, "1", "2")
    for each in outbox().claim(connection, 10):
        fail(connection, each)
    assert "--yes" in tool("queue", "retry", "--failed", code=2).text
    assert "retrying 2 messages" in tool("queue", "retry", "--failed", "--yes").out
    assert {each.message_id for each in outbox().claim(connection, 10)} == set(ids)


def test_nothing_of_a_paused_bot_leaves(tool, connection, bot):
    execute(connection, "INSERT INTO event_feed (company_id) VALUES (%s)", (COMPANY,))
    other = add_bot(connection, OTHER)
    tool("queue", "pause", "0128/0", "--reason", "price list")
    wait(connection, bot, "1")
    mine = wait(connection, other, "1")
    assert [each.message_id for each in outbox().claim(connection, 10)] == mine
    assert not outbox().has_due(connection)
    execute(connection, "SELECT release_bot(%s)", (bot,))  # a new credential
    holds.lift(connection, [bot])
    assert outbox().claim(connection, 10) == []
    shown = tool("bots", "list", "--json").json
    assert (shown[0]["paused"]["reason"], shown[1]["paused"]) == ("price list", None)
    assert "price list" in tool("bots", "list").out
    assert "is resumed" in tool("queue", "resume", "0128/0").out
    assert len(outbox().claim(connection, 10)) == 1
    assert "was not paused" in tool("queue", "resume", "0128/0").out
    told = execute(connection, "SELECT payload ->> 'status' FROM event WHERE name = 'bot.status' ORDER BY seq")
    assert [status for (status,) in told] == ["waiting", "active"]


def test_a_pause_ends_by_itself_and_is_reported_once(connection, bot):
    execute(connection, "INSERT INTO event_feed (company_id) VALUES (%s)", (COMPANY,))
    wait(connection, bot, "1")
    pause(connection, bot, seconds=3600.0)
    assert outbox().claim(connection, 10) == []
    assert pauses.end_expired(connection) == set()
    execute(connection, "UPDATE bot_pace SET paused_until = now() - interval '1 second'")
    assert len(outbox().claim(connection, 10)) == 1
    assert pauses.end_expired(connection) == {bot}
    assert pauses.end_expired(connection) == set()
    told = execute(connection, "SELECT payload ->> 'status' FROM event WHERE name = 'bot.status' ORDER BY seq")
    assert [status for (status,) in told] == ["waiting", "active"]


def test_a_hold_remains_after_the_pause(tool, connection, bot):
    holds.hold(connection, [Hold(bot, Scope.BOT, None, "190: expired", code="190")])
    pause(connection, bot)
    said = tool("queue", "resume", "0128/0").text
    assert "190: expired" in said
    wait(connection, bot, "1")
    assert outbox().claim(connection, 10) == []


def test_messages_do_not_grow_too_old_during_a_pause(connection, bot):
    (message_id,) = wait(connection, bot, "1")
    execute(connection, "UPDATE bot_pace SET outage_since = now() - interval '30 hours', outage_seen = now()")
    execute(connection, "UPDATE outbox SET updated_at = now() - interval '30 hours'")
    chosen = pause(connection, bot)
    assert holds.fail_old(connection, outbox(), 24) == 0
    pauses.resume(connection, [chosen], "root")
    assert holds.fail_old(connection, outbox(), 24) == 0
    execute(connection, "UPDATE bot_pace SET paused_until = now() - interval '29 hours'")
    assert holds.fail_old(connection, outbox(), 24) == 1
    assert status_of(connection, message_id) == "failed"


def test_a_retry_of_a_paused_bot_does_not_claim_that_it_is_tried_now(tool, connection, bot, alive):
    (message_id,) = wait(connection, bot, "1")
    [message] = outbox().claim(connection, 10)
    outbox().record(connection, [result(message, Status.QUEUED, after=600.0, code="131000", error="busy")])
    assert tool("queue", "retry", message_id).text.endswith("its chat is tried now")
    execute(connection, "UPDATE lane SET due = now() + interval '600 seconds'")
    pause(connection, bot)
    assert (
        "its chat is tried as soon as this has ended: bot 0128/0 is paused" in tool("queue", "retry", message_id).text
    )


def test_the_end_of_a_pause_is_shown_in_the_time_of_this_machine(environment, database, connection, bot):
    settings = environment(DATABASE_URL=database)
    pause(connection, bot, reason="price list", seconds=3600.0)
    [trouble] = check_records.troubled(settings)
    [(until,)] = execute(connection, "SELECT extract(epoch FROM paused_until)::float FROM bot_pace")
    assert trouble.reason == f"by root until {moments.shown(until)}: price list"
    pause(connection, bot)
    assert check_records.troubled(settings)[0].reason == "by root until it is resumed"


def test_a_page_is_never_larger_than_the_largest(connection, bot, monkeypatch):
    ids = wait(connection, bot, "1", "2", "3")
    monkeypatch.setattr(messages, "MAX_PAGE", 2)
    found, more = messages.find(connection, QueueFilter(), 10)
    assert ([each.id for each in found], more) == (ids[:2], True)


def test_several_bots_are_paused_with_a_confirmation(tool, connection, bot):
    second = add_bot(connection, COMPANY, 1)
    other = add_bot(connection, OTHER)
    assert "--yes" in tool("queue", "pause", COMPANY, code=2).text
    tool("queue", "pause", COMPANY, "--yes", "--for", "2h")
    paused = execute(connection, "SELECT bot_id FROM bot_pace WHERE paused_until BETWEEN now() AND 'infinity'")
    assert {each for (each,) in paused} == {bot, second}
    tool("queue", "resume", "meta", "--yes")
    assert execute(connection, "SELECT count(*) FROM bot_pace WHERE paused_until > now()") == [(0,)]
    tool("queue", "pause", "nothing", code=2)
    tool("queue", "pause", "0128/0", "--for", "soon", code=2)
    assert other


def test_drain_waits_until_nothing_is_left(tool, connection, bot):
    assert "nothing waits" in tool("queue", "drain", "all").out
    wait(connection, bot, "1", "2")
    pause(connection, bot, reason="price list")
    said = tool("queue", "drain", "0128/0", "--timeout", "1s", code=5).text
    for words in ("2 messages are left", "price list", "bisnesctl queue resume 0128/0"):
        assert words in said
    tool("queue", "drain", "nobody", code=2)
    assert "nothing waits" in tool("queue", "drain", "wwebjs").out


def test_a_rate_of_nothing_is_refused_with_the_way_to_stop_a_bot(tool, environment, database):
    environment(DATABASE_URL=database)
    assert "queue pause" in tool("bots", "add", "--company", COMPANY, "--rate", "0", code=2).text


def test_a_message_of_another_company_is_unknown(connection, bot):
    (message_id,) = wait(connection, bot, "1")
    assert messages.find_by_id(connection, message_id, OTHER) is None
    assert message_changes.cancel(connection, [message_id], OTHER) == []
    assert status_of(connection, message_id) == "queued"
