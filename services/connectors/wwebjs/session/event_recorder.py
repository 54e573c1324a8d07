"""Stores the page's events about messages unchanged, before the page may drop them; the inbox applies them later."""

import json
from collections.abc import Callable, Sequence
from typing import Any

import orjson
import psycopg2

from services.connectors.wwebjs.browser.page_events import PageEvent
from services.connectors.wwebjs.translation.incoming import EVENTS
from services.database.connection import Connection, Database, query
from services.inbox.webhook_inbox import Inbox

_STORE = """
INSERT INTO webhook_inbox (process_name, body, bot_id)
SELECT 'wwebjs', body, %s FROM unnest(%s::bytea[]) WITH ORDINALITY AS events (body, n) ORDER BY n"""


#: Events that are applied at once, at most: the thread of the browser loop has more to do.
MAX_APPLIED_EVENTS = 50
_ACKNOWLEDGEMENT = "chat.msg_ack_change"


class EventRecorder:
    """Stores the events of one bot's page."""

    def __init__(
        self, database: Database, bot_id: int, inbox: Inbox, stored: Callable[[], None],
        has_sent: Callable[[str], bool] = lambda _: False,
    ) -> None:  # fmt: skip
        """`stored`: called after each commit of events that are not applied yet; it must return at once.

        `has_sent`: whether a message, by its key, is one that this process sends or has sent.
        """
        self._database, self._bot_id, self._inbox = database, bot_id, inbox
        self._stored, self._has_sent = stored, has_sent

    def can_wait(self, events: Sequence[PageEvent]) -> bool:
        """Whether nobody waits for any of these events: they are acknowledgements, or not to be stored at all."""
        return all(event.name == _ACKNOWLEDGEMENT or not self._is_news(event) for event in events)

    def record(self, events: Sequence[PageEvent]) -> None:
        """Store those about messages or calls, in their order, and apply them in the same commit if that is possible.

        Raises `DatabaseUnavailable` and `DatabaseError`; then no event may be acknowledged to the page.
        """
        news = [
            {"name": event.name, "data": event.data, "at": event.at, "boot": event.boot, "seq": event.seq}
            for event in events
            if self._is_news(event)
        ]
        if len(news) > MAX_APPLIED_EVENTS:
            self.store(news)
        elif news:
            with self._database.connection() as connection:
                if not self._inbox.store_and_apply(connection, lambda: self._insert(connection, news)):
                    self._stored()

    def store(self, events: list[dict[str, Any]]) -> None:
        """Store events as JSON objects, such as those of the catch-up. Raises like `record`."""
        if not events:
            return
        with self._database.connection() as connection:
            self._insert(connection, events)
        self._stored()

    def _insert(self, connection: Connection, events: list[dict[str, Any]]) -> None:
        query(connection, _STORE, (self._bot_id, [psycopg2.Binary(_json(event)) for event in events]))

    def _is_news(self, event: PageEvent) -> bool:
        """Whether an event has to be stored: the outbox reports by itself that a text of this process was sent."""
        data = event.data if isinstance(event.data, dict) else {}
        if event.name == "chat.new_message":
            return not self._is_sent_by_us(data.get("id"))
        if event.name == _ACKNOWLEDGEMENT and data.get("ack") == 1:
            keys = data.get("ids")
            return not (isinstance(keys, list) and all(self._is_sent_by_us(key) for key in keys))
        return event.name in EVENTS

    def _is_sent_by_us(self, key: Any) -> bool:
        return isinstance(key, str) and self._has_sent(key)


def _json(event: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(event)
    except TypeError:  # halves of surrogate pairs and integers beyond 64 bits are valid JSON, but not for orjson
        return json.dumps(event).encode()
