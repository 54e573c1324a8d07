"""Stores the page's events about messages unchanged, before the page may drop them; the inbox applies them later."""

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
SELECT 'wwebjs', body, %s FROM unnest(%s::bytea[]) WITH ORDINALITY AS events (body, n) ORDER BY n"""


class EventRecorder:
    """Stores the events of one bot's page."""

    def __init__(self, database: Database, bot_id: int, stored: Callable[[], None]) -> None:
        """`stored`: called after each commit, to wake the inbox; it must return at once."""
        self._database = database
        self._bot_id = bot_id
        self._stored = stored

    def record(self, events: Sequence[PageEvent]) -> None:
        """Store those about messages or calls, in their order and in one commit.

        Raises `DatabaseUnavailable` and `DatabaseError`; then no event may be acknowledged to the page.
        """
        self.store(
            [
                {"name": event.name, "data": event.data, "at": event.at, "boot": event.boot, "seq": event.seq}
                for event in events
                if event.name in EVENTS
            ]
        )

    def store(self, events: list[dict[str, Any]]) -> None:
        """Store events as JSON objects, such as those of the catch-up. Raises like `record`."""
        if not events:
            return
        bodies = [psycopg2.Binary(_json(event)) for event in events]
        with self._database.connection() as connection, connection.cursor() as cursor:
            cursor.execute(_STORE, (self._bot_id, bodies))
        self._stored()


def _json(event: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(event)
    except TypeError:  # halves of surrogate pairs and integers beyond 64 bits are valid JSON, but not for orjson
        return json.dumps(event).encode()
