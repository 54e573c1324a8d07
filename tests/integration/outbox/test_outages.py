"""A provider that cannot be reached, or serves nobody, holds the number with its queue and fails no message."""

import random
import socket
import threading
import time
from contextlib import contextmanager

import pytest

from services.connectors.meta.connector import MetaConnector
from services.database.connection import DatabaseError
from services.message import Status
from services.outbox import holds, recovery
from services.outbox.outcome_policy import Answer, Fault, Pauses
from tests.support.outage import FAST, PAGE, OutageStage, error
from tests.support.outbox import entry, execute, outbox, result

CHATS = [f"6011111111{n}" for n in range(5)]
#: Seconds for which an outage lasts: many sweeps and pauses of the workers, and longer than all attempts would take.
LASTING = 1.5


@pytest.fixture
def stage(database, tmp_path, monkeypatch):
    stage = OutageStage(database, tmp_path, monkeypatch)
    yield stage
    stage.close()


def fill(stage, bot, each=4, chats=CHATS):
    """Accept messages, several a chat; their texts contain their order."""
    entries = [entry(bot, chat, f"{chat} {n:03}") for n in range(each) for chat in chats]
    stage.accept(*entries)
    return entries


def outage(stage):
    """(code, reason) of the outage of the first number; None if there is no outage."""
    rows = execute(stage.connection, "SELECT outage_code, outage_reason FROM bot_pace WHERE outage_since IS NOT NULL")
    return rows[0] if rows else None


def untouched(stage):
    """Whether no attempt of any message was counted."""
    return execute(stage.connection, "SELECT DISTINCT status::text, attempts FROM outbox") == [("queued", 0)]


def assert_all_arrived_once_and_in_order(stage, entries):
    """That each text arrived once, in its chat's order."""
    assert sorted(text for _, text in stage.graph.received) == sorted(e.payload["message"] for e in entries)
    for chat in {each.chat_id for each in entries}:
        texts = [text for to, text in stage.graph.received if to == chat]
        assert texts == sorted(texts)


@contextmanager
def watched(stage, seconds):
    """Lets an outage last for a while."""
    began = time.monotonic()
    yield
    time.sleep(max(0.0, began + seconds - time.monotonic()))


def test_messages_accepted_during_an_outage_leave_after_it(stage):
    bot = stage.bot()
    entries = fill(stage, bot)
    stage.sender()
    stage.wait_for(lambda: outage(stage))
    with watched(stage, LASTING):
        entries += fill(stage, bot, chats=["60222222222"])
    code, reason = outage(stage)
    assert code == "network"
    assert str(stage.graph.port) in reason
    assert untouched(stage)
    stage.graph.up()
    stage.wait_for(lambda: stage.statuses() == {"sent": len(entries)})
    assert_all_arrived_once_and_in_order(stage, entries)
    assert outage(stage) is None
    assert execute(stage.connection, "SELECT held_until::text, held_reason FROM bot_pace") == [("-infinity", None)]


@pytest.fixture
def silent_port():
    """A port that takes connections and says nothing that is TLS."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer():
            while True:
                try:
                    listener.accept()[0].sendall(b"220 this is no web server\r\n")
                except OSError:
                    return

        threading.Thread(target=answer, daemon=True).start()
        yield listener.getsockname()[1]


@pytest.mark.parametrize("url", ["http://nowhere.invalid", "https://127.0.0.1:{}"], ids=["name", "tls"])
def test_names_that_do_not_resolve_and_tls_that_fails_are_outages(stage, silent_port, url):
    settings = stage.settings.copy_with(meta_graph_url=url.format(silent_port), send_timeout_ms=3000)
    fill(stage, stage.bot())
    stage.sender(connector=MetaConnector(settings))
    with watched(stage, LASTING):
        stage.wait_for(lambda: outage(stage))
    assert outage(stage)[0] == "network"
    assert untouched(stage)


@pytest.mark.parametrize("status", [200, 500, 502, 504, 520])
def test_a_gateways_page_holds_the_number_and_leaves_open_only_what_was_in_hand(stage, status):
    """A message that got the page may have been accepted, so it is never repeated; others wait."""
    stage.graph.page = (status, PAGE)
    stage.graph.up()
    entries = fill(stage, stage.bot(), each=6)
    stage.sender()
    stage.wait_for(lambda: outage(stage))
    stage.wait_for(lambda: stage.graph.asked >= 2)  # without a message it is found out that it lasts
    unknown = stage.statuses()["unknown"]
    assert unknown <= len(CHATS)
    assert outage(stage)[0] == f"http_{status}"
    stage.graph.page = None
    stage.wait_for(lambda: stage.statuses() == {"unknown": unknown, "sent": len(entries) - unknown})
    assert len(stage.graph.tried) == len(set(stage.graph.tried)) == len(entries)


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        *((error(code), str(code)) for code in (1, 2, 131000, 131016, 133004)),
        ((403, PAGE), "http_403"),
        ((503, PAGE), "http_503"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_failure_of_meta_or_of_a_gateway_is_waited_for(stage, answer, code):
    stage.graph.refuse = lambda _: answer
    stage.graph.up()
    entries = fill(stage, stage.bot())
    stage.sender()
    stage.wait_for(lambda: outage(stage))
    with watched(stage, LASTING):
        assert outage(stage)[0] == code
    assert untouched(stage)
    stage.graph.refuse = lambda _: None
    stage.wait_for(lambda: stage.statuses() == {"sent": len(entries)})
    assert_all_arrived_once_and_in_order(stage, entries)


def test_a_queue_of_many_chats_makes_no_attempt_each(stage):
    stage.graph.refuse = lambda _: error(131000)
    stage.graph.up()
    bot = stage.bot()
    stage.accept(*(entry(bot, f"60111{n:06}") for n in range(200)))
    stage.sender()
    stage.wait_for(lambda: outage(stage))
    with watched(stage, LASTING):
        before = len(stage.graph.tried)
    assert before <= stage.settings.meta_window
    assert len(stage.graph.tried) - before <= LASTING / 0.075  # at the shortest pauses
    assert len(set(stage.graph.tried)) == len(stage.graph.tried)  # it is another chat's turn each time


@pytest.mark.parametrize("workers", [1, 2])
def test_one_message_that_meta_never_takes_fails_by_itself_and_holds_nobody(stage, workers):
    stage.graph.refuse = lambda text: error(131000) if text == "poison" else None
    stage.graph.up()
    bot = stage.bot()
    stage.accept(entry(bot, "60999999999", "poison"), entry(bot, "60999999999", "behind it"))
    for worker in range(workers):
        stage.sender(f"meta-worker-{worker}", f"run{worker}")
    stage.wait_for(lambda: outage(stage))  # of the first message alone nobody can tell
    for n in range(600):
        stage.accept(entry(bot, CHATS[n % 5], f"{n:03}"))
        if stage.statuses().get("failed"):
            break
        time.sleep(0.1)
    stage.wait_for(lambda: stage.statuses() == {"failed": 1, "sent": n + 2})
    ((attempts, code),) = execute(stage.connection, "SELECT attempts, error_code FROM outbox WHERE status = 'failed'")
    assert (attempts, code) == (3, "131000")
    assert outage(stage) is None


def test_a_message_that_always_fails_is_charged_even_if_others_got_through_only_once(stage):
    stage.graph.refuse = lambda text: error(131000) if text == "poison" else None
    stage.graph.up()
    bot = stage.bot()
    stage.accept(entry(bot, "60999999999", "poison"))
    stage.sender()
    stage.wait_for(lambda: outage(stage))
    stage.accept(*(entry(bot, chat) for chat in CHATS))
    stage.wait_for(lambda: stage.statuses() == {"failed": 1, "sent": len(CHATS)})
    assert outage(stage) is None


def test_other_chats_go_first_after_the_pause_of_a_message_that_always_fails(stage):
    stage.graph.refuse = lambda text: error(131000) if text == "poison" else None
    stage.graph.up()
    bot = stage.bot()
    stage.accept(entry(bot, "60999999999", "poison"))
    stage.sender(pauses=Pauses(first=1.0, longest=8.0))
    stage.wait_for(lambda: stage.graph.tried.count("poison") == 3)
    with watched(stage, 1.5):  # of a pause of 3 to 4 s; the chat alone waits 1 s
        pass
    stage.accept(entry(bot, CHATS[0], "another"))
    stage.wait_for(lambda: len(stage.graph.tried) >= 4)
    assert stage.graph.tried[3] == "another"
    stage.wait_for(lambda: stage.statuses() == {"failed": 1, "sent": 1})


def test_a_message_that_is_refused_among_others_that_get_through_begins_no_outage(stage):
    stage.graph.refuse = lambda text: error(131000) if text == "poison" else None
    stage.graph.up()
    bot = stage.bot()
    stage.sender()
    stage.accept(entry(bot, CHATS[0], "before"))
    stage.wait_for(lambda: stage.statuses() == {"sent": 1})
    stage.accept(entry(bot, "60999999999", "poison"))
    stage.wait_for(lambda: "poison" in stage.graph.tried)
    stage.accept(entry(bot, CHATS[0], "after"))
    stage.wait_for(lambda: ("6011111111" + "0", "after") in stage.graph.received)
    assert execute(stage.connection, "SELECT count(*) FROM process_events WHERE event_type = 'bot_unavailable'") == [
        (0,)
    ]


def test_connections_that_break_after_the_request_hold_the_number_and_repeat_nothing(stage):
    stage.graph.up()
    bot = stage.bot()
    stage.accept(entry(bot, CHATS[0], "cut 1"), entry(bot, CHATS[0], "next"))
    stage.sender()
    stage.wait_for(lambda: stage.statuses() == {"unknown": 1, "sent": 1})
    assert stage.graph.tried == ["cut 1", "next"]
    assert stage.graph.asked >= 1  # before the next message was risked


def test_throttling_is_no_attempt_of_the_message(stage):
    stage.graph.refuse = lambda _: error(130429, 400)
    stage.graph.up()
    bot = stage.bot()
    stage.accept(entry(bot))
    stage.sender()
    for n in range(1, 13):  # more often than a message was tried before
        stage.wait_for(lambda n=n: len(stage.graph.tried) >= n)
        stage.wait_for(lambda: execute(stage.connection, "SELECT claim FROM lane") == [(None,)])
        execute(stage.connection, "UPDATE bot_pace SET held_until = '-infinity'")
        execute(stage.connection, "UPDATE lane SET due = now()")
    assert untouched(stage)


def test_a_lasting_outage_and_its_end_are_reported_once(stage):
    bot = stage.bot()
    execute(stage.connection, "INSERT INTO event_feed (company_id) VALUES ('0128')")
    entries = fill(stage, bot)
    stage.sender()
    stage.wait_for(lambda: told(stage))
    with watched(stage, LASTING):
        stage.wait_for(lambda: outage(stage))
    stage.graph.up()
    stage.wait_for(lambda: stage.statuses() == {"sent": len(entries)})
    stage.wait_for(lambda: len(told(stage)) == 2)
    (_, reason), end = told(stage)
    assert "network: " in reason
    assert [status for status, _ in told(stage)] == ["unavailable", "active"]
    assert end == ("active", None)
    assert execute(stage.connection, "SELECT event_type, severity FROM process_events ORDER BY 1 DESC") == [
        ("bot_unavailable", "error"),
        ("bot_available", "info"),
    ]


def told(stage):
    """(status, reason) of each event of the number."""
    statement = "SELECT payload ->> 'status', payload ->> 'reason' FROM event WHERE name = 'bot.status' ORDER BY seq"
    return execute(stage.connection, statement)


def test_a_short_outage_is_not_reported(stage):
    bot = stage.bot()
    execute(stage.connection, "INSERT INTO event_feed (company_id) VALUES ('0128')")
    holds.note_outages(stage.connection, [Fault(bot, "network", "refused", probe=False)], FAST)
    holds.note_outages(stage.connection, [Answer(bot, sent=True)], FAST)
    assert told(stage) == []


def test_an_outage_outlives_the_worker_that_met_it(stage):
    bot = stage.bot()
    holds.note_outages(stage.connection, [Fault(bot, "131000", "no", probe=False)], FAST)
    fill(stage, bot)
    execute(stage.connection, "UPDATE bot_pace SET held_until = now()")
    (probe,) = outbox().claim(stage.connection, 100)
    assert probe.outage == "131000"
    assert outbox("other/w/1").claim(stage.connection, 100) == []  # not while that one is under way
    outbox().record(stage.connection, [result(probe)])
    holds.note_outages(stage.connection, [Answer(bot, sent=True)], FAST)
    assert len(outbox().claim(stage.connection, 100)) == len(CHATS)


def test_a_refusal_of_the_messages_own_lets_the_next_one_find_out_at_once(stage):
    bot = stage.bot()
    holds.note_outages(stage.connection, [Fault(bot, "network", "no", probe=False)], FAST)
    fill(stage, bot)
    execute(stage.connection, "UPDATE bot_pace SET held_until = now()")
    (probe,) = outbox().claim(stage.connection, 100)
    outbox().record(stage.connection, [result(probe, Status.FAILED)])
    holds.note_outages(stage.connection, [Answer(bot, sent=False)], FAST)
    assert len(outbox().claim(stage.connection, 100)) == 1


def test_an_operators_hold_is_neither_shortened_nor_ended_by_an_outage(stage):
    bot = stage.bot()
    stage.accept(entry(bot))
    execute(stage.connection, "UPDATE bot_pace SET held_until = 'infinity', held_reason = '190: expired'")
    for finding in (Fault(bot, "network", "no", probe=True), Answer(bot, sent=False), Answer(bot, sent=True)):
        holds.note_outages(stage.connection, [finding], FAST)
        held = execute(stage.connection, "SELECT held_until::text, held_reason FROM bot_pace")
        assert held == [("infinity", "190: expired")]


def test_only_probing_attempts_make_pauses_longer_and_an_old_outage_is_forgotten(stage):
    bot = stage.bot()

    def pause(probe=True, **extra):
        holds.note_outages(stage.connection, [Fault(bot, "network", "no", probe, **extra)], FAST)
        return round(execute(stage.connection, "SELECT outage_pause FROM bot_pace")[0][0], 3)

    assert [pause(probe=False) for _ in range(3)] == [0.1, 0.1, 0.1]
    assert [pause() for _ in range(4)] == [0.2, 0.4, 0.5, 0.5]
    assert pause(least=60.0) == 60.0
    execute(stage.connection, "UPDATE bot_pace SET outage_seen = now() - interval '1 hour'")
    assert pause() == 0.1


def test_workers_with_findings_about_the_same_numbers_do_not_deadlock(stage):
    bots = [stage.bot(phone) for phone in range(8)]
    for bot in bots:  # so that each number raises an event
        execute(stage.connection, "UPDATE phone_configs SET company_id = %s WHERE id = %s", (f"company {bot}", bot))
        execute(stage.connection, "INSERT INTO event_feed (company_id) VALUES (%s)", (f"company {bot}",))
    pauses = Pauses(first=0.1, longest=0.2, reported_after=0.0)
    failed = []

    def work(worker):
        choice = random.Random(worker)
        connection = stage.database.connect()
        for _ in range(50):
            faults = [Fault(bot, "network", "refused", choice.random() < 0.7) for bot in choice.sample(bots, 4)]
            answers = [Answer(bot, choice.random() < 0.6) for bot in choice.sample(bots, 4)]
            try:
                holds.note_outages(connection, [*faults, *answers], pauses)
            except DatabaseError as error:
                failed.append(error)
        connection.close()

    workers = [threading.Thread(target=work, args=(worker,)) for worker in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not failed


def test_only_messages_that_waited_too_long_fail(stage):
    bot, other = stage.bot(0), stage.bot(1)
    entries = fill(stage, bot, each=2)
    entries += fill(stage, other, each=1)
    old = "now() - interval '25 hours'"
    execute(stage.connection, f"UPDATE outbox SET updated_at = {old} WHERE payload ->> 'message' ~ ' 000$'")
    assert holds.fail_old(stage.connection, outbox(), 24) == 0  # it was something else that kept them
    holds.note_outages(stage.connection, [Fault(bot, "network", "refused", probe=False)], FAST)
    assert holds.fail_old(stage.connection, outbox(), 24) == 0  # the outage has only begun
    execute(stage.connection, f"UPDATE bot_pace SET outage_since = {old} WHERE outage_since IS NOT NULL")
    assert holds.fail_old(stage.connection, outbox(), 24) == len(CHATS)
    rows = execute(stage.connection, "SELECT DISTINCT bot_id, error_code, error FROM outbox WHERE status = 'failed'")
    assert rows == [(bot, "provider_unreachable", "it waited for its provider for 24 hours (network: refused)")]
    assert execute(stage.connection, "SELECT sum(pending) FROM lane WHERE claim IS NULL") == [(2 * len(CHATS),)]
    execute(stage.connection, "UPDATE bot_pace SET held_until = '-infinity', outage_since = NULL")
    assert {m.payload["message"][-3:] for m in outbox().claim(stage.connection, 5) if m.bot_id == bot} == {"001"}


def test_a_worker_that_cannot_reach_the_provider_does_not_stop_one_that_can(stage):
    stage.graph.up()
    away = MetaConnector(stage.settings.copy_with(meta_graph_url="http://127.0.0.1:1"))
    stage.sender("meta-worker-1", "cut-off", connector=away)
    stage.sender("meta-worker-2", "fine")
    entries = fill(stage, stage.bot(), each=10)
    stage.wait_for(lambda: stage.statuses() == {"sent": len(entries)})
    assert_all_arrived_once_and_in_order(stage, entries)


def test_a_message_that_did_not_leave_leaves_no_mark(stage):
    """A worker that dies in an outage leaves nothing open: what it tried is known not to have left."""
    bot = stage.bot()
    fill(stage, bot, each=1)
    sender = stage.sender()
    stage.wait_for(lambda: outage(stage))
    stage.wait_for(lambda: sender.delivery.in_hand == 0)
    assert recovery.claimed_by(stage.connection, sender.outbox.worker) == []
