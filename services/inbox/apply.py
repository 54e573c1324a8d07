"""Webhooks that were stored as they came: parsed and applied afterwards, each batch in one transaction.

Locks are taken in the order of sql/004: statuses (outbox), what came in (history, contacts, chats), then the feeds.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import groupby

import orjson
import structlog
from psycopg2.extensions import TransactionRollbackError

from services.database.connection import Connection, DatabaseError
from services.inbox import messages, notices, statuses
from services.inbox.messages import Arrival, Place
from services.inbox.notices import Placed
from services.inbox.statuses import Told
from services.message import Incoming, Notice, Status, StatusUpdate, Update
from services.outbox import store

#: Webhooks applied in one transaction, at most.
BATCH = 100
#: A channel's webhooks are applied by one worker at a time, so that what they tell keeps its order: "inbo" as a number.
LOCK = 0x696E626F

_OF_US = "process_name = %(process)s AND processed_at IS NULL AND (%(bot)s::int IS NULL OR bot_id = %(bot)s)"
_WAITING = f"SELECT EXISTS (SELECT FROM webhook_inbox WHERE {_OF_US})"
_OURS = "SELECT pg_advisory_xact_lock(%s, hashtext(%s))"

_TAKE = f"""
SELECT id, body, bot_id FROM webhook_inbox WHERE {_OF_US}
ORDER BY id LIMIT %(limit)s FOR UPDATE SKIP LOCKED"""
_FINISH = "UPDATE webhook_inbox SET processed_at = now(), error = %s WHERE id = ANY(%s)"
_BOTS = """
SELECT id, company_id, phone_index, process_name,
       COALESCE(display_phone_number, (SELECT own_number FROM wa_session WHERE bot_id = id)), meta_phone_number_id
FROM phone_configs
WHERE process_name = %s AND (meta_phone_number_id = ANY(%s) OR id = ANY(%s))
ORDER BY status = 'active' DESC, id"""

_ORDER = list(Status).index  # in which a message moves

log = structlog.get_logger()


_Taken = tuple[int, bytes, int | None]  # webhook, body, the one bot that it may be about


@dataclass(slots=True)
class _Batch:
    """The updates of some webhooks, in their order; each with the bot whose secret came with it, if one did."""

    updates: list[tuple[Update, int | None]] = field(default_factory=list)
    good: list[int] = field(default_factory=list)
    aside: dict[int, str] = field(default_factory=dict)  # webhook → reason
    source: list[int] = field(default_factory=list)  # the webhook of each update

    def add(self, webhook: int, bot_id: int | None, updates: list[Update]) -> None:
        self.good.append(webhook)
        self.updates += [(update, bot_id) for update in updates]
        self.source += [webhook] * len(updates)

    def set_aside(self, webhook: int, reason: str) -> None:
        self.aside.setdefault(webhook, reason)


class Inbox:
    """The stored webhooks of one channel, or the stored events of one bot's browser."""

    def __init__(
        self, process: str, parse: Callable[[bytes], list[Update]], media_base: str = "", bot_id: int | None = None
    ) -> None:
        """`parse` is the connector's; its ValueError sets a webhook aside, with the reason, for an operator to see.

        `media_base`: what the links to our copies of media begin with. `bot_id`: the bot to which it is limited.
        """
        self._process, self._parse, self._media_base = process, parse, media_base
        self._whose = {"process": process, "bot": bot_id}
        self._name = process if bot_id is None else f"{process}/{bot_id}"

    def work_off(self, connection: Connection) -> int:
        """Apply all stored webhooks; returns how many there were."""
        total = 0
        while self._waiting(connection) and (taken := self._apply_batch(connection, BATCH)):
            total += taken
        return total

    def _waiting(self, connection: Connection) -> bool:
        with connection.cursor() as cursor:
            cursor.execute(_WAITING, self._whose)
            return bool((cursor.fetchone() or (False,))[0])

    def _apply_batch(self, connection: Connection, limit: int) -> int:
        _execute(connection, "BEGIN")
        _execute(connection, _OURS, (LOCK, self._name))
        taken = self._take(connection, limit)
        _execute(connection, "SAVEPOINT untouched")
        try:
            self._apply(connection, taken)
        except Exception as error:
            alone = len(taken) == 1
            _execute(connection, "ROLLBACK TO untouched" if alone else "ROLLBACK")  # raises where the connection broke
            if not alone:
                log.warning("a batch of webhooks could not be applied, trying them one by one", reason=_reason(error))
                return sum(self._apply_batch(connection, 1) for _ in taken)
            if isinstance(error, TransactionRollbackError):  # a deadlock, say: nothing is wrong with the webhook
                _execute(connection, "ROLLBACK")
                raise
            self._set_aside(connection, taken[0][0], _reason(error))
        _execute(connection, "COMMIT")
        return len(taken)

    def _apply(self, connection: Connection, taken: list[_Taken]) -> None:
        batch = _Batch()
        for number, body, bot_id in taken:
            try:
                batch.add(number, bot_id, self._parse(body))
            except ValueError as error:
                batch.set_aside(number, _reason(error))
        self._write(connection, batch)
        for number, reason in batch.aside.items():
            self._set_aside(connection, number, reason)
        _execute(connection, _FINISH, (None, [number for number in batch.good if number not in batch.aside]))

    def _write(self, connection: Connection, batch: _Batch) -> None:
        told: list[Told] = []
        places = self._places(connection, batch)
        if reports := list(_reports(batch, places)):
            told += statuses.apply(connection, self._process, self._media_base, reports)
        for _, group in groupby(self._arrivals(batch, places), key=lambda each: type(each[1])):
            told += messages.record(connection, self._media_base, list(group))
        seen = [Placed(n, u, bot) for n, (u, bot) in enumerate(batch.updates) if isinstance(u, Notice)]
        if seen:
            told += notices.record(connection, self._process, seen)
        if told:
            events = [orjson.Fragment(event) for _, event in sorted(told, key=lambda each: each[0])]
            _execute(connection, "SELECT raise_events(%s)", (orjson.dumps(events).decode(),))
        if ended := notices.holds(connection, self._process, seen):
            store.hold(connection, ended)

    def _arrivals(self, batch: _Batch, places: "_Places") -> Iterator[tuple[Place, Arrival]]:
        reported = _reported(batch)
        for n, (update, bot_id) in enumerate(batch.updates):
            if isinstance(update, StatusUpdate | Notice):
                continue
            place = places.of(n, update.number, bot_id)
            if place is not None:
                yield place, _as_reported(update, bot_id, reported)
            else:
                batch.set_aside(batch.source[n], places.missing(update.number, bot_id))

    def _places(self, connection: Connection, batch: _Batch) -> "_Places":
        coming = [(u.number, bot) for u, bot in batch.updates if not isinstance(u, Notice)]
        if not coming:
            return _Places([])
        numbers, bots = {number for number, _ in coming}, {bot for _, bot in coming if bot is not None}
        with connection.cursor() as cursor:
            cursor.execute(_BOTS, (self._process, list(numbers), list(bots)))
            return _Places(cursor.fetchall())

    def _take(self, connection: Connection, limit: int) -> list[_Taken]:
        with connection.cursor() as cursor:
            cursor.execute(_TAKE, self._whose | {"limit": limit})
            return [(number, bytes(body), bot_id) for number, body, bot_id in cursor.fetchall()]

    def _set_aside(self, connection: Connection, number: int, reason: str) -> None:
        _execute(connection, _FINISH, (reason, [number]))
        log.warning("a webhook was set aside: see `bisnesctl dead-letters list`", webhook=number, reason=reason)


_Speaker = tuple[int | None, str]  # the bot whose secret came with a webhook, and the number that it names


def _reports(batch: _Batch, places: "_Places") -> Iterator[statuses.Placed]:
    """The reports with those for whom they speak; what speaks for nobody changes nothing."""
    for n, (update, bot_id) in enumerate(batch.updates):
        if not isinstance(update, StatusUpdate):
            continue
        if bot_id is None:
            if companies := places.companies(update.number):
                yield statuses.Placed(n, update, companies)
        elif place := places.of(n, update.number, bot_id):
            yield statuses.Placed(n, update, [place.company_id], bot_id, place.phone_index)


def _reported(batch: _Batch) -> dict[tuple[_Speaker, str], Status]:
    """How far the messages have come that the batch reports of, by who says so and the provider's id."""
    found: dict[tuple[_Speaker, str], Status] = {}
    for update, bot_id in batch.updates:
        if isinstance(update, StatusUpdate):
            name = (bot_id, update.number), update.provider_id
            found[name] = max(update.status, found.get(name, update.status), key=_ORDER)
    return found


def _as_reported(arrival: Arrival, bot_id: int | None, reported: dict[tuple[_Speaker, str], Status]) -> Arrival:
    """What the phone sent itself is written down as it is now: reports of it came before there was a row for them."""
    if isinstance(arrival, Incoming) and arrival.from_me:
        status = reported.get(((bot_id, arrival.number), arrival.provider_id))
        return arrival if status is None else replace(arrival, status=status)
    return arrival


class _Places:
    """The bots that the webhooks speak of."""

    def __init__(self, rows: list[tuple[int, str, int, str, str | None, str | None]]) -> None:
        self._by_id = {row[0]: row for row in rows}
        self._by_number = {row[5]: row for row in reversed(rows)}  # the first of several stays
        self._companies: dict[str | None, list[str]] = {}
        for row in rows:
            self._companies.setdefault(row[5], []).append(row[1])

    def of(self, n: int, number: str, bot_id: int | None) -> Place | None:
        """Where an arrival for a number belongs. A bot's own secret, or browser, speaks for that bot alone."""
        row = self._by_number.get(number) if bot_id is None else self._by_id.get(bot_id)
        if row is None or (bot_id is not None and number and row[5] not in (None, number)):
            return None
        return Place(n, *row[:5])

    def companies(self, number: str) -> list[str]:
        """Those that have the number."""
        return self._companies.get(number, [])

    def missing(self, number: str, bot_id: int | None) -> str:
        """Why there is no place for it."""
        if bot_id is None:
            return f"no bot has the number id {number}: add it (bisnesctl bots add), then bisnesctl dead-letters retry"
        return f"it speaks of the number id {number}, which is not that of the bot whose secret it came with"


def _reason(error: Exception) -> str:
    """What went wrong, fit to be kept; what our own code stumbled over is logged with its place."""
    if not isinstance(error, ValueError | DatabaseError):
        log.error("a webhook could not be applied", exc_info=error)
    return str(error).replace("\0", "").encode(errors="replace").decode().strip() or type(error).__name__


def _execute(connection: Connection, statement: str, values: tuple[object, ...] = ()) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
