"""Outcomes and reports that meet somebody else's change of the same rows, which commits while they wait for it.

PostgreSQL reads such a row again and runs the statement's conditions on it once more ("EvalPlanQual"), in which no
other part of the statement that writes may be read.
"""

import threading
import time
from dataclasses import replace
from typing import Unpack

import pytest
from uuid_utils import uuid7

from services.message import Payload, Status, StatusUpdate
from tests.support.outbox import accept, add_bot, apply_statuses, entry, execute, open_database, outbox, result
from tests.support.waiting import Patience

CHAT = "60123456789"


class Stage:
    """A bot with a message in hand, and a second connection whose changes are not committed yet."""

    def __init__(self, dsn):
        self.pool, self.connection = open_database(dsn)
        self.other, self.third = self.pool.connect(), self.pool.connect()
        self.bot = add_bot(self.connection)

    def in_hand(self, kind="text", chat=CHAT, **payload: Unpack[Payload]):
        """Accept a message of the kind and claim it."""
        new = entry(self.bot, chat)
        accept(self.connection, replace(new, kind=kind, payload=payload or new.payload))
        (message,) = outbox().claim(self.connection, 10)
        return message

    def meanwhile(self, change, values, work):
        """Do the work while the change waits to be committed; it is once the work stands still for it."""
        execute(self.other, "BEGIN")
        execute(self.other, change, values)
        failures = []

        def run():
            try:
                work()
            except Exception as error:
                failures.append(error)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        patience = Patience(60)
        pid = self.connection.get_backend_pid()
        while not execute(self.third, "SELECT 1 FROM pg_locks WHERE pid = %s AND NOT granted", (pid,)):
            assert thread.is_alive(), f"the change stands in nobody's way: {failures}"
            assert not patience.is_over(), "the work neither ends nor waits for the change"
            time.sleep(0.01)
        execute(self.other, "COMMIT")
        thread.join()
        assert failures == []

    def close(self):
        for each in (self.other, self.third, self.connection, self.pool):
            each.close()


@pytest.fixture
def stage(database):
    stage = Stage(database)
    yield stage
    stage.close()


@pytest.mark.parametrize("status", [Status.SENT, Status.FAILED, Status.QUEUED])
def test_an_outcome_and_a_report_at_the_same_time_are_both_recorded(stage, status):
    message = stage.in_hand()
    stage.meanwhile(
        "UPDATE outbox SET status = 'delivered', timeline = timeline || '[{\"status\": \"delivered\"}]'"
        " WHERE message_id = %s",
        (message.message_id,),
        lambda: outbox().record(stage.connection, [result(message, status)]),
    )
    ((now, attempts),) = execute(stage.connection, "SELECT status, attempts FROM outbox")
    assert (now, attempts) == ("delivered", 1)
    assert execute(stage.connection, "SELECT claim FROM lane") == [(None,)]


def test_outcomes_of_several_chats_and_reports_of_some_do_not_deadlock(stage):
    messages = [stage.in_hand(chat=f"6010000000{n}") for n in range(5)]
    stage.meanwhile(
        "UPDATE outbox SET status = 'delivered' WHERE message_id = ANY (%s::uuid[])",
        ([messages[1].message_id, messages[3].message_id],),
        lambda: outbox().record(stage.connection, [result(each) for each in messages]),
    )
    assert execute(stage.connection, "SELECT status, attempts FROM outbox ORDER BY id") == [
        (status, 1) for status in ("sent", "delivered", "sent", "delivered", "sent")
    ]


def test_a_late_outcome_and_a_report_are_both_recorded(stage):
    """Its lane has been given to another; what became of the message was not known until now."""
    message = stage.in_hand()
    outbox().record(stage.connection, [result(message, Status.UNKNOWN)])
    stage.meanwhile(
        'UPDATE outbox SET timeline = timeline || \'[{"status": "delivered"}]\'',
        (),
        lambda: outbox().record(stage.connection, [result(message)]),
    )
    assert execute(stage.connection, "SELECT status FROM outbox") == [("sent",)]


def test_an_outcome_and_the_next_message_of_its_chat_do_not_conflict(stage):
    message = stage.in_hand()
    stage.meanwhile(
        "UPDATE lane SET pending = pending + 1",
        (),
        lambda: outbox().record(stage.connection, [result(message)]),
    )
    assert execute(stage.connection, "SELECT pending, claim FROM lane") == [(1, None)]


ABOUT: Payload = {"target_provider_id": "wamid.target"}
#: A kind of message, its payload, and a change of the row that it writes beside the outbox.
BESIDE: dict[str, tuple[Payload, str]] = {
    "reaction": ({"reaction": "x", **ABOUT}, "UPDATE messages SET status = 'read'"),
    "edit": ({"message": "x", **ABOUT}, "UPDATE messages SET status = 'read'"),
    "delete": ({"deleteForEveryone": True, **ABOUT}, "UPDATE messages SET author = 'x'"),
    "read": (ABOUT, "UPDATE contacts SET unread_count = 5"),
}


@pytest.mark.parametrize(
    ("kind", "reported"), [(kind, False) for kind in BESIDE] + [(kind, True) for kind in BESIDE if kind != "read"]
)
def test_a_concurrent_change_is_not_overwritten(stage, kind, reported):
    payload, change = BESIDE[kind]
    execute(
        stage.connection,
        "INSERT INTO messages (id, message_id, company_id, external_id, provider, status)"
        " VALUES (%s, 'm-1', '0128', 'wamid.target', 'meta', 'sent')",
        (str(uuid7()),),
    )
    execute(
        stage.connection,
        "INSERT INTO contacts (contact_id, company_id, chat_id) VALUES (%s, '0128', %s)",
        (f"0128-{CHAT}", f"{CHAT}@c.us"),
    )
    message = stage.in_hand(kind, **payload)

    def work():
        if reported:
            apply_statuses(stage.connection, StatusUpdate("wamid.x", Status.SENT, 1.0, message.message_id))
        else:
            outbox().record(stage.connection, [result(message)])

    stage.meanwhile(change, (), work)
    ((reaction, edited, status),) = execute(stage.connection, "SELECT reaction, edited, status FROM messages")
    ((unread,),) = execute(stage.connection, "SELECT unread_count FROM contacts")
    assert {
        "reaction": reaction == "x", "edit": edited, "delete": status == "revoked", "read": unread == 0
    }[kind]  # fmt: skip


def test_a_closed_window_and_a_new_message_of_the_customer_do_not_conflict(stage):
    execute(
        stage.connection, "INSERT INTO chat (bot_id, chat_id, window_until) VALUES (%s, %s, 'infinity')",
        (stage.bot, CHAT),
    )  # fmt: skip
    message = stage.in_hand()
    stage.meanwhile(
        "UPDATE chat SET last_inbound_at = now()",
        (),
        lambda: outbox().record(stage.connection, [result(message, Status.FAILED, code="131047")]),
    )
    assert execute(stage.connection, "SELECT window_until <= now(), last_inbound_at IS NOT NULL FROM chat") == [
        (True, True)
    ]


def test_a_report_and_an_outcome_at_the_same_time_are_both_applied(stage):
    message = stage.in_hand()
    stage.meanwhile(
        "UPDATE outbox SET status = 'sent', provider_id = 'wamid.x'",
        (),
        lambda: apply_statuses(stage.connection, StatusUpdate("wamid.x", Status.DELIVERED, 1.0, message.message_id)),
    )
    assert execute(stage.connection, "SELECT status FROM outbox") == [("delivered",)]


def test_a_report_and_a_change_of_the_history_at_the_same_time_do_not_deadlock(stage):
    message = stage.in_hand()
    outbox().record(stage.connection, [result(message)])
    stage.meanwhile(
        "UPDATE messages SET reaction = 'x'",
        (),
        lambda: apply_statuses(stage.connection, StatusUpdate("wamid.x", Status.READ, 1.0, message.message_id)),
    )
    assert execute(stage.connection, "SELECT status, reaction FROM messages") == [("read", "x")]


@pytest.mark.parametrize(
    "change", ["UPDATE lane SET pending = pending + 1", "UPDATE messages SET reaction = 'x'"], ids=["lane", "history"]
)
def test_a_refused_link_and_a_change_at_the_same_time_do_not_deadlock(stage, change):
    message = stage.in_hand("image", media={"link": "https://files.example/a.png"})
    outbox().record(stage.connection, [result(message)])
    refused = StatusUpdate(
        f"wamid.{message.id}", Status.FAILED, 1.0, message.message_id, "131053", "no such file", link_refused=True
    )
    stage.meanwhile(change, (), lambda: apply_statuses(stage.connection, refused))
    assert execute(stage.connection, "SELECT status, payload #> '{media,fetch}' FROM outbox") == [("queued", True)]
