"""Webhooks, stored as they came: those that arrive together share one INSERT and one commit, and are answered after it.

Nothing of a webhook is read here; `services.inbox.apply` applies it afterwards, and knows what comes twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import psycopg2

from services.database.connection import Database, Statement, run
from services.database.group_commit import Batch, GroupCommit

#: Webhooks that share one commit, at most, and bytes of their bodies, unless one is larger.
MAX_BATCH, BATCH_BYTES = 1000, 4 << 20
#: Seconds from a webhook's arrival to its commit; afterwards its sender is told to send it again.
STORE_SECONDS = 10.0

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

    def __init__(self, process: str, database: Database, patience: float = STORE_SECONDS) -> None:
        """Connects with the first webhook. `patience`: seconds that one waits for its commit."""
        self._process, self._database = process, database
        self._commits: GroupCommit[_Webhook, bool] = GroupCommit(
            "letterbox", self._store, patience,
            max_items=MAX_BATCH, max_bytes=BATCH_BYTES, size=lambda letter: len(letter.body),
        )  # fmt: skip

    def put(self, body: bytes, bot: BotName | None = None) -> bool:
        """Store a webhook; it is durable on return. False where there is no such bot: then it is not stored.

        `bot`: the one whose own secret came with it; None where it may speak of every number. Raises
        `DatabaseUnavailable` where it was not committed in time; it may have been all the same, and come twice.
        """
        return self._commits.submit(_Webhook(body, bot)).result()  # which ends within `patience`

    def _store(self, batch: Batch[_Webhook]) -> Sequence[bool]:
        letters = batch.items
        values = {
            "process": self._process,
            "companies": [letter.bot and letter.bot.company_id for letter in letters],
            "phones": [letter.bot and letter.bot.phone_index for letter in letters],
            "bodies": [psycopg2.Binary(letter.body) for letter in letters],
        }
        with self._database.connection() as connection:
            return [known for (known,) in run(connection, (_STORE, values))]
