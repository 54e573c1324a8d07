"""Finished messages of the outbox. Messages that wait, and those whose outcome is unknown, are never deleted.

Old messages are found by their ids, which are UUIDs of version 7 and so in the order of acceptance: the outbox needs no
index for it, which every message would pay for.

Locks: lanes, then outbox rows. A lane or row that somebody has locked is left to the next run, so that no sender waits
for more than one small transaction, and nothing deadlocks. The lane's position (`done`) is not touched: it only says
where to continue. Its count (`accepted`) is kept by a trigger (sql/020_retention.sql).
"""

from collections.abc import Iterator

from bisnesctl.database.postgres import Connection, query
from bisnesctl.retention.removal import CUTOFF, Values

#: Messages that are looked at in one transaction, at most.
BATCH_MESSAGES = 200
#: The id before all others.
FIRST_ID = "00000000-0000-0000-0000-000000000000"
#: Hours by which the clocks of machines that make ids may be ahead.
CLOCK_SLACK_HOURS = 24

# The moment of an id is in its first 48 bits, in milliseconds.
_BEFORE = f"""(lpad(to_hex(floor(extract(epoch FROM {CUTOFF} + interval '{CLOCK_SLACK_HOURS} hours') * 1000)::bigint),
    12, '0') || repeat('0', 20))::uuid"""
# sent, failed, delivered or read. It was accepted before it changed, unless the clock was set back meanwhile.
_GOES = f"o.status >= 'sent' AND o.updated_at < {CUTOFF} AND o.accepted_at < {CUTOFF}"

_FIND = f"""
SELECT o.message_id::text, o.bot_id, o.chat_id, o.id, {_GOES} FROM outbox o
WHERE o.message_id > %(after)s::uuid AND o.message_id < {_BEFORE} ORDER BY o.message_id LIMIT %(limit)s"""
_LOCK = """
SELECT l.bot_id, l.chat_id FROM unnest(%(bots)s::int[], %(chats)s::text[]) AS k (bot_id, chat_id)
    JOIN lane l USING (bot_id, chat_id)
FOR UPDATE OF l SKIP LOCKED"""
# A file that only this message had is removed as one whose message was never accepted, see services.media.counted.
_DELETE = f"""
WITH free AS (
    SELECT o.bot_id, o.chat_id, o.id FROM unnest(%(bots)s::int[], %(chats)s::text[], %(ids)s::bigint[])
        AS k (bot_id, chat_id, id) JOIN outbox o USING (bot_id, chat_id, id)
    WHERE {_GOES} FOR UPDATE OF o SKIP LOCKED
), gone AS (
    DELETE FROM outbox o USING free f WHERE o.bot_id = f.bot_id AND o.chat_id = f.chat_id AND o.id = f.id
    RETURNING o.message_id, o.payload #>> '{{media,key}}' AS key
), released AS (
    INSERT INTO media_upload (message_id, key, since)
    SELECT g.message_id, g.key, '-infinity' FROM gone g JOIN media_file f ON f.key = g.key
    WHERE NOT EXISTS (SELECT FROM messages m WHERE m.id = g.message_id)
    ON CONFLICT (message_id) DO UPDATE SET since = excluded.since
)
SELECT count(*)::int FROM gone"""
_COUNT = f"SELECT count(*)::int FROM outbox o WHERE o.message_id < {_BEFORE} AND {_GOES}"

#: Bot, chat and number of a message.
Place = tuple[int, str, int]


class FinishedMessages:
    """A `Removal`."""

    def batches(self, connection: Connection, values: Values) -> Iterator[int]:
        """See `Removal`."""
        after, number = FIRST_ID, BATCH_MESSAGES
        while number == BATCH_MESSAGES:
            found = query(connection, _FIND, dict(values) | {"after": after, "limit": BATCH_MESSAGES})
            number = len(found)
            after = found[-1][0] if found else after
            yield _delete(connection, values, [(bot, chat, id) for _, bot, chat, id, goes in found if goes])

    def count(self, connection: Connection, values: Values) -> int:
        """See `Removal`."""
        return int(query(connection, _COUNT, values)[0][0])


def _delete(connection: Connection, values: Values, places: list[Place]) -> int:
    """Deletes those of the messages whose chats nobody has locked, and that are still old and finished."""
    if not places:
        return 0
    lanes = sorted({(bot, chat) for bot, chat, _ in places})
    with connection:
        locked = set(
            query(connection, _LOCK, {"bots": [bot for bot, _ in lanes], "chats": [chat for _, chat in lanes]})
        )
        chosen = [place for place in places if place[:2] in locked]
        if not chosen:
            return 0
        bots, chats, ids = map(list, zip(*chosen, strict=True))
        return int(query(connection, _DELETE, dict(values) | {"bots": bots, "chats": chats, "ids": ids})[0][0])
