"""Keys and bots, cached for a short time and dropped at once when PostgreSQL announces a change."""

import math
import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import structlog

from bisnesctl.encryption import Keys, decrypt
from services.database.announcements import (
    ANNOUNCEMENT_TIMEOUT_SECONDS,
    ANNOUNCEMENT_WAIT_SECONDS,
    IDLE_WAIT_SECONDS,
    Waker,
    announcements,
)
from services.database.connection import (
    Connection,
    Database,
    DatabaseError,
    DatabaseUnavailable,
    query,
    query_one,
)
from services.message import Bot, Secret

#: Seconds for which a cached row is used. A change is announced and does not wait for it.
ROW_VALID_SECONDS = 30.0
#: Seconds for which cached rows are used after the connection that listens for changes last answered.
SILENCE_SECONDS = ANNOUNCEMENT_WAIT_SECONDS + ANNOUNCEMENT_TIMEOUT_SECONDS
#: Rows in each cache, at most.
MAX_ROWS = 25_000
#: Seconds for which a key is remembered as unknown. A new key is announced and does not wait for it.
UNKNOWN_KEY_SECONDS = 10.0
#: Seconds before the next try to hear of changes.
LISTEN_RETRY_SECONDS = 1.0
#: The channel on which the triggers of `api_keys` and `phone_configs` announce changes.
CHANNEL = "bisnes_config"

_KEY = "SELECT id, company_id, prefix, label FROM api_keys WHERE key_hash = %s AND revoked_at IS NULL"
_VALID = f"SELECT key_hash FROM api_keys WHERE revoked_at IS NULL LIMIT {MAX_ROWS}"
_BOT = """
SELECT id, company_id, phone_index, process_name, COALESCE(connection_type, 'wwebjs'),
       COALESCE(meta_phone_number_id, ''),
       COALESCE(CASE connection_type WHEN '360dialog' THEN api_key_encrypted ELSE meta_access_token_encrypted END, '')
FROM phone_configs WHERE """
_BOT_BY_NAME = f"{_BOT} company_id = %s AND phone_index = %s"
_BOT_BY_ID = f"{_BOT} id = %s"

log = structlog.get_logger()

Name = TypeVar("Name", bound=Hashable)
Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class Key:
    """An API key that is not revoked."""

    id: int
    company_id: str | None  # None: an operator's, for every company
    prefix: str = ""  # its first characters, and a note, for the audit trail
    label: str = ""


def find_key(connection: Connection, digest: bytes) -> Key | None:
    """The key with this SHA-256, unless it was revoked."""
    row = query_one(connection, _KEY, (digest,))
    return Key(*row) if row else None


def find_bot(connection: Connection, company_id: str, phone_index: int) -> Bot | None:
    """The company's bot with this index; its token is still encrypted."""
    return _bot(query_one(connection, _BOT_BY_NAME, (company_id, phone_index)))


def find_bot_by_id(connection: Connection, bot_id: int) -> Bot | None:
    """The bot of a row of `phone_configs`; its token is still encrypted."""
    return _bot(query_one(connection, _BOT_BY_ID, (bot_id,)))


def _bot(row: tuple[Any, ...] | None) -> Bot | None:
    if row is None:
        return None
    bot_id, company_id, phone_index, process_name, connection_type, phone_number_id, token = row
    return Bot(bot_id, company_id, phone_index, process_name, connection_type, phone_number_id, Secret(token))


class _Cache(Generic[Name, Row]):
    """Rows by name. A row that was read before a change was announced cannot get in after it."""

    def __init__(self) -> None:
        self._rows: dict[Name, tuple[float, Row]] = {}

    def get(self, name: Name) -> Row | None:
        entry = self._rows.get(name)
        return entry[1] if entry is not None and entry[0] > time.monotonic() else None

    def read(self, name: Name, load: Callable[[], Row | None], is_current: Callable[[], bool]) -> Row | None:
        """Load a row, and keep it if its changes would be noticed."""
        rows = self._rows
        row = load()
        if row is not None and is_current():
            if len(rows) >= MAX_ROWS:
                rows.clear()
            rows[name] = time.monotonic() + ROW_VALID_SECONDS, row
        return row

    def clear(self) -> None:
        self._rows = {}  # a new dictionary: a thread that is loading a row writes it to the old one


class AccountCache:
    """Looks up keys and bots. While changes cannot be noticed, nothing is cached, so a revocation always counts."""

    def __init__(self, database: Database, encryption_keys: Keys = "") -> None:
        """`encryption_keys`: decrypt the bots' tokens."""
        self._database, self._encryption_keys = database, encryption_keys
        self._keys: _Cache[bytes, Key] = _Cache()
        self._unknown: dict[bytes, float] = {}  # digests of unknown keys, and until when they are remembered
        self._valid: frozenset[bytes] = frozenset()  # the digests of all valid keys at the last change
        self._readers: list[Callable[[Connection], None]] = []
        self._bots: _Cache[tuple[str, int], Bot] = _Cache()
        self._bots_by_id: _Cache[int, Bot] = _Cache()
        self._tokens: dict[str, Secret] = {}  # decrypted, by the encrypted token
        self._heard = -math.inf  # when the connection that listens for changes last answered
        self._waker, self._asks = Waker(), False  # whether it is being asked
        self._stopped = threading.Event()
        self._on_change: list[Callable[[], object]] = []

    def on_change(self, action: Callable[[], object]) -> None:
        """Run this, on any thread, after keys or bots may have changed."""
        self._on_change.append(action)

    def key(self, digest: bytes) -> Key | None:
        """The API key with this SHA-256, or None if there is none or it was revoked. Raises `DatabaseUnavailable`."""
        if (known := self.cached_key(digest)) is not None or self._is_unknown(digest):
            return known
        unknown = self._unknown  # another one after a change
        found = self._read(self._keys, digest, lambda each: find_key(each, digest))
        if found is None and self._is_current():
            if len(unknown) >= MAX_ROWS:
                unknown.clear()
            unknown[digest] = time.monotonic() + UNKNOWN_KEY_SECONDS
        return found

    def is_valid(self, digest: bytes) -> bool:
        """Whether a key was valid at the last change, without asking the database."""
        return digest in self._valid

    def _is_unknown(self, digest: bytes) -> bool:
        return self._is_current() and self._unknown.get(digest, 0.0) > time.monotonic()

    def read_with(self, reader: Callable[[Connection], None]) -> None:
        """Have `reader` read its rows at the start and after each change."""
        self._readers.append(reader)

    def cached_key(self, digest: bytes) -> Key | None:
        """The key, if it is known without asking the database."""
        return self._keys.get(digest) if self._is_current() else None

    def bot(self, company_id: str, phone_index: int) -> Bot | None:
        """The company's bot with this index; its token is still encrypted. Raises `DatabaseUnavailable`."""
        return self.cached_bot(company_id, phone_index) or self._read(
            self._bots, (company_id, phone_index), lambda each: find_bot(each, company_id, phone_index)
        )

    def cached_bot(self, company_id: str, phone_index: int) -> Bot | None:
        """The bot, if it is known without asking the database."""
        return self._bots.get((company_id, phone_index)) if self._is_current() else None

    def sending_bot(self, bot_id: int) -> Bot | None:
        """A bot that is ready to send: its token is decrypted, once for all its messages.

        Raises `EncryptionError`, `DatabaseUnavailable`.
        """
        bot = self._bots_by_id.get(bot_id) if self._is_current() else None
        bot = bot or self._read(self._bots_by_id, bot_id, lambda each: find_bot_by_id(each, bot_id))
        if bot is None or bot.process_name == "wwebjs":  # its credential is the browser's profile
            return bot
        encrypted = bot.access_token.value
        if encrypted not in self._tokens:
            self._tokens[encrypted] = Secret(decrypt(self._encryption_keys, encrypted))
        return replace(bot, access_token=self._tokens[encrypted])

    def _read(self, cache: _Cache[Name, Row], name: Name, load: Callable[[Connection], Row | None]) -> Row | None:
        def load_row() -> Row | None:
            with self._database.connection() as connection:
                return load(connection)

        return cache.read(name, load_row, self._is_current)

    def _is_current(self) -> bool:
        """Whether changes have been noticed until now. While nobody calls this, the connection is hardly ever asked."""
        silence = time.monotonic() - self._heard
        if silence > ANNOUNCEMENT_WAIT_SECONDS and not self._asks:
            self._asks = True
            self._waker.wake()
        return silence < SILENCE_SECONDS

    def start(self) -> None:
        """Begin to listen for changes."""
        threading.Thread(target=self._listen_until_stopped, name="account-changes", daemon=True).start()

    def stop(self) -> None:
        """Stop listening; rows are then looked up each time."""
        self._stopped.set()
        self._waker.wake()

    def _listen_until_stopped(self) -> None:
        while not self._stopped.is_set():
            try:
                changes = announcements(
                    self._database, (CHANNEL,), self._stopped, lambda: IDLE_WAIT_SECONDS, self._waker
                )
                for changed in changes:
                    if changed:
                        self._clear()
                        self._read_all()
                    self._heard, self._asks = time.monotonic(), False
            except (DatabaseUnavailable, DatabaseError) as error:
                log.warning("account_cache.disabled", reason=str(error).strip())
            self._heard, self._asks = -math.inf, False
            self._clear()
            self._stopped.wait(LISTEN_RETRY_SECONDS)

    def _read_all(self) -> None:
        with self._database.connection() as connection:
            self._valid = frozenset(bytes(row[0]) for row in query(connection, _VALID))
            for each in self._readers:
                each(connection)

    def _clear(self) -> None:
        self._unknown = {}
        for cache in (self._keys, self._bots, self._bots_by_id):
            cache.clear()
        for action in self._on_change:
            action()
