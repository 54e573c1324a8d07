"""Webhooks, stored as they came: those that arrive together share one INSERT and one commit, and are answered after it.

Nothing of a webhook is read here; `services.inbox` applies it afterwards.
"""

import threading
from concurrent.futures import Future
from dataclasses import dataclass, field

import psycopg2
import structlog

from services.store import Database, DatabaseError, DatabaseUnavailable, Statement, run

#: Bytes of bodies that share one commit, at most, unless one is larger.
BATCH_BYTES = 4 << 20
#: Seconds that a webhook waits for its commit; a frozen server would hold its sender for ever.
PATIENCE = 10.0

# `placed` is read twice, so its rows are the same for both.
_STORE = Statement(
    "store_webhooks",
    """
WITH placed AS (
    SELECT g.n, g.body, c.id AS bot_id, g.company IS NULL OR c.id IS NOT NULL AS known
    FROM unnest(%(companies)s, %(phones)s, %(bodies)s)
        WITH ORDINALITY AS g (company, phone, body, n)
    LEFT JOIN phone_configs c ON c.company_id = g.company AND c.phone_index = g.phone
        AND c.process_name = %(process)s
), stored AS (
    INSERT INTO webhook_inbox (process_name, bot_id, body) SELECT %(process)s, bot_id, body FROM placed
    WHERE known ORDER BY n
)
SELECT known FROM placed ORDER BY n""",
    process="text", companies="text[]", phones="int[]", bodies="bytea[]",
)  # fmt: skip

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class BotName:
    """A bot as addresses name it."""

    company_id: str
    phone_index: int


@dataclass(frozen=True, slots=True)
class _Letter:
    body: bytes
    bot: BotName | None
    stored: "Future[bool]" = field(default_factory=Future)


class Letterbox:
    """Stores one channel's webhooks. One thread commits; while it does, the next batch gathers."""

    def __init__(self, process: str, database: Database, patience: float = PATIENCE) -> None:
        """Connects with the first webhook. `patience`: seconds that one waits for its commit."""
        self._process, self._database, self._patience = process, database, patience
        self._waiting: list[_Letter] = []
        self._lock = threading.Lock()
        self._kick = threading.Event()
        self._thread: threading.Thread | None = None

    def put(self, body: bytes, bot: BotName | None = None) -> bool:
        """Store a webhook; it is durable on return. False where there is no such bot: then it is not stored.

        `bot`: the one whose own secret came with it; None where it may speak of every number. Raises
        `DatabaseUnavailable` where it was not committed in time; it may have been all the same, and come twice.
        """
        letter = _Letter(body, bot)
        with self._lock:
            self._waiting.append(letter)
            if self._thread is None:
                self._thread = threading.Thread(target=self._commit_on, name="letterbox", daemon=True)
                self._thread.start()
        self._kick.set()
        try:
            return letter.stored.result(self._patience)
        except TimeoutError:
            self._take_back(letter)
            raise DatabaseUnavailable(f"PostgreSQL did not answer within {self._patience:g} s") from None

    def _take_back(self, letter: _Letter) -> None:
        """A frozen server must not make the process grow."""
        with self._lock:
            self._waiting = [each for each in self._waiting if each is not letter]

    def _commit_on(self) -> None:
        while True:
            self._kick.wait()
            self._kick.clear()
            while batch := self._next():
                self._commit(batch)

    def _next(self) -> list[_Letter]:
        with self._lock:
            size = count = 0
            for letter in self._waiting:
                size += len(letter.body)
                if count and size > BATCH_BYTES:
                    break
                count += 1
            batch, self._waiting = self._waiting[:count], self._waiting[count:]
        return batch

    def _commit(self, batch: list[_Letter]) -> None:
        try:
            known = self._store(batch)
        except Exception as error:
            if not isinstance(error, DatabaseUnavailable | DatabaseError):
                log.exception("webhooks could not be stored")
            for letter in batch:
                letter.stored.set_exception(error)
        else:
            for letter, there in zip(batch, known, strict=True):
                letter.stored.set_result(there)

    def _store(self, batch: list[_Letter]) -> list[bool]:
        values = {
            "process": self._process,
            "companies": [letter.bot and letter.bot.company_id for letter in batch],
            "phones": [letter.bot and letter.bot.phone_index for letter in batch],
            "bodies": [psycopg2.Binary(letter.body) for letter in batch],
        }
        with self._database.connection() as connection:
            return [known for (known,) in run(connection, (_STORE, values))]
