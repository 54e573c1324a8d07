"""What dead workers had in hand: what never left is queued again, what may have left becomes `unknown`.

Where messages have keys that were chosen before the send (WhatsApp Web), all of it is queued again: whoever claims such
a message next asks the chat for its key before anything else.
"""

from collections import defaultdict
from pathlib import Path
from typing import Protocol

import structlog

from services.database.connection import Connection, transaction
from services.message import Status
from services.outbox import send_journal, store
from services.outbox.store import Abandoned, Outbox, Result

# What the provider reported before the outcome was known is finished, though its worker never said so.
_LEFT = "o.bot_id = l.bot_id AND o.chat_id = l.chat_id AND o.id > l.done AND o.status <= 'sending'"
_IDLE = f"""
SELECT l.chat_id FROM lane l WHERE l.bot_id = %s AND l.pending > 0 AND l.claim IS NULL AND l.due <= now()
    AND NOT EXISTS (SELECT FROM outbox o WHERE {_LEFT})"""
_RECOUNT = f"""
UPDATE lane l SET pending = (SELECT count(*) FROM outbox o WHERE {_LEFT}) WHERE l.bot_id = %s AND l.chat_id = ANY(%s)"""

log = structlog.get_logger()


def journal_path(folder: Path, instance: str) -> Path:
    """Where the worker of this name keeps its journal."""
    return folder / f"{instance}.journal"


class Recovery(Protocol):
    """Settles the claims that nobody will settle otherwise."""

    def of_earlier_runs(self, connection: Connection) -> None:
        """At the start: what earlier runs left."""

    def of_expired_leases(self, connection: Connection) -> None:
        """Every now and then: what others hold beyond their lease."""


class KeyedRecovery:
    """Of one bot, which one process serves at a time: whatever another has in hand is of one that is gone."""

    def __init__(self, outbox: Outbox, bot_id: int) -> None:
        self._outbox, self._bot_id = outbox, bot_id

    def of_earlier_runs(self, connection: Connection) -> None:
        """Queue again, as the oldest of its chat, what was in hand."""
        left = store.claimed_of(connection, self._bot_id, self._outbox.worker)
        self._outbox.record(
            connection, [Result(a.bot_id, a.chat_id, a.id, a.claim, final=False, status=None) for a in left]
        )
        if left:
            log.warning("took over from a process that is gone", worker=left[0].claim, queued_again=len(left))

    def of_expired_leases(self, connection: Connection) -> None:
        """No lease is another's, but what was reported before its outcome was known is finished without one."""
        recount(connection, self._bot_id)


def recount(connection: Connection, bot_id: int) -> int:
    """Count anew what a bot's chats have left where none of it could be claimed; returns how many chats that were."""
    with connection.cursor() as cursor:
        cursor.execute(_IDLE, (bot_id,))
        if not cursor.fetchall():
            return 0
    with transaction(connection) as cursor:  # nothing is accepted for a chat while its lane is locked
        cursor.execute(f"{_IDLE} ORDER BY l.chat_id FOR UPDATE OF l", (bot_id,))
        chats = [chat_id for (chat_id,) in cursor.fetchall()]
        cursor.execute(_RECOUNT, (bot_id, chats))
    return len(chats)


class JournalRecovery:
    """By the journals in which workers marked what was about to leave."""

    def __init__(self, outbox: Outbox, journals: Path) -> None:
        self._outbox, self._journals = outbox, journals
        self._host, self._instance, _ = outbox.worker.split("/")

    def of_earlier_runs(self, connection: Connection) -> None:
        """Settle at once what earlier runs of this very instance left; its journal must be ours and not yet begun."""
        self._settle(connection, store.claimed_by(connection, f"{self._host}/{self._instance}/"))

    def of_expired_leases(self, connection: Connection) -> None:
        """Settle what other workers hold beyond their lease, unless they live on this host and are merely late."""
        lost = [a for a in store.expired(connection, self._outbox.process) if a.claim != self._outbox.worker]
        if lost:
            self._settle(connection, lost)

    def _settle(self, connection: Connection, abandoned: list[Abandoned]) -> None:
        by_claim = defaultdict(list)
        for one in abandoned:
            by_claim[one.claim].append(one)
        for claim, messages in by_claim.items():
            host, instance, run = claim.split("/")
            if host != self._host:
                self._record(connection, messages, None)
            elif instance == self._instance:
                self._record(connection, messages, send_journal.marked(journal_path(self._journals, instance), run))
            else:
                self._settle_neighbour(connection, messages, journal_path(self._journals, instance), run)

    def _settle_neighbour(self, connection: Connection, messages: list[Abandoned], path: Path, run: str) -> None:
        with send_journal.unowned(path) as dead:
            if dead or not send_journal.is_of(path, run):
                self._record(connection, messages, send_journal.marked(path, run))

    def _record(self, connection: Connection, messages: list[Abandoned], marks: set[int] | None) -> None:
        results = [_result(message, marks is None or message.id in marks) for message in messages]
        self._outbox.record(connection, results)
        unknown = sum(result.final for result in results)
        log.warning(
            "took over from a worker that is gone",
            worker=messages[0].claim,
            queued_again=len(results) - unknown,
            unknown=unknown,
        )


def _result(message: Abandoned, may_have_left: bool) -> Result:
    result = Result(message.bot_id, message.chat_id, message.id, message.claim, final=may_have_left, status=None)
    if not may_have_left:
        return result
    return Result(
        message.bot_id, message.chat_id, message.id, message.claim, final=True, status=Status.UNKNOWN,
        error="the worker ended while the message was on its way; it is not sent again, the provider's report decides",
    )  # fmt: skip
