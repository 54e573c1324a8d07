"""The webhook inbox: providers' webhooks are stored as they came, and applied afterwards.

Webhooks that arrive together share one INSERT and one commit, and are answered after it; nothing of them is read until
a worker applies them, each batch in one transaction. Duplicates and any order are harmless.

Locks are taken in the order of sql/004: statuses (outbox), arrivals (history, contacts, chats), then the feeds.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any

import psycopg2
import structlog
from psycopg2.extensions import TransactionRollbackError

from services.database.connection import (
    Connection,
    Database,
    DatabaseError,
    Statement,
    query,
    query_value,
    run,
    transaction,
)
from services.database.group_commit import Batch, GroupCommit
from services.events.payload_sql import digits
from services.inbox import changes, chats, messages, notices
from services.inbox.arrivals import Arrival, Place
from services.inbox.notices import PlacedNotice
from services.message import Call, Incoming, Notice, Renaming, Status, StatusUpdate, Update
from services.outbox.reports import NumberedEvent, Report, apply_reports, raise_events
from services.wakeups import Notifier

#: Webhooks that share one commit when they are stored, at most.
STORE_BATCH = 1000
#: Bytes of their bodies, unless a single one is larger.
STORE_BATCH_BYTES = 4 << 20
#: Seconds from a webhook's arrival to its commit; afterwards its sender is asked to send it again.
STORE_SECONDS = 10.0
#: Webhooks that are applied in one transaction, at most.
APPLY_BATCH = 100
#: One worker at a time applies a channel's webhooks, so that their events keep their order: "inbo" as a number.
APPLY_LOCK_ID = 0x696E626F

# `targets` is read twice, so its rows are the same for both.
_STORE = Statement(
    "store_webhooks",
    """
WITH targets AS (
    SELECT g.n, g.body, c.id AS bot_id, g.company IS NULL OR c.id IS NOT NULL AS known
    FROM unnest(%(companies)s, %(phones)s, %(bodies)s)
        WITH ORDINALITY AS g (company, phone, body, n)
    LEFT JOIN phone_configs c ON c.company_id = g.company AND c.phone_index = g.phone
        AND c.process_name = %(process)s
), stored AS (
    INSERT INTO webhook_inbox (process_name, bot_id, body) SELECT %(process)s, bot_id, body FROM targets
    WHERE known ORDER BY n
)
SELECT known FROM targets ORDER BY n""",
    process="text", companies="text[]", phones="int[]", bodies="bytea[]",
)  # fmt: skip

_UNPROCESSED = "process_name = %(process)s AND processed_at IS NULL AND (%(bot)s::int IS NULL OR bot_id = %(bot)s)"
IS_WAITING = f"SELECT EXISTS (SELECT FROM webhook_inbox WHERE {_UNPROCESSED})"
_LOCK = "SELECT pg_advisory_xact_lock(%s, hashtext(%s))"
_NEXT = f"""
SELECT id, body, bot_id FROM webhook_inbox WHERE {_UNPROCESSED}
ORDER BY id LIMIT %(limit)s FOR UPDATE SKIP LOCKED"""
_FINISH = "UPDATE webhook_inbox SET processed_at = now(), error = %s WHERE id = ANY(%s)"
_BOTS = f"""
SELECT id, company_id, phone_index, process_name,
       COALESCE({digits("display_phone_number")}, (SELECT own_number FROM wa_session WHERE bot_id = id)),
       meta_phone_number_id
FROM phone_configs
WHERE process_name = %s AND (meta_phone_number_id = ANY(%s) OR id = ANY(%s))
ORDER BY status = 'active' DESC, id"""

_ORDER = list(Status).index  # in which a message moves

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class BotName:
    """A bot as addresses name it."""

    company_id: str
    phone_index: int


@dataclass(frozen=True, slots=True)
class _Webhook:
    body: bytes
    bot: BotName | None


class WebhookWriter:
    """Stores one channel's webhooks."""

    def __init__(self, process: str, database: Database, notifier: Notifier, seconds: float = STORE_SECONDS) -> None:
        """Connects with the first webhook. `seconds`: from a webhook's arrival to its commit."""
        self._process = process
        self._database = database
        self._notifier = notifier  # wakes a worker after each commit
        self._commits: GroupCommit[_Webhook, bool] = GroupCommit(
            "webhooks", self._store, seconds,
            max_items=STORE_BATCH, max_bytes=STORE_BATCH_BYTES, size=lambda webhook: len(webhook.body),
        )  # fmt: skip

    def put(self, body: bytes, bot: BotName | None = None) -> bool:
        """Store a webhook; it is durable on return. False if there is no such bot: then it is not stored.

        `bot`: the one whose own secret came with it; None if it may speak of every number. Raises
        `DatabaseUnavailable` if it was not committed in time. It may have been stored all the same, and come twice.
        """
        return self._commits.submit(_Webhook(body, bot)).result()  # which ends in time

    def _store(self, batch: Batch[_Webhook]) -> Sequence[bool]:
        webhooks = batch.items
        values = {
            "process": self._process,
            "companies": [webhook.bot and webhook.bot.company_id for webhook in webhooks],
            "phones": [webhook.bot and webhook.bot.phone_index for webhook in webhooks],
            "bodies": [psycopg2.Binary(webhook.body) for webhook in webhooks],
        }
        with self._database.connection() as connection:
            stored = [known for (known,) in run(connection, (_STORE, values))]
        self._notifier.notify(f"{self._process}-webhooks")
        return stored


@dataclass(slots=True)
class _Updates:
    """The updates of some webhooks, in their order; each with the bot whose secret came with it, if one did."""

    updates: list[tuple[Update, int | None]] = field(default_factory=list)
    applied: list[int] = field(default_factory=list)  # webhooks
    rejected: dict[int, str] = field(default_factory=dict)  # webhook → reason
    source: list[int] = field(default_factory=list)  # the webhook of each update

    def add(self, webhook: int, bot_id: int | None, updates: list[Update]) -> None:
        self.applied.append(webhook)
        self.updates += [(update, bot_id) for update in updates]
        self.source += [webhook] * len(updates)


class Inbox:
    """The stored webhooks of one channel, or the stored events of one bot's browser."""

    def __init__(
        self, process: str, parse: Callable[[bytes], list[Update]], media_base: str = "", bot_id: int | None = None
    ) -> None:
        """`parse` is the channel's. If it raises ValueError, the webhook becomes a dead letter with that reason.

        `media_base`: the beginning of links to our copies of media. `bot_id`: the bot to which it is limited.
        """
        self._process, self._parse, self._media_base = process, parse, media_base
        self._filter = {"process": process, "bot": bot_id}
        self._lock_name = process if bot_id is None else f"{process}/{bot_id}"
        self._applying = threading.Lock()
        self.received = 0  # messages of people that were applied, since the start
        self._on_received: Callable[[], None] = lambda: None

    def on_received(self, action: Callable[[], None]) -> None:
        """Run this, on any thread, after messages of people were stored, which may have files to download."""
        self._on_received = action

    @property
    def is_applying(self) -> bool:
        """Whether a thread applies webhooks."""
        return self._applying.locked()

    def apply_all(self, connection: Connection) -> int:
        """Apply all stored webhooks; returns how many there were."""
        total = 0
        with self._applying:
            while query_value(connection, IS_WAITING, self._filter):
                applied = self._apply_batch(connection, APPLY_BATCH)
                if not applied:
                    break
                total += applied
            if query_value(connection, changes.IS_ANY_WAITING, self._filter):
                self._apply_overdue(connection)
        return total

    def store_and_apply(self, connection: Connection, store: Callable[[], None]) -> bool:
        """Store webhooks and apply them in the same transaction, with those that were stored before.

        `store` inserts them over this connection. Returns whether none is left. If they cannot be applied just now,
        they are only stored, and `apply_all` applies them.
        """
        if self._applying.acquire(blocking=False):
            try:
                return self._store_and_apply(connection, store)
            except Exception as error:
                if connection.closed:
                    raise
                log.warning("webhooks.not_applied", reason=_reason(error))
            finally:
                self._applying.release()
        store()
        return False

    def _store_and_apply(self, connection: Connection, store: Callable[[], None]) -> bool:
        with transaction(connection) as cursor:
            cursor.execute(_LOCK, (APPLY_LOCK_ID, self._lock_name))
            store()
            webhooks = self._next(cursor, APPLY_BATCH)
            received = self._apply(connection, webhooks)
        self.received += received
        return len(webhooks) < APPLY_BATCH

    def _next(self, cursor: Any, limit: int) -> list[tuple[int, bytes, int | None]]:
        """The oldest webhooks that are not applied, locked: their ids and bodies, and the one bot each may be about."""
        cursor.execute(_NEXT, self._filter | {"limit": limit})
        return [(number, bytes(body), bot_id) for number, body, bot_id in cursor.fetchall()]

    def _apply_batch(self, connection: Connection, limit: int) -> int:
        """Apply a batch; one that cannot be applied is applied webhook by webhook."""
        webhooks: list[tuple[int, bytes, int | None]] = []
        received = 0
        try:
            with transaction(connection) as cursor:
                cursor.execute(_LOCK, (APPLY_LOCK_ID, self._lock_name))
                webhooks = self._next(cursor, limit)
                cursor.execute("SAVEPOINT untouched")
                try:
                    received = self._apply(connection, webhooks)
                except Exception as error:
                    if len(webhooks) != 1 or isinstance(error, TransactionRollbackError):
                        raise  # a deadlock, say: nothing is wrong with the webhook
                    cursor.execute("ROLLBACK TO untouched")  # raises if the connection broke
                    self._reject(connection, webhooks[0][0], _reason(error))
        except Exception as error:
            if len(webhooks) < 2 or connection.closed:
                raise
            log.warning("webhook_batch.failed", webhooks=len(webhooks), reason=_reason(error))
            return sum(self._apply_batch(connection, 1) for _ in webhooks)
        self.received += received
        if received:
            self._on_received()
        return len(webhooks)

    def _apply(self, connection: Connection, webhooks: list[tuple[int, bytes, int | None]]) -> int:
        """Apply webhooks; returns how many messages of people they had."""
        batch = _Updates()
        for number, body, bot_id in webhooks:
            try:
                batch.add(number, bot_id, self._parse(body))
            except ValueError as error:
                batch.rejected[number] = _reason(error)
        self._write(connection, batch)
        for number, reason in batch.rejected.items():
            self._reject(connection, number, reason)
        query(connection, _FINISH, (None, [number for number in batch.applied if number not in batch.rejected]))
        arrived = zip(batch.updates, batch.source, strict=True)
        return sum(
            isinstance(update, Incoming) and not (update.from_me or update.backfill) and source not in batch.rejected
            for (update, _), source in arrived
        )

    def _write(self, connection: Connection, batch: _Updates) -> None:
        events: list[NumberedEvent] = []
        places = self._places(connection, batch)
        if reports := list(_reports(batch, places)):
            events += apply_reports(connection, self._process, self._media_base, reports)
        for kind, group in groupby(_arrivals(batch, places), key=lambda each: type(each[1])):
            events += self._record(connection, kind, list(group))
        placed = [PlacedNotice(n, u, bot) for n, (u, bot) in enumerate(batch.updates) if isinstance(u, Notice)]
        if placed:
            events += notices.record(connection, self._process, placed)
        raise_events(connection, events)
        if placed:
            notices.apply_effects(connection, self._process, placed)

    def _record(self, connection: Connection, kind: type[Update], arrivals: list[Any]) -> list[NumberedEvent]:
        """Store arrivals of one type; returns their events."""
        if kind is Renaming:
            return chats.follow(connection, arrivals)
        if kind is Call:
            return messages.record_calls(connection, arrivals)
        if kind is not Incoming:
            return changes.record(connection, arrivals)
        events = chats.follow_senders(connection, arrivals)
        events += messages.record(connection, self._media_base, arrivals)
        return events + changes.apply_waiting(connection, self._filter, arrivals)

    def _apply_overdue(self, connection: Connection) -> None:
        """Apply the changes that waited for messages which the outbox has stored."""
        with transaction(connection) as cursor:
            cursor.execute(_LOCK, (APPLY_LOCK_ID, self._lock_name))
            raise_events(connection, changes.apply_overdue(connection, self._filter))

    def _places(self, connection: Connection, batch: _Updates) -> "_Places":
        addressed = [(u.number, bot) for u, bot in batch.updates if not isinstance(u, Notice)]
        if not addressed:
            return _Places([])
        numbers, bots = {number for number, _ in addressed}, {bot for _, bot in addressed if bot is not None}
        return _Places(query(connection, _BOTS, (self._process, list(numbers), list(bots))))

    def _reject(self, connection: Connection, number: int, reason: str) -> None:
        query(connection, _FINISH, (reason, [number]))
        log.warning("webhook.rejected", webhook=number, reason=reason, see="bisnesctl dead-letters list")


_Source = tuple[int | None, str]  # the bot whose secret came with a webhook, and the number that it names


def _reports(batch: _Updates, places: "_Places") -> Iterator[Report]:
    """The reports with the companies for which they speak; one that speaks for none changes nothing."""
    for n, (update, bot_id) in enumerate(batch.updates):
        if not isinstance(update, StatusUpdate):
            continue
        if bot_id is None:
            if companies := places.companies(update.number):
                yield Report(n, update, companies)
        elif place := places.of(n, update.number, bot_id):
            yield Report(n, update, [place.company_id], bot_id, place.phone_index)


def _arrivals(batch: _Updates, places: "_Places") -> Iterator[tuple[Place, Arrival]]:
    """The arrivals with their places; the webhook of one that has no place is rejected."""
    latest: dict[tuple[_Source, str], Status] = {}  # by source and the provider's id
    for update, bot_id in batch.updates:
        if isinstance(update, StatusUpdate):
            name = (bot_id, update.number), update.provider_id
            latest[name] = max(update.status, latest.get(name, update.status), key=_ORDER)
    numbers: dict[tuple[int, str], str] = {}  # by bot and user id, as this batch contains them
    for n, (update, bot_id) in enumerate(batch.updates):
        if isinstance(update, StatusUpdate | Notice):
            continue
        place = places.of(n, update.number, bot_id)
        if place is None:
            batch.rejected.setdefault(batch.source[n], places.missing(update.number, bot_id))
            continue
        update = _with_number(update, place, numbers)
        # Messages sent from the phone are stored with their latest status, because reports may arrive first.
        if isinstance(update, Incoming) and update.from_me:
            status = latest.get(((bot_id, update.number), update.provider_id), update.status)
            update = replace(update, status=status)
        yield place, update


def _with_number(update: Arrival, place: Place, numbers: dict[tuple[int, str], str]) -> Arrival:
    """The arrival with the number of its sender, if an earlier one of the batch contains it."""
    if isinstance(update, Renaming):
        numbers.clear()  # the database knows better from then on
        return update
    sender = update.sender
    if sender.user_id and sender.chat_id:
        numbers[place.bot_id, sender.user_id] = sender.chat_id
    elif sender.user_id and (number := numbers.get((place.bot_id, sender.user_id))):
        return replace(update, sender=replace(sender, chat_id=number))
    return update


class _Places:
    """The bots that the webhooks name."""

    def __init__(self, rows: list[tuple[Any, ...]]) -> None:
        """`rows`: the columns of `_BOTS`."""
        self._by_id = {row[0]: row for row in rows}
        self._by_number = {row[5]: row for row in reversed(rows)}  # the first of several stays
        self._companies: dict[str | None, list[str]] = {}
        for row in rows:
            self._companies.setdefault(row[5], []).append(row[1])

    def of(self, n: int, number: str, bot_id: int | None) -> Place | None:
        """The bot of an arrival for a number. A bot's own secret, or browser, speaks for that bot alone."""
        row = self._by_number.get(number) if bot_id is None else self._by_id.get(bot_id)
        if row is None or (bot_id is not None and number and row[5] not in (None, number)):
            return None
        return Place(n, *row[:5])

    def companies(self, number: str) -> list[str]:
        """The companies that have the number."""
        return self._companies.get(number, [])

    def missing(self, number: str, bot_id: int | None) -> str:
        """The reason why there is no place for an arrival."""
        if bot_id is None:
            return f"no bot has the number id {number}: add it (bisnesctl bots add), then bisnesctl dead-letters retry"
        return f"it names the number id {number}, which is not that of the bot whose secret it came with"


def _reason(error: Exception) -> str:
    """The reason of a failure, as it can be stored; a fault of our own code is logged with its place."""
    if not isinstance(error, ValueError | DatabaseError):
        log.error("webhook.not_applied", exc_info=error)
    return str(error).replace("\0", "").encode(errors="replace").decode().strip() or type(error).__name__
