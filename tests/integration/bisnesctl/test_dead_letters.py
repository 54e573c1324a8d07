"""`bisnesctl dead-letters` on items that really failed."""

import contextlib

import pytest
from psycopg2.extras import Json
from uuid_utils import uuid7

from bisnesctl.database import dead_letters
from services.database.connection import Database
from services.events import store
from services.events import webhooks as registry
from services.inbox.webhook_inbox import Inbox
from services.message import Status, StatusUpdate
from tests.support.outbox import accept, add_bot, apply_statuses, entry, execute, outbox, result

COMPANY, CHAT = "0128", "60123456789"


@pytest.fixture
def connection(environment, database):
    settings = environment(DATABASE_URL=database)
    with contextlib.closing(Database(settings.database_dsn).connect()) as opened:
        yield opened


@pytest.fixture
def bot(connection):
    return add_bot(connection, COMPANY, kind="360dialog")


def failed_message(connection, bot):
    """A message that was refused permanently."""
    accept(connection, entry(bot, text="Hello"))
    (claimed,) = outbox().claim(connection, 1)
    outbox().record(connection, [result(claimed, Status.FAILED, code="131026", error="not on WhatsApp")])
    return claimed.message_id


def webhook_aside(connection, bot=None, body=b'{"odd": 1}'):
    """A webhook that made no sense."""
    execute(connection, "INSERT INTO webhook_inbox (process_name, bot_id, body) VALUES ('meta', %s, %s)", (bot, body))
    Inbox("meta", refuse).apply_all(connection)
    return str(execute(connection, "SELECT max(id) FROM webhook_inbox WHERE error IS NOT NULL")[0][0])


def refuse(body):
    raise ValueError("not a webhook")


def dead_event(connection, webhooks=1):
    """An event that these webhooks did not take; all of its chat's lanes are empty."""
    for n in range(webhooks):
        registry.register(connection, str(uuid7()), COMPANY, f"http://customer/{n}", ["message"], "v1:")
    event = {"company": COMPANY, "session": "0128-0", "event": "message", "chat": CHAT, "payload": {"number": 1}}
    execute(connection, "SELECT raise_events(%s)", (Json([event]),))
    execute(connection, "UPDATE webhook_delivery SET status = 'dead', attempts = 20, error = 'HTTP 500'")
    execute(connection, "UPDATE webhook_lane SET pending = 0, due = now() + interval '1 hour'")
    return execute(connection, "SELECT event_id FROM event")[0][0]


def lost_file(connection, bot):
    """A file that was not available."""
    message_id = str(uuid7())
    execute(
        connection,
        "INSERT INTO media_download (message_id, bot_id, company_id, media, attempts, due, error)"
        """ VALUES (%s, %s, %s, '{"id": "4490"}', 9, 'infinity', 'HTTP 404')""",
        (message_id, bot, COMPANY),
    )
    return message_id


def test_all_dead_letters_are_listed_with_their_reasons(tool, connection, bot):
    given_up = [
        ("messages", failed_message(connection, bot), COMPANY, "131026: not on WhatsApp"),
        ("webhooks-in", webhook_aside(connection), None, "not a webhook"),
        ("webhooks-out", dead_event(connection), COMPANY, "HTTP 500"),
        ("media", lost_file(connection, bot), COMPANY, "HTTP 404"),
    ]
    listed = tool("dead-letters", "list", "--json").json
    assert [(each["kind"], each["id"], each["company"], each["reason"]) for each in listed] == given_up[::-1]
    shown = tool("dead-letters", "list").out
    assert all(number in shown and reason in shown for _, number, _, reason in given_up)
    for kind, number, _, _ in given_up:
        assert [each["id"] for each in tool("dead-letters", "list", "--kind", kind, "--json").json] == [number]
    assert {each["kind"] for each in tool("dead-letters", "list", "--company", COMPANY, "--json").json} == {
        "messages", "webhooks-out", "media"
    }  # fmt: skip
    assert tool("dead-letters", "list", "--company", "0999", "--json").json == []


def test_the_list_fits_a_terminal_of_80_columns_and_says_where_it_is_cut(tool, connection, bot):
    webhook_aside(connection, bot)
    lost_file(connection, bot)
    said = tool("dead-letters", "list", width=80)
    assert all(len(line) <= 80 for line in said.out.splitlines())
    said = tool("dead-letters", "list", "--limit", "1")
    assert "--limit" in said.err
    assert len(said.out.splitlines()) == 2


def test_an_empty_list_says_so(tool, connection):
    assert "no dead letters" in tool("dead-letters", "list").err
    assert tool("dead-letters", "list", "--json").json == []


def test_a_dead_letter_is_shown_with_all_details(tool, connection, bot):
    assert '"message": "Hello"' in tool("dead-letters", "show", failed_message(connection, bot)).out
    assert tool("dead-letters", "show", webhook_aside(connection, bot), "--json").json[0]["details"] == {
        "process": "meta", "phone": 0, "body": '{"odd": 1}',
        "receivedAt": execute(connection, "SELECT to_jsonb(received_at) FROM webhook_inbox")[0][0],
    }  # fmt: skip
    (shown,) = tool("dead-letters", "show", lost_file(connection, bot), "--json").json
    assert (shown["kind"], shown["details"]["media"]) == ("media", {"id": "4490"})
    found = tool("dead-letters", "show", dead_event(connection, webhooks=2), "--json").json
    assert {each["details"]["url"] for each in found} == {"http://customer/0", "http://customer/1"}
    assert found[0]["details"]["payload"] == {"number": 1}


@pytest.mark.parametrize("body", [b"\xff\x00{", b"[" * 100_000, b'"\\u0000\\ud800"', b"\x1b[2J"])
def test_a_body_with_any_bytes_can_be_shown(tool, connection, body):
    number = webhook_aside(connection, body=body)
    assert tool("dead-letters", "show", number).out.replace("\n", "").isprintable()
    assert len(tool("dead-letters", "show", number, "--json").json) == 1


def test_a_webhook_that_is_retried_is_applied(tool, connection):
    number, seen = webhook_aside(connection), []
    assert number in tool("dead-letters", "retry", number).text

    def parse(body):
        seen.append(body)
        return []

    assert Inbox("meta", parse).apply_all(connection) == 1
    assert seen == [b'{"odd": 1}']
    assert tool("dead-letters", "list", "--json").json == []


def test_a_file_that_is_retried_is_due_with_all_its_attempts(tool, connection, bot):
    tool("dead-letters", "retry", lost_file(connection, bot))
    assert execute(connection, "SELECT due <= now(), attempts, error FROM media_download") == [(True, 0, None)]


@pytest.mark.parametrize("lanes", ["idle", "gone"])
def test_a_retried_event_is_delivered_to_each_webhook_that_did_not_accept_it(tool, connection, lanes):
    event = dead_event(connection, webhooks=2)
    if lanes == "gone":
        execute(connection, "DELETE FROM webhook_lane")
    tool("dead-letters", "retry", event)
    assert [task.event.event_id for task in store.claim(connection, "sender", 60, 10)] == [event, event]
    assert execute(connection, "SELECT DISTINCT pending FROM webhook_lane") == [(1,)]
    assert "there is no dead letter" in tool("dead-letters", "retry", event, code=2).text


def test_an_event_that_was_deleted_cannot_be_retried(tool, connection):
    event = dead_event(connection)
    execute(connection, "DELETE FROM event")
    assert "EVENTS_KEEP_DAYS" in tool("dead-letters", "retry", event, code=2).text


def test_a_message_that_was_refused_permanently_is_not_retried(tool, connection, bot):
    number, aside = failed_message(connection, bot), webhook_aside(connection)
    assert "send it as a new message" in tool("dead-letters", "retry", number, code=2).text
    said = tool("dead-letters", "retry", aside, number).text  # what can be tried again is
    assert f"message {number} is not retried: it was refused permanently (131026)" in said
    assert [each["id"] for each in tool("dead-letters", "list", "--json").json] == [number]


def gave_up(connection, bot, *texts, code="network", chat=CHAT, error="refused (gave up after 3 attempts)"):
    """Messages that failed for something that passes; returns their ids."""
    accept(connection, *(entry(bot, chat, text) for text in texts))
    ids = []
    for _ in texts:
        (claimed,) = outbox().claim(connection, 1)
        outbox().record(connection, [result(claimed, Status.FAILED, code=code, error=error)])
        ids.append(claimed.message_id)
    return ids


def sent_now(connection):
    """Send all that is due; returns the texts in the order in which they leave."""
    texts = []
    while claimed := outbox().claim(connection, 1):
        texts.append(claimed[0].payload["message"])
        outbox().record(connection, [result(claimed[0])])
    return texts


def lanes(connection):
    return execute(connection, "SELECT pending, done, claim FROM lane ORDER BY chat_id")


def test_retried_messages_are_sent_in_order_before_later_ones(tool, connection, bot):
    first, _, third = gave_up(connection, bot, "1", "2", "3")
    accept(connection, entry(bot, CHAT, "4"))
    assert sent_now(connection) == ["4"]
    accept(connection, entry(bot, CHAT, "5"))
    for each in (third, first):
        assert f"retrying messages {each}" in tool("dead-letters", "retry", each).text
    assert sent_now(connection) == ["1", "3", "5"]
    rows = execute(connection, "SELECT status::text, attempts, error_code FROM outbox ORDER BY id")
    assert rows == [("sent", 1, None), ("failed", 1, "network"), *[("sent", 1, None)] * 3]
    assert [pending for pending, _, _ in lanes(connection)] == [0]
    timeline = execute(connection, "SELECT timeline FROM outbox WHERE message_id = %s", (first,))[0][0]
    assert [(step["status"], step.get("code")) for step in timeline] == [
        ("failed", "network"), ("queued", "retried"), ("sent", None),
    ]  # fmt: skip


def test_a_message_is_retried_while_a_later_one_of_its_chat_is_in_flight(tool, connection, bot):
    first, second = gave_up(connection, bot, "1", "2")
    accept(connection, entry(bot, CHAT, "3"), entry(bot, CHAT, "4"))
    (in_hand,) = outbox().claim(connection, 1)
    tool("dead-letters", "retry", second)
    tool("dead-letters", "retry", first)
    assert outbox().claim(connection, 1) == []
    outbox().record(connection, [result(in_hand)])
    assert sent_now(connection) == ["1", "2", "4"]
    assert [(pending, claim) for pending, _, claim in lanes(connection)] == [(0, None)]


def test_a_message_whose_link_is_refused_while_the_next_is_in_flight_is_not_lost(connection, bot):
    """The same for what is sent once more because its provider could not fetch its link."""
    accept(connection, entry(bot, CHAT, "1"), entry(bot, CHAT, "2"))
    (first,) = outbox().claim(connection, 1)
    link = """UPDATE outbox SET payload = '{"message": "1", "media": {"link": "http://x"}}' WHERE id = %s"""
    execute(connection, link, (first.id,))
    outbox().record(connection, [result(first)])
    (second,) = outbox().claim(connection, 1)
    failed = StatusUpdate(f"wamid.{first.id}", Status.FAILED, 1.0, first.message_id, "131053", "no", link_refused=True)
    apply_statuses(connection, failed)
    outbox().record(connection, [result(second)])
    assert sent_now(connection) == ["1"]


def test_messages_are_retried_by_code_bot_and_time(tool, connection, bot):
    other = add_bot(connection, COMPANY, index=1)
    gave_up(connection, bot, "old", chat="601")
    execute(connection, "UPDATE outbox SET updated_at = now() - interval '3 hours'")
    gave_up(connection, bot, *(f"{n:03}" for n in range(5)), chat="602")
    gave_up(connection, bot, "busy", chat="603", code="131000")
    gave_up(connection, bot, "never", chat="604", code="network but never", error="no such thing")
    execute(connection, "UPDATE outbox SET error_code = 'network', error = 'x', provider_id = 'wamid.1'"
            " WHERE payload ->> 'message' = 'never'")  # fmt: skip
    gave_up(connection, other, "elsewhere", chat="605")
    execute(connection, "UPDATE outbox SET phone_index = 1 WHERE bot_id = %s", (other,))
    chosen = ("--code", "network", "--bot", "0128/0", "--since", "2h", "--until", "2999-01-31T08:00")
    said = tool("dead-letters", "retry", *chosen, "--dry-run").text
    assert "would retry 5 messages" in said
    assert "1 message not retried: the provider accepted it" in said
    assert sent_now(connection) == []
    assert "there may be more" in tool("dead-letters", "retry", *chosen, "--limit", "2", "--dry-run").text
    assert "retrying 5 messages" in tool("dead-letters", "retry", *chosen).text
    assert sent_now(connection) == [f"{n:03}" for n in range(5)]
    assert "the provider accepted it" in tool("dead-letters", "retry", *chosen, code=2).text
    assert "no failed message matches" in tool("dead-letters", "retry", "--code", "nothing", code=2).text
    assert "retrying 3 messages" in tool("dead-letters", "retry", "--company", COMPANY).text
    assert sorted(sent_now(connection)) == ["busy", "elsewhere", "old"]


def test_permanently_refused_messages_do_not_use_up_the_limit(tool, connection, bot):
    for _ in range(3):
        failed_message(connection, bot)
    gave_up(connection, bot, "later")
    said = tool("dead-letters", "retry", "--company", COMPANY, "--limit", "1").text
    assert "retrying 1 message" in said
    assert sent_now(connection) == ["later"]
    assert "3 messages not retried" in tool("dead-letters", "retry", "--company", COMPANY, code=2).text


def test_messages_that_may_have_been_sent_are_never_retried(tool, connection, bot):
    accept(connection, entry(bot, text="Hello"))
    (claimed,) = outbox().claim(connection, 1)
    outbox().record(connection, [result(claimed, Status.UNKNOWN, error="reset")])
    assert tool("dead-letters", "list", "--json").json == []  # its report is on its way
    execute(connection, "UPDATE unknown_message SET since = now() - interval '10 minutes'")
    (shown,) = tool("dead-letters", "list", "--kind", "unknown", "--json").json
    assert (shown["id"], shown["reason"]) == (claimed.message_id, "reset")
    assert "may have been sent" in tool("dead-letters", "retry", claimed.message_id, code=2).text
    assert "no failed message matches" in tool("dead-letters", "retry", "--company", COMPANY, code=2).text


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("42", "--code", "network"),
        ("42", "--dry-run"),
        ("--since", "yesterday"),
        ("--since", "2026-13-45"),
        ("--since", "99999999999d"),
        ("--since", ""),
        ("--until", "2h; DROP TABLE outbox"),
        ("--bot", "0128"),
        ("--bot", "0128/x"),
        ("--bot", "0128/0", "--company", "0128"),
    ],
)
def test_a_retry_needs_ids_or_filters_but_not_both(tool, connection, options):
    tool("dead-letters", "retry", *options, code=2)


def test_a_message_of_a_removed_bot_is_not_retried(tool, connection, bot):
    (number,) = gave_up(connection, bot, "1")
    execute(connection, "DELETE FROM phone_configs")
    assert "its bot was removed" in tool("dead-letters", "retry", number, code=2).text


@pytest.mark.parametrize(
    "number", ["42", "9" * 18, "evt_none", "0190c0de-0000-7000-8000-000000000000", "nonsense", "4²", "' OR 1=1"]
)
def test_an_unknown_id_is_reported_with_the_list_command(tool, connection, number):
    for command in ("show", "retry"):
        assert "bisnesctl dead-letters list" in tool("dead-letters", command, number, code=2).text


def test_the_list_can_be_limited_to_each_kind(tool, connection):
    for kind in dead_letters.KINDS:
        assert tool("dead-letters", "list", "--kind", kind, "--json").json == []
