"""What the page tells of messages is stored as it came before it is forgotten there; the inbox reads it afterwards."""

import json
from collections.abc import Callable, Sequence
from typing import Any

import orjson
import psycopg2

from services.connectors.wwebjs.browser.page_events import PageEvent
from services.connectors.wwebjs.translation.incoming import EVENTS
from services.database.connection import Database

_STORE = """
INSERT INTO webhook_inbox (process_name, body, bot_id)
SELECT 'wwebjs', body, %s FROM unnest(%s::bytea[]) WITH ORDINALITY AS told (body, n) ORDER BY n"""


class EventRecorder:
    """Stores the events of one bot's page."""

    def __init__(self, database: Database, bot_id: int, stored: Callable[[], None]) -> None:
        """`stored`: called after each commit, for the inbox to look; it must return at once."""
        self._database, self._bot_id, self._stored = database, bot_id, stored

    def record(self, events: Sequence[PageEvent]) -> None:
        """Store those that tell of messages or calls, in their order and one commit.

        Raises `DatabaseUnavailable` and `DatabaseError`; nothing may be acknowledged to the page then.
        """
        self.store(
            [
                {"name": event.name, "data": event.data, "at": event.at, "boot": event.boot, "seq": event.seq}
                for event in events
                if event.name in EVENTS
            ]
        )

    def store(self, told: list[dict[str, Any]]) -> None:
        """Store what the page answered when it was asked, in the form of events. Raises like `record`."""
        if not told:
            return
        bodies = [psycopg2.Binary(_written(each)) for each in told]
        with self._database.connection() as connection, connection.cursor() as cursor:
            cursor.execute(_STORE, (self._bot_id, bodies))
        self._stored()


def _written(told: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(told)
    except TypeError:  # halves of surrogate pairs and numbers beyond 64 bits, which JSON may have
        return json.dumps(told).encode()
