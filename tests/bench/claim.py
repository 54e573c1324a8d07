"""What a claim costs however much waits: services.outbox.store's own statements against a filled outbox."""

import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import psycopg2.extensions

from services.database.connection import Database
from services.message import Outgoing, Status
from services.outbox import accept, outcome_policy, store
from tests.bench.figures import CHATS, COMPANIES, percentile
from tests.bench.sides import Ours
from tests.bench.stage import Stage

BATCH = 64
HELD_CHAT = "15559999999"

Connection = psycopg2.extensions.connection

#: Chat c belongs to bot c % 20, as bots have consecutive ids in a fresh database.
_FILL = """
WITH filled AS (
    INSERT INTO outbox (bot_id, chat_id, message_id, company_id, phone_index, kind, payload)
    SELECT b.id, chat::text, gen_random_uuid(), b.company_id, 0, 'text', '{"message": "Good morning"}'
    FROM generate_series(0, %(messages)s - 1) n
    CROSS JOIN LATERAL (SELECT 15560000000 + n %% %(chats)s AS chat) c
    JOIN (SELECT id, company_id, row_number() OVER (ORDER BY id) - 1 AS place FROM phone_configs) b
      ON b.place = chat %% %(bots)s
    ORDER BY n RETURNING bot_id, chat_id
)
INSERT INTO lane (bot_id, chat_id, pending)
SELECT bot_id, chat_id, count(*) FROM filled GROUP BY bot_id, chat_id"""

#: One chat whose oldest message waits for its retry, with everything behind it.
_HOLD = """
WITH held AS (
    INSERT INTO outbox (bot_id, chat_id, message_id, company_id, phone_index, kind, payload)
    SELECT b.id, %(chat)s, gen_random_uuid(), b.company_id, 0, 'text', '{"message": "held"}'
    FROM (SELECT id, company_id FROM phone_configs ORDER BY id LIMIT 1) b, generate_series(1, %(messages)s)
    RETURNING bot_id, chat_id
)
INSERT INTO lane (bot_id, chat_id, pending, due)
SELECT bot_id, chat_id, count(*), now() + interval '1 hour' FROM held GROUP BY bot_id, chat_id"""


@dataclass(frozen=True, slots=True)
class Filling:
    """A state of the outbox before the measurement."""

    title: str
    messages: int
    chats: int
    held: int = 0  # messages of one held chat, older than all others


FILLINGS = (
    Filling("nothing", 0, CHATS),
    Filling("100,000 in 1,000 chats", 100_000, CHATS),
    Filling("1,000,000 in 100,000 chats", 1_000_000, 100_000),
    Filling("200,000 of one held chat, then 1,000,000", 1_000_000, 100_000, 200_000),
)
QUICK_FILLINGS = (
    Filling("nothing", 0, CHATS),
    Filling("2,000 of one held chat, then 10,000", 10_000, CHATS, 2_000),
)


@dataclass(frozen=True, slots=True)
class Spread:
    """Times of one operation in milliseconds."""

    p50: float
    p99: float

    def __str__(self) -> str:
        return f"{self.p50:.1f} / {self.p99:.1f}"


@dataclass(frozen=True, slots=True)
class Claimed:
    """What the operations cost in one state, and how many messages were claimed."""

    state: str
    accept: Spread
    claim: Spread
    exchange: Spread
    claimed: int


def measure_claims(stage: Stage, rounds: int, fillings: tuple[Filling, ...]) -> list[Claimed]:
    """Fill the outbox in each way and measure `rounds` batches of each operation."""
    database_url = Ours(stage.folder).prepare(stage)
    with stage.connect(database_url) as connection:
        return [_measure_filling(connection, database_url, filling, rounds) for filling in fillings]


def _measure_filling(connection: Connection, database_url: str, filling: Filling, rounds: int) -> Claimed:
    _fill(connection, filling)
    database = Database(database_url)
    worker = database.connect()
    try:
        return _measure(worker, filling, rounds, _bots(connection))
    finally:
        worker.close()
        database.close()


def _fill(connection: Connection, filling: Filling) -> None:
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE outbox, lane")
        if filling.held:
            cursor.execute(_HOLD, {"chat": HELD_CHAT, "messages": filling.held})
        values = {"messages": filling.messages, "chats": filling.chats, "bots": COMPANIES}
        cursor.execute(_FILL, values)
        cursor.execute("VACUUM ANALYZE outbox, lane")
        cursor.execute("CHECKPOINT")


def _bots(connection: Connection) -> list[tuple[int, str]]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT id, company_id FROM phone_configs ORDER BY id")
        return cursor.fetchall()


def _accept(connection: Connection, entries: list[accept.Entry]) -> None:
    accept.insert(connection, entries)


def _measure(worker: Connection, filling: Filling, rounds: int, bots: list[tuple[int, str]]) -> Claimed:
    """Claims alone, then what a worker does all day: record the last and claim the next in one round trip."""
    outbox = store.Outbox("meta", "bench/meta-worker-1/boot", rate=1e6, lease=600)
    accepts, claims, exchanges = Timer(), Timer(), Timer()
    claimed = 0
    held: list[Outgoing] = []
    for n in range(rounds):
        for half in (2 * n, 2 * n + 1):
            accepts.time(_accept, worker, _entries(half, filling.chats, bots))
        outbox.record(worker, _results(outbox, held))
        held = claims.time(outbox.claim, worker, BATCH)
        claimed += len(held)
        held = exchanges.time(outbox.exchange, worker, _results(outbox, held), BATCH)
        claimed += len(held)
    return Claimed(filling.title, accepts.spread(), claims.spread(), exchanges.spread(), claimed)


class Timer:
    """Times calls."""

    def __init__(self) -> None:
        self._milliseconds: list[float] = []

    def time(self, call: Callable[..., Any], *arguments: Any) -> Any:
        """What the call returns."""
        started = time.perf_counter()
        result = call(*arguments)
        self._milliseconds.append((time.perf_counter() - started) * 1000)
        return result

    def spread(self) -> Spread:
        return Spread(percentile(self._milliseconds, 0.5), percentile(self._milliseconds, 0.99))


def _entries(turn: int, chats: int, bots: list[tuple[int, str]]) -> list[accept.Entry]:
    """A batch, spread over the same chats as the filling."""
    entries = []
    for n in range(turn * BATCH, (turn + 1) * BATCH):
        chat = 15560000000 + n * 7919 % chats
        bot_id, company = bots[chat % COMPANIES]
        payload = {"message": "Good morning"}
        entries.append(accept.Entry(str(uuid.uuid4()), "meta", bot_id, company, 0, str(chat), "text", payload))
    return entries


def _results(outbox: store.Outbox, held: list[Outgoing]) -> list[outcome_policy.Result]:
    return [
        outcome_policy.Result(m.bot_id, m.chat_id, m.id, outbox.worker, True, Status.SENT, provider_id=f"wamid.{m.id}")
        for m in held
    ]


def describe(claims: list[Claimed]) -> list[dict[str, Any]]:
    """The same as data."""
    return [asdict(one) for one in claims]
