"""The thread that sends the simulator's webhooks: it survives what it cannot do for now, and says so."""

import errno
import sqlite3

import pytest

from services.sandbox.database import Database
from services.sandbox.meta.behaviour import Behaviours
from services.sandbox.meta.destinations import Destinations
from services.sandbox.meta.registry import Registry
from services.sandbox.meta.schema import SCHEMA
from services.sandbox.meta.store import Store, WebhookUpdate
from services.sandbox.meta.webhooks import WebhookSender
from tests.support.sandbox import SECRET, Receiver
from tests.support.waiting import wait_until


class FailingStore(Store):
    """A store whose reads fail while `error` is set."""

    error: Exception | None = None

    def due_updates(self, now, limit):
        if self.error:
            raise self.error
        return super().due_updates(now, limit)


@pytest.fixture
def database(tmp_path):
    database = Database(tmp_path / "sandbox.db", SCHEMA)
    yield database
    database.close()


@pytest.mark.parametrize(
    "error", [sqlite3.OperationalError("database or disk is full"), OSError(errno.ENOSPC, "No space left on device")]
)
def test_webhooks_wait_and_health_says_why_until_the_disk_has_room_again(database, error):
    receiver, store, registry = Receiver(), FailingStore(database), Registry(database)
    store.error = error
    sender = WebhookSender(store, Destinations(registry, [receiver.url]), Behaviours(), SECRET)
    sender.start()
    wait_until(lambda: sender.error is not None)
    assert str(error) in (sender.error or "")
    store.add_inbound([], [WebhookUpdate("", "1055", "", "{}", 0.0)])
    store.error = None
    sender.wake()
    wait_until(lambda: receiver.webhooks)
    wait_until(lambda: sender.error is None)
    sender.stop()
    receiver.close()


def test_a_transaction_that_could_not_be_ended_does_not_prevent_the_next(database):
    database._connection.execute("BEGIN")
    with database.transaction() as connection:
        connection.execute("DELETE FROM message")
