"""Keys and bots, remembered for a short while and forgotten at once when PostgreSQL announces a change."""

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import structlog

from services.database.connection import Connection, Database, DatabaseError, DatabaseUnavailable
from services.database.listen import ANSWER_SECONDS, PAUSE, notifications
from services.message import Bot, Secret

#: Seconds for which a remembered row is used; a change is announced and does not wait for it.
TTL = 30.0
#: Seconds after the connection that hears of changes last answered, in which remembered rows are still used.
SILENCE_SECONDS = PAUSE + ANSWER_SECONDS
#: Rows remembered at most, of keys and bots together.
MAX_REMEMBERED = 50_000
#: The channel on which the triggers of `api_keys` and `phone_configs` announce changes.
CHANNEL = "bisnes_config"

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Key:
    """An API key that is not revoked."""

    id: int
    company_id: str | None  # None: an operator's, for every company


_FIND_KEY = "SELECT id, company_id, key_hash FROM api_keys WHERE key_hash = %s AND revoked_at IS NULL"


_BOT_COLUMNS = """
    SELECT id, company_id, phone_index, process_name, COALESCE(connection_type, 'wwebjs'),
           COALESCE(meta_phone_number_id, ''),
           COALESCE(CASE connection_type WHEN '360dialog' THEN api_key_encrypted
                                         ELSE meta_access_token_encrypted END, '')
    FROM phone_configs"""


def find_key(connection: Connection, digest: bytes) -> Key | None:
    """The key with this SHA-256, unless it was revoked."""
    with connection.cursor() as cursor:
        cursor.execute(_FIND_KEY, (digest,))
        row = cursor.fetchone()
    return Key(row[0], row[1]) if row else None


def find_bot(connection: Connection, where: str, values: tuple[Any, ...]) -> Bot | None:
    """The bot that matches a condition on `phone_configs`; its token is still encrypted."""
    with connection.cursor() as cursor:
        cursor.execute(f"{_BOT_COLUMNS} WHERE {where}", values)
        row = cursor.fetchone()
    return Bot(row[0], row[1], row[2], row[3], row[4], row[5], Secret(row[6])) if row else None


class AccountCache:
    """Looks up keys and bots. While changes cannot be heard, nothing is remembered, so a revocation always counts."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._remembered: dict[Any, tuple[float, Any]] = {}
        self._heard = -math.inf  # when the connection that hears of changes last answered
        self._stopped = threading.Event()

    def key(self, digest: bytes) -> Key | None:
        """The API key with this SHA-256, or None if there is none or it was revoked."""
        return self._find(digest, lambda connection: find_key(connection, digest))  # type: ignore[no-any-return]

    def bot(self, company_id: str, phone_index: int) -> Bot | None:
        """The company's bot with this index; its token is still encrypted."""
        where, values = "company_id = %s AND phone_index = %s", (company_id, phone_index)
        return self._find(values, lambda connection: find_bot(connection, where, values))  # type: ignore[no-any-return]

    def bot_by_id(self, bot_id: int) -> Bot | None:
        """The bot of a row of `phone_configs`."""
        return self._find(bot_id, lambda connection: find_bot(connection, "id = %s", (bot_id,)))  # type: ignore[no-any-return]

    def _find(self, name: Any, query: Callable[[Connection], Any]) -> Any:
        found = self.remembered(name)
        if found is not None:
            return found
        generation = self._remembered
        with self._database.connection() as connection:
            found = query(connection)
        if found is not None and self._hears():
            if len(generation) >= MAX_REMEMBERED:
                generation.clear()
            generation[name] = (time.monotonic() + TTL, found)
        return found

    def remembered(self, name: Any) -> Any | None:
        """What is known without asking the database: a Key by digest, a Bot by (company, index) or by id."""
        entry, now = self._remembered.get(name), time.monotonic()
        return entry[1] if entry is not None and entry[0] > now < self._heard + SILENCE_SECONDS else None

    def _hears(self) -> bool:
        return time.monotonic() < self._heard + SILENCE_SECONDS

    def start(self) -> None:
        """Begin to listen for changes."""
        threading.Thread(target=self._listen_on, name="directory", daemon=True).start()

    def stop(self) -> None:
        """Stop listening; rows are then looked up each time."""
        self._stopped.set()

    def _listen_on(self) -> None:
        while not self._stopped.is_set():
            try:
                self._listen()
            except (DatabaseUnavailable, DatabaseError) as error:
                log.warning(
                    "changes of keys and bots cannot be heard, asking the database each time", reason=str(error).strip()
                )
            self._heard = -math.inf
            self._forget()
            self._stopped.wait(1)

    def _listen(self) -> None:
        for heard in notifications(self._database, (CHANNEL,), self._stopped):
            if heard:
                self._forget()
            self._heard = time.monotonic()

    def _forget(self) -> None:
        # A new dictionary, so that a look-up that began before the change cannot bring the old row back.
        self._remembered = {}
