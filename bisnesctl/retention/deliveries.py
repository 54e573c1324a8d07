"""Deliveries to customers' webhooks that were dead or inactive as long as events are kept: they become dead letters.

Locks as in services.events.store: webhooks and their lanes, then deliveries.
"""

from collections.abc import Iterator

from bisnesctl.database.postgres import Connection, query
from bisnesctl.retention.removal import CUTOFF, Values

#: Chats of webhooks whose deliveries fail in one transaction, at most.
BATCH_CHATS = 200

_OLD = f"d.status = 'pending' AND d.updated_at < {CUTOFF}"
_FAIL = f"""
WITH stuck AS (
    SELECT l.webhook_id, l.chat_id FROM webhook_lane l JOIN webhook w ON w.id = l.webhook_id
    WHERE l.pending > 0 AND (l.claim IS NULL OR l.due < now()) AND EXISTS (
        SELECT FROM webhook_delivery d WHERE d.webhook_id = l.webhook_id AND d.chat_id = l.chat_id AND {_OLD})
    LIMIT {BATCH_CHATS} FOR NO KEY UPDATE OF w, l SKIP LOCKED
), dead AS (
    UPDATE webhook_delivery d SET status = 'dead', updated_at = now(),
        error = COALESCE(d.error, 'it was not called for ' || %(days)s || ' days')
    FROM stuck s WHERE d.webhook_id = s.webhook_id AND d.chat_id = s.chat_id AND {_OLD}
    RETURNING d.webhook_id, d.chat_id
), counted AS (
    UPDATE webhook_lane l SET pending = l.pending - c.dead
    FROM (SELECT webhook_id, chat_id, count(*) AS dead FROM dead GROUP BY webhook_id, chat_id) c
    WHERE l.webhook_id = c.webhook_id AND l.chat_id = c.chat_id
)
SELECT count(*)::int FROM dead"""
_COUNT = f"SELECT count(*)::int FROM webhook_delivery d WHERE {_OLD}"


class StuckDeliveries:
    """A `Removal` that deletes nothing: the deliveries end, and are deleted later."""

    def batches(self, connection: Connection, values: Values) -> Iterator[int]:
        """See `Removal`."""
        failed = 1
        while failed:
            failed = int(query(connection, _FAIL, values)[0][0])
            yield failed

    def count(self, connection: Connection, values: Values) -> int:
        """See `Removal`. Calls in flight are counted too."""
        return int(query(connection, _COUNT, values)[0][0])
