"""Claims that give texts of a WhatsApp Web number their message keys in the same commit.

A key names the message, the chat as WhatsApp calls it, and in a group our own number. If a text was sent to the chat
before, all of that but the id is known from its key, and the page has generated ids in advance. So the page need not be
asked, and the key needs no commit of its own. All other messages get their keys from the page (`SendGuard.admit`).
"""

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from services.database.connection import Connection, Statement, run
from services.outbox.store import CLAIM_COLUMNS, CLAIM_END, CLAIM_PARTS, CLAIM_TYPES, Exchanged, Outbox, Step, exchanged

#: Maximum number of ids that are kept.
MAX_SPARE_IDS = 64
#: How many messages of a chat are searched for one that was sent.
MAX_SEARCHED = 20

# A message that failed once gets a key from the page: the chat may have got another name. A bot with warm-up limits is
# counted by the guard. Locked messages are left out, so a claim waits for none.
_CLAIM_KEYED = Statement(
    "claim_keyed",
    f"""{CLAIM_PARTS}, former AS (
    SELECT h.bot_id, h.chat_id, h.id, h.message_id, sent.provider_id, row_number() OVER (ORDER BY h.id) AS n
    FROM heads h CROSS JOIN LATERAL (
        SELECT r.provider_id FROM (
            SELECT o.id, o.provider_id, o.status FROM outbox o
            WHERE o.bot_id = h.bot_id AND o.chat_id = h.chat_id AND o.id < h.id ORDER BY o.id DESC LIMIT {MAX_SEARCHED}
        ) r WHERE r.status IN ('sent', 'delivered', 'read') AND starts_with(r.provider_id, 'true_')
        ORDER BY r.id DESC LIMIT 1
    ) sent
    WHERE h.kind = 'text' AND h.provider_id IS NULL AND h.attempts = 0
        AND NOT EXISTS (SELECT FROM wa_limit w WHERE w.bot_id = h.bot_id)
        AND NOT EXISTS (
            SELECT FROM wa_number w WHERE w.bot_id = h.bot_id AND w.chat_id = h.chat_id AND NOT w.registered)
), free AS (
    SELECT f.*, s.key_id FROM former f JOIN unnest(%(key_ids)s::text[]) WITH ORDINALITY AS s (key_id, n) USING (n)
    CROSS JOIN LATERAL (
        SELECT FROM outbox o WHERE o.bot_id = f.bot_id AND o.chat_id = f.chat_id AND o.id = f.id
        FOR UPDATE SKIP LOCKED) locked
), keyed AS (
    SELECT bot_id, chat_id, id, message_id, key_id, concat_ws('_', 'true', split_part(provider_id, '_', 2), key_id,
           NULLIF(split_part(provider_id, '_', 4), '')) AS new_key
    FROM free
), reserved AS (
    UPDATE outbox o SET provider_id = k.new_key FROM keyed k
    WHERE o.bot_id = k.bot_id AND o.chat_id = k.chat_id AND o.id = k.id
), known AS (
    INSERT INTO wa_key (bot_id, key_id, message_id) SELECT bot_id, key_id, message_id FROM keyed ON CONFLICT DO NOTHING
), counted AS (
    INSERT INTO wa_sent AS s (bot_id, hour, messages, new_chats)
    SELECT bot_id, date_trunc('hour', now()), count(*), 0 FROM keyed GROUP BY bot_id
    ON CONFLICT (bot_id, hour) DO UPDATE SET messages = s.messages + excluded.messages
)
SELECT c.*, k.new_key, may_be_more FROM {CLAIM_END} LEFT JOIN (SELECT {CLAIM_COLUMNS} FROM heads) c ON true
LEFT JOIN keyed k ON k.bot_id = c.bot_id AND k.chat_id = c.chat_id AND k.id = c.id""",
    **CLAIM_TYPES, key_ids="text[]",
)  # fmt: skip


class SpareIds:
    """Ids that the page has generated for messages to come. Safe for threads."""

    def __init__(self) -> None:
        self._ids: list[str] = []
        self._lock = threading.Lock()

    @property
    def missing(self) -> int:
        """How many more may be kept."""
        return MAX_SPARE_IDS - len(self._ids)

    def add(self, ids: Iterable[str]) -> None:
        """Keep ids that no message has."""
        with self._lock:
            self._ids = [*self._ids, *ids][:MAX_SPARE_IDS]

    def take(self, count: int) -> list[str]:
        """Up to `count` ids, which are no longer kept."""
        with self._lock:
            taken, self._ids = self._ids[:count], self._ids[count:]
        return taken


@dataclass(frozen=True, slots=True)
class KeyedOutbox(Outbox):
    """The outbox as a session of WhatsApp Web sees it."""

    spare_ids: SpareIds = field(default_factory=SpareIds)

    def _claim(self, connection: Connection, steps: Sequence[Step], values: dict[str, Any]) -> Exchanged:
        """Claim and reserve keys. Ids whose use is uncertain after an error are used for no other message."""
        ids = self.spare_ids.take(values["limit"])
        found = exchanged(run(connection, *steps, (_CLAIM_KEYED, values | {"key_ids": ids})))
        used = {message.new_key.split("_")[2] for message in found.claimed if message.new_key}
        self.spare_ids.add(each for each in ids if each not in used)
        return found
