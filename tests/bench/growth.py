"""Measures what a message costs as a deployment grows: bots, queued messages, stored webhooks, companies with webhooks.

The statements of the services run against a filled database: a message is stored, claimed, recorded as sent, and its
provider reports that it was delivered. Processor time is that of this process and of PostgreSQL's.
"""

import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson
import psycopg2.extensions

from services.connectors.meta.translation import incoming
from services.database.connection import Connection as ServiceConnection
from services.database.connection import Database, query
from services.inbox.webhook_inbox import Inbox
from services.message import Payload, Status
from services.outbox import accept
from services.outbox.outcome_policy import Result
from services.outbox.store import Outbox
from tests.bench.figures import FIRST_PHONE_NUMBER_ID, percentile
from tests.bench.sides import Ours
from tests.bench.stage import Stage

#: Messages of a batch in the second measurement; in the first, each comes alone.
BATCH = 64
#: Chats of the measured messages.
CHATS = 1000
#: Batches that are not counted: plans are made and caches filled.
WARM_UP = 10

Connection = psycopg2.extensions.connection


@dataclass(frozen=True, slots=True)
class State:
    """A size of a deployment."""

    title: str
    bots: int = 20  # of a company each
    queued: int = 0  # messages that wait already, in chats of ten
    stored: int = 0  # webhooks that were applied and are kept
    subscribed: int = 0  # companies with a webhook


STATES = (
    State("1 bot", bots=1),
    State("100 bots", bots=100),
    State("10,000 bots", bots=10_000),
    State("1,000,000 messages wait", queued=1_000_000),
    State("100,000 stored webhooks", stored=100_000),
    State("1 company with a webhook", bots=1, subscribed=1),
    State("1,000 companies with a webhook each", bots=1000, subscribed=1000),
)
QUICK_STATES = (
    State("1 bot", bots=1),
    State("1,000 bots", bots=1000),
    State("100 companies with a webhook each", bots=100, subscribed=100),
)

_EMPTY = """
TRUNCATE phone_configs, bot_pace, lane, outbox, messages, contacts, webhook_inbox, webhook, webhook_delivery,
    webhook_lane, event, event_feed CASCADE"""
_BOTS = """
INSERT INTO phone_configs (company_id, phone_index, connection_type, meta_phone_number_id, status)
SELECT lpad(n::text, 5, '0'), 0, 'meta_direct', (%(first)s + n)::text, 'active'
FROM generate_series(0, %(bots)s - 1) n"""
_QUEUE = """
WITH filled AS (
    INSERT INTO outbox (bot_id, chat_id, message_id, company_id, phone_index, kind, payload)
    SELECT b.id, (15560000000 + n / 10)::text, gen_random_uuid(), b.company_id, 0, 'text', '{"message": "Good morning"}'
    FROM generate_series(0, %(queued)s - 1) n
    JOIN (SELECT id, company_id, row_number() OVER (ORDER BY id) - 1 AS place FROM phone_configs) b
      ON b.place = n / 10 %% %(bots)s
    RETURNING bot_id, chat_id
)
INSERT INTO lane (bot_id, chat_id, pending, due)
SELECT bot_id, chat_id, count(*), now() + interval '1 day' FROM filled GROUP BY bot_id, chat_id"""
_STORE = """
INSERT INTO webhook_inbox (process_name, body, processed_at)
SELECT 'meta', convert_to('{"object": "whatsapp_business_account", "entry": []}', 'UTF8'), now()
FROM generate_series(1, %(stored)s)"""
_SUBSCRIBE = """
WITH companies AS (SELECT company_id FROM phone_configs ORDER BY id LIMIT %(subscribed)s), fed AS (
    INSERT INTO event_feed (company_id) SELECT company_id FROM companies
)
INSERT INTO webhook (id, company_id, url, events, secret_encrypted)
SELECT gen_random_uuid(), company_id, 'http://127.0.0.1:9/', '{*}', '' FROM companies"""


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one message, in milliseconds."""

    processor: float
    latency: float  # median of a batch, from the start of its INSERT to its applied report

    def __str__(self) -> str:
        return f"{self.processor:.2f} / {self.latency:.1f}"


@dataclass(frozen=True, slots=True)
class Grown:
    """The cost of a message in one state, if it comes alone and in a batch."""

    state: str
    alone: Cost
    together: Cost


def measure_growth(stage: Stage, rounds: int, states: tuple[State, ...]) -> list[Grown]:
    """Fill the database in each way and send `rounds` batches of each size."""
    database_url = Ours(stage.folder).prepare(stage)
    with stage.connect(database_url) as connection:
        return [_measure_state(connection, database_url, state, rounds) for state in states]


def _measure_state(connection: Connection, database_url: str, state: State, rounds: int) -> Grown:
    _fill(connection, state)
    with connection.cursor() as cursor:
        cursor.execute("SELECT id, company_id, meta_phone_number_id FROM phone_configs ORDER BY id")
        path = _Path(Database(database_url), cursor.fetchall())
    try:
        return Grown(state.title, path.cost(1, rounds), path.cost(BATCH, rounds))
    finally:
        path.close()


def _fill(connection: Connection, state: State) -> None:
    values = asdict(state) | {"first": FIRST_PHONE_NUMBER_ID}
    with connection.cursor() as cursor:
        cursor.execute(_EMPTY)
        for statement in (_BOTS, _QUEUE, _STORE, _SUBSCRIBE):
            cursor.execute(statement, values)
        for statement in ("VACUUM ANALYZE", "CHECKPOINT"):
            cursor.execute(statement)


class _Path:
    """The path of messages through the database."""

    def __init__(self, database: Database, bots: list[tuple[int, str, str]]) -> None:
        self._database, self._bots = database, bots
        self._numbers = {bot_id: number for bot_id, _, number in bots}
        self._writer, self._worker = database.connect(by_key=False), database.connect()
        self._outbox = Outbox("meta", "bench/meta-worker-1/boot", rate=1e6, lease=600)
        self._inbox = Inbox("meta", incoming.parse, "")
        self._sent = 0

    def cost(self, size: int, rounds: int) -> Cost:
        """Of a message in batches of this size."""
        for _ in range(WARM_UP):
            self._send(size)
        latencies: list[float] = []
        before = self._processor_seconds()
        for _ in range(rounds):
            began = time.perf_counter()
            self._send(size)
            latencies.append((time.perf_counter() - began) * 1000)
        spent = (self._processor_seconds() - before) * 1000
        return Cost(spent / rounds / size, percentile(latencies, 0.5))

    def _send(self, size: int) -> None:
        entries = [self._entry() for _ in range(size)]
        accept.insert(self._writer, entries)
        claimed = self._outbox.claim(self._worker, size)
        if len(claimed) != size:
            raise RuntimeError(f"{len(claimed)} of {size} messages could be claimed")
        self._outbox.record(
            self._worker,
            [
                Result(
                    each.bot_id, each.chat_id, each.id, self._outbox.worker, True, Status.SENT,
                    provider_id=f"wamid.{each.message_id}", kind=each.kind,
                )
                for each in claimed
            ],
        )  # fmt: skip
        body = self._report(entries)
        query(self._writer, "INSERT INTO webhook_inbox (process_name, body) VALUES ('meta', %s)", (body,))
        self._inbox.apply_all(self._worker)

    def _entry(self) -> accept.Entry:
        number, self._sent = self._sent, self._sent + 1
        chat = number % CHATS
        bot_id, company, _ = self._bots[chat * 7919 % len(self._bots)]
        payload: Payload = {"message": "Good morning"}
        return accept.Entry(str(uuid.uuid4()), "meta", bot_id, company, 0, str(15550000000 + chat), "text", payload)

    def _report(self, entries: list[accept.Entry]) -> bytes:
        """A webhook that says that the messages were delivered."""
        return orjson.dumps(
            {
                "object": "whatsapp_business_account",
                "entry": [{"id": "1", "changes": [_change(each, self._numbers[each.bot_id]) for each in entries]}],
            }
        )

    def _processor_seconds(self) -> float:
        return time.process_time() + sum(_processor_seconds(each) for each in (self._writer, self._worker))

    def close(self) -> None:
        """Disconnect."""
        self._writer.close()
        self._worker.close()
        self._database.close()


def _change(entry: accept.Entry, number: str) -> dict[str, Any]:
    status = {
        "id": f"wamid.{entry.message_id}",
        "status": "delivered",
        "timestamp": str(int(time.time())),
        "recipient_id": entry.chat_id,
        "biz_opaque_callback_data": entry.message_id,
    }
    metadata = {"display_phone_number": number, "phone_number_id": number}
    value = {"messaging_product": "whatsapp", "metadata": metadata, "statuses": [status]}
    return {"field": "messages", "value": value}


def _processor_seconds(connection: ServiceConnection) -> float:
    """Of the server's process of a connection."""
    nanoseconds = Path(f"/proc/{connection.server_pid}/schedstat").read_text().split()[0]
    return int(nanoseconds) / 1e9


def describe(found: list[Grown]) -> list[dict[str, Any]]:
    """The same as data."""
    return [asdict(each) for each in found]


#: The cells of a state in the table, by the titles of their columns.
COLUMNS: dict[str, Callable[[Grown], str]] = {
    "the deployment has": lambda each: each.state,
    "one message at a time": lambda each: str(each.alone),
    f"{BATCH} together": lambda each: str(each.together),
}
