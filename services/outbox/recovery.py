"""Recovery of messages that dead workers had in hand.

A message that never left is queued again; one that may have left becomes `unknown`. The journal of a worker of this
machine knows which, and so does the lane of a message that its worker had not marked in the database (`in_hand`). If
a channel chooses the keys of messages before the send (WhatsApp Web), all of them are queued again: the next worker
that claims such a message looks for its key in the chat before anything else.
"""

from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import structlog

from services.database.connection import Connection, query, transaction
from services.message import Status
from services.outbox import journal
from services.outbox.outcome_policy import UNKNOWN_PAUSE_SECONDS, Result
from services.outbox.store import Outbox

#: Expired claims that are settled at a time.
EXPIRED_BATCH = 1000
#: The code of messages that may have left before their worker ended.
WORKER_ENDED = "worker_ended"

_OVERTAKEN = "COALESCE(p.owner_epoch > COALESCE(l.epoch, 0), false)"
_COLUMNS = f"l.bot_id, l.chat_id, l.head, l.claim, l.fence, COALESCE(l.claim = l.unmarked, false), {_OVERTAKEN}"
_CLAIM = f"SELECT {_COLUMNS} FROM lane l LEFT JOIN bot_pace p USING (bot_id)"
_CLAIMED_BY = f"{_CLAIM} WHERE claim IS NOT NULL AND starts_with(claim, %s)"
_CLAIMED_BY_OTHERS = f"{_CLAIM} WHERE l.bot_id = %s AND claim IS NOT NULL AND claim <> %s"
_EXPIRED = f"""
SELECT {_COLUMNS} FROM lane l JOIN bot_pace p USING (bot_id)
WHERE l.claim IS NOT NULL AND l.due <= now() AND p.process_name = %s LIMIT {EXPIRED_BATCH}"""
# A message whose delivery the provider has already reported counts as finished, even if its worker never recorded an
# outcome.
_LEFT = "o.bot_id = l.bot_id AND o.chat_id = l.chat_id AND o.id > l.done AND o.status <= 'sending'"
_MISCOUNTED = f"""
SELECT l.chat_id FROM lane l WHERE l.bot_id = %s AND l.pending > 0 AND l.claim IS NULL AND l.due <= now()
    AND NOT EXISTS (SELECT FROM outbox o WHERE {_LEFT})"""
_RECOUNT = f"""
UPDATE lane l SET pending = (SELECT count(*) FROM outbox o WHERE {_LEFT}) WHERE l.bot_id = %s AND l.chat_id = ANY(%s)"""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Abandoned:
    """A claimed message whose worker is gone, or whose lease has expired."""

    bot_id: int
    chat_id: str
    id: int
    claim: str
    fence: int
    unmarked: bool  # whether it has certainly not left
    overtaken: bool  # whether the bot has another owner since: its worker may not continue with it


def claimed_by(connection: Connection, worker_prefix: str) -> list[Abandoned]:
    """The messages that workers have in hand whose names begin with the prefix."""
    return [Abandoned(*row) for row in query(connection, _CLAIMED_BY, (worker_prefix,))]


def claimed_by_others(connection: Connection, bot_id: int, worker: str) -> list[Abandoned]:
    """The messages of a bot that others than this worker have in hand."""
    return [Abandoned(*row) for row in query(connection, _CLAIMED_BY_OTHERS, (bot_id, worker))]


def expired(connection: Connection, process: str) -> list[Abandoned]:
    """The messages of a channel whose leases have expired."""
    return [Abandoned(*row) for row in query(connection, _EXPIRED, (process,))]


def release(connection: Connection, outbox: Outbox, messages: list[Abandoned]) -> None:
    """Queue messages again, each as the oldest of its chat."""
    outbox.record(connection, [_again(each) for each in messages])


def _again(message: Abandoned) -> Result:
    return Result(
        message.bot_id, message.chat_id, message.id, message.claim, final=False, status=None, fence=message.fence
    )


def recount(connection: Connection, bot_id: int) -> int:
    """Correct the counts of a bot's chats that have messages left by their count, but none that can be claimed.

    Returns how many chats that were.
    """
    if not query(connection, _MISCOUNTED, (bot_id,)):
        return 0
    with transaction(connection) as cursor:  # nothing is accepted for a chat while its lane is locked
        cursor.execute(f"{_MISCOUNTED} ORDER BY l.chat_id FOR UPDATE OF l", (bot_id,))
        chats = [chat_id for (chat_id,) in cursor.fetchall()]
        cursor.execute(_RECOUNT, (bot_id, chats))
    return len(chats)


class Recovery(Protocol):
    """Settles the claims that nobody else will settle."""

    def of_earlier_runs(self, connection: Connection) -> None:
        """At the start: what earlier runs left."""

    def of_expired_leases(self, connection: Connection) -> None:
        """Regularly: what others hold beyond their lease."""


class KeyedRecovery:
    """For one bot, which one process serves at a time: every other process that has claims of it is gone."""

    def __init__(self, outbox: Outbox, bot_id: int) -> None:
        self._outbox, self._bot_id = outbox, bot_id

    def of_earlier_runs(self, connection: Connection) -> None:
        """Queue again, as the oldest of its chat, each message that was in hand."""
        abandoned = claimed_by_others(connection, self._bot_id, self._outbox.worker)
        release(connection, self._outbox, abandoned)
        if abandoned:
            log.warning("claims.recovered", worker=abandoned[0].claim, queued_again=len(abandoned), unknown=0)

    def of_expired_leases(self, connection: Connection) -> None:
        """Correct the counts: no other process has leases of this bot."""
        recount(connection, self._bot_id)


class JournalRecovery:
    """By the journals in which workers marked the messages that were about to leave."""

    def __init__(self, outbox: Outbox, journals: Path) -> None:
        self._outbox, self._journals = outbox, journals
        self._host, self._instance, _ = outbox.worker.split("/")

    def of_earlier_runs(self, connection: Connection) -> None:
        """Settle at once what earlier runs of this instance left; its journal must be locked and not yet begun."""
        self._settle(connection, claimed_by(connection, f"{self._host}/{self._instance}/"))

    def of_expired_leases(self, connection: Connection) -> None:
        """Settle what other workers hold beyond their lease, unless they live on this host and are merely late.

        A living worker whose bot has another owner since is not waited for: it lets nothing leave after its lease.
        """
        self._settle(
            connection, [a for a in expired(connection, self._outbox.channel) if a.claim != self._outbox.worker]
        )

    def _settle(self, connection: Connection, abandoned: list[Abandoned]) -> None:
        by_claim = defaultdict(list)
        for message in abandoned:
            by_claim[message.claim].append(message)
        for claim, messages in by_claim.items():
            host, instance, run = claim.split("/")
            path = journal.path_of(self._journals, instance)
            if host != self._host:
                self._record(connection, messages, None)
            elif instance == self._instance:
                self._record(connection, messages, journal.marked(path, run))
            else:  # a neighbour, which may be alive
                with journal.unowned(path) as is_dead:
                    if not (is_dead or not journal.is_of(path, run)):
                        messages = [each for each in messages if each.overtaken]
                    if messages:
                        self._record(connection, messages, journal.marked(path, run))

    def _record(self, connection: Connection, messages: list[Abandoned], marks: set[int] | None) -> None:
        """Settle the messages of one dead worker.

        `marks`: those that may have left, None if any of them may whose lane does not say that it has not.
        """
        reason = "the worker ended during the send; the message is not sent again, and the provider's report decides"
        results = [
            replace(
                _again(each),
                final=True,
                status=Status.UNKNOWN,
                after=UNKNOWN_PAUSE_SECONDS,
                code=WORKER_ENDED,
                error=reason,
            )
            if not each.unmarked and (marks is None or each.id in marks)
            else _again(each)
            for each in messages
        ]
        self._outbox.record(connection, results)
        unknown = sum(result.final for result in results)
        log.warning(
            "claims.recovered",
            worker=messages[0].claim,
            queued_again=len(results) - unknown,
            unknown=unknown,
        )
