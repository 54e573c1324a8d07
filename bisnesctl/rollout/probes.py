"""Probes: messages to test chats, by which bots of both sides can be compared while their customers write little.

A probe takes the way of any message, and is marked in the outbox. A chat gets one at a time, so that none pile up.

Locks: lanes, then outbox rows.
"""

from collections.abc import Collection

from uuid_utils import uuid7

from bisnesctl.database.postgres import Connection, query
from bisnesctl.rollout.outcomes import TestChats

#: Seconds between two probes of a chat.
PROBE_INTERVAL_SECONDS = 15.0
#: The text of a probe.
TEXT = "Test message of a rollout. Please ignore it."

_FIND = """
SELECT c.id, t.chat_id FROM unnest(%(companies)s::text[], %(phones)s::int[], %(chats)s::text[])
    AS t (company_id, phone_index, chat_id) JOIN phone_configs c USING (company_id, phone_index)
ORDER BY c.id, t.chat_id"""

# A lane whose last probe is too recent, or in which something waits, is left alone.
_SEND = """
WITH wanted AS (
    SELECT DISTINCT ON (t.bot_id, t.chat_id) t.*, c.company_id, c.phone_index
    FROM unnest(%(bots)s::int[], %(chats)s::text[], %(ids)s::uuid[]) AS t (bot_id, chat_id, message_id)
        JOIN phone_configs c ON c.id = t.bot_id
    WHERE NOT EXISTS (SELECT FROM outbox o WHERE o.bot_id = t.bot_id AND o.chat_id = t.chat_id AND o.is_probe
        AND o.accepted_at > now() - %(interval)s * interval '1 second')
    ORDER BY t.bot_id, t.chat_id
), locked AS (
    INSERT INTO lane AS l (bot_id, chat_id, pending, accepted)
    SELECT bot_id, chat_id, 1, 1 FROM wanted ORDER BY bot_id, chat_id
    ON CONFLICT (bot_id, chat_id) DO UPDATE SET pending = 1, accepted = l.accepted + 1, due = now() WHERE l.pending = 0
    RETURNING bot_id, chat_id
)
INSERT INTO outbox (bot_id, chat_id, message_id, company_id, phone_index, kind, payload, is_probe)
SELECT bot_id, chat_id, message_id, company_id, phone_index, 'text', jsonb_build_object('message', %(text)s::text), true
FROM wanted JOIN locked USING (bot_id, chat_id) RETURNING bot_id"""


def find_chats(connection: Connection, named: Collection[tuple[str, int, str]]) -> list[tuple[int, str]]:
    """The bots and chats of the setting ROLLOUT_TEST_CHATS that exist."""
    values = {
        "companies": [company for company, _, _ in named], "phones": [phone for _, phone, _ in named],
        "chats": [chat for _, _, chat in named],
    }  # fmt: skip
    return [(bot, chat) for bot, chat in query(connection, _FIND, values)] if named else []


def send_due(connection: Connection, test_chats: TestChats, bots: Collection[int]) -> int:
    """Accepts a probe for each test chat of these bots that is due. Returns how many."""
    chosen = [(bot, chat) for bot, chat in test_chats if bot in bots]
    if not chosen:
        return 0
    values = {
        "bots": [bot for bot, _ in chosen], "chats": [chat for _, chat in chosen], "text": TEXT,
        "ids": [str(uuid7()) for _ in chosen], "interval": PROBE_INTERVAL_SECONDS,
    }  # fmt: skip
    return len(query(connection, _SEND, values))
