"""The SQL of changes: reactions, edits and revocations of messages.

A change is applied once, however often it is delivered; of two within a second, the one that arrived later wins. One
that arrives before its message raises its event at once, without our id of the message, and waits: once the message is
stored, it is applied as if it had come after, and raises its event again.
"""

from collections.abc import Iterable, Sequence
from hashlib import sha256
from itertools import groupby
from operator import itemgetter

import orjson

from services.database.connection import Connection, Statement, query, run
from services.events.payload_sql import EDIT_EVENT, REACTION_EVENT, REVOCATION_EVENT
from services.inbox.arrivals import Arrival, Place, Row, common, input_rows
from services.message import Edit, Reaction, Revocation
from services.outbox.reports import MAX_WAITING, NumberedEvent
from services.outbox.store import IS_LAST_MESSAGE

#: How many recent outgoing messages of a chat to search when WhatsApp echoes our own reaction, edit or deletion.
MAX_ECHO_SEARCH = 500
#: Hours for which a change waits for its message.
WAIT_HOURS = 24
#: Minutes for which the regular look finds the messages that the outbox stored.
SWEPT_MINUTES = 10
#: Changes that one look applies, at most.
SWEEP_BATCH = 1000

Change = Reaction | Edit | Revocation

#: Finds the message that something is said about; every index of it is by company.
_TARGET = "m.company_id = g.company_id AND m.external_id = g.target"

_KEEP = Statement(
    "kept_changes",
    f"""
INSERT INTO message_change (company_id, change_id, kind, target, details, waits)
SELECT DISTINCT ON (g.company_id, g.change_id) g.company_id, g.change_id, g.change, g.target, g.details,
       NOT EXISTS (SELECT FROM messages m WHERE {_TARGET})
       AND (SELECT count(*) FROM (SELECT FROM message_change c WHERE c.company_id = g.company_id AND c.waits
            LIMIT {MAX_WAITING}) w) < {MAX_WAITING}
FROM json_to_recordset(%(rows)s::json) AS g (
    company_id varchar, change_id text, change text, target text, details jsonb, n int)
ORDER BY g.company_id, g.change_id, g.n
ON CONFLICT DO NOTHING RETURNING company_id, change_id""",
    rows="json",
)

# Changes of unknown messages raise events as well.
_EVENTS = """
SELECT w.n, {event}::text FROM (
    SELECT g.n, g.company_id, g.phone_index, g.chat AS chat_id, g.name, g.at, g.from_me, g.target, g.provider_id,
           g.body, k.id FROM heard g LEFT JOIN known k USING (n)
    WHERE NOT g.backfill AND (k.id IS NULL OR g.n IN (SELECT n FROM latest JOIN changed USING (id)))) w
JOIN event_feed USING (company_id) ORDER BY n"""


def _about(kind: str) -> str:
    """The beginning of a statement that changes messages; `kind`: the outbox's name of the change."""
    columns = "target text, provider_id text, body text, backfill bool"
    return f"""
WITH {input_rows(columns)}, heard AS (  -- all but what the outbox itself has sent
    SELECT * FROM input_rows g WHERE NOT (g.from_me AND EXISTS (
        SELECT FROM (
            SELECT kind, payload FROM outbox
            WHERE bot_id = g.bot_id AND chat_id = ANY (g.chat || ARRAY(
                SELECT alias FROM chat_alias a WHERE a.company_id = g.company_id AND a.chat_id = g.chat))
            ORDER BY id DESC LIMIT {MAX_ECHO_SEARCH}
        ) o WHERE o.kind = '{kind}' AND o.payload ->> 'target_provider_id' = g.target
            AND COALESCE(o.payload ->> 'reaction', o.payload ->> 'message', '') = COALESCE(g.body, '')))
), known AS (
    SELECT g.n, m.id FROM heard g CROSS JOIN LATERAL (SELECT m.id FROM messages m WHERE {_TARGET} LIMIT 1) m
), latest AS (
    SELECT DISTINCT ON (k.id) k.id, g.* FROM heard g JOIN known k USING (n)
    ORDER BY k.id, g.at DESC, g.n DESC
), """


def _retold(changed: str) -> str:
    """SQL of the CTE that changes the last message of a contact; `changed`: SQL of the fields that are other now."""
    return f"""retold AS (
    UPDATE contacts c SET last_message = c.last_message || {changed}, updated_at = now()
    FROM latest l JOIN changed USING (id) JOIN messages m USING (id)
    WHERE c.company_id = m.company_id AND c.contact_id = m.contact_id AND {IS_LAST_MESSAGE}
        AND c.last_message ->> 'type' IS DISTINCT FROM 'revoked'
    RETURNING 1 AS row
)"""


_REACTIONS = _about("reaction") + """changed AS (
    UPDATE messages m SET reaction = NULLIF(left(l.body, 50), ''), reaction_timestamp = to_timestamp(l.at)
    FROM latest l WHERE m.id = l.id AND (m.reaction_timestamp IS NULL OR m.reaction_timestamp <= to_timestamp(l.at))
        AND (m.reaction, m.reaction_timestamp) IS DISTINCT FROM (NULLIF(left(l.body, 50), ''), to_timestamp(l.at))
    RETURNING m.id
)""" + _EVENTS.format(event=REACTION_EVENT)  # fmt: skip

_EDITS = _about("edit") + f"""changed AS (
    UPDATE messages m SET content = l.body, edited = true, edited_at = to_timestamp(l.at)
    FROM latest l WHERE m.id = l.id AND (m.edited_at IS NULL OR m.edited_at <= to_timestamp(l.at))
        AND m.content IS DISTINCT FROM l.body
    RETURNING m.id
), {_retold("jsonb_build_object('body', l.body)")}""" + _EVENTS.format(event=EDIT_EVENT)  # fmt: skip

_REVOCATIONS = (
    _about("delete")
    + f"""changed AS (
    UPDATE messages m SET status = 'revoked' FROM latest l WHERE m.id = l.id AND m.status IS DISTINCT FROM 'revoked'
    RETURNING m.id
), {_retold("jsonb_build_object('body', NULL, 'type', 'revoked')")}"""
)
_REVOCATIONS += _EVENTS.format(event=REVOCATION_EVENT)

_STATEMENTS = {
    "reaction": Statement("arrived_reactions", _REACTIONS, rows="json"),
    "edit": Statement("arrived_edits", _EDITS, rows="json"),
    "revocation": Statement("arrived_revocations", _REVOCATIONS, rows="json"),
}

# Status reports wait in the same table (`services.outbox.reports`).
_STATUSES = """
UPDATE messages m SET status = s.status
FROM json_to_recordset(%(rows)s::json) AS s (company_id varchar, target text, status text)
WHERE m.company_id = s.company_id AND m.external_id = s.target AND m.from_me AND CASE
    WHEN m.status = ANY (enum_range(NULL::message_status)::text[])
        THEN m.status::message_status < s.status::message_status
    ELSE m.status IS NULL END"""

_WAITING = f"""
WITH due AS (
    SELECT c.company_id, c.change_id, {{number}} AS n FROM message_change c {{source}}
    WHERE c.waits AND c.seen_at > now() - interval '{{age}}' AND c.details ->> 'process' = %(process)s
        AND (%(bot)s::int IS NULL OR (c.details ->> 'bot_id')::int = %(bot)s)
    ORDER BY c.company_id, c.change_id LIMIT {SWEEP_BATCH} FOR UPDATE OF c SKIP LOCKED
)
UPDATE message_change c SET waits = false FROM due d
WHERE c.company_id = d.company_id AND c.change_id = d.change_id
RETURNING c.kind, c.target, c.details, d.n, extract(epoch FROM c.seen_at)::float"""
_WAITING_FOR_NEW = _WAITING.format(
    number="g.n",
    source="""JOIN json_to_recordset(%(rows)s::json) AS g (company_id varchar, provider_id text, n int)
        ON c.company_id = g.company_id AND c.target = g.provider_id""",
    age=f"{WAIT_HOURS} hours",
)
_OVERDUE = _WAITING.format(
    number="0",
    source="""JOIN LATERAL (SELECT FROM messages m
        WHERE m.company_id = c.company_id AND m.external_id = c.target LIMIT 1) m ON true""",
    age=f"{SWEPT_MINUTES} minutes",
)
#: Whether any change may wait for a message that was stored meanwhile.
IS_ANY_WAITING = f"""
SELECT EXISTS (SELECT FROM message_change c JOIN messages m ON m.company_id = c.company_id AND m.external_id = c.target
    WHERE c.waits AND c.seen_at > now() - interval '{SWEPT_MINUTES} minutes'
        AND c.details ->> 'process' = %(process)s
        AND (%(bot)s::int IS NULL OR (c.details ->> 'bot_id')::int = %(bot)s))"""


def record(connection: Connection, arrivals: Sequence[tuple[Place, Change]]) -> list[NumberedEvent]:
    """Apply changes of one type that are new, and return their events."""
    rows = [common(place, change) | _change(change) for place, change in arrivals]
    kept = [row | {"change": row["change"], "details": row} for row in rows]
    new = set(run(connection, (_KEEP, {"rows": orjson.dumps(kept).decode()})))
    fresh: dict[tuple[str, str], Row] = {}
    for row in rows:
        if (name := (row["company_id"], row["change_id"])) in new:
            fresh.setdefault(name, row)
    return _apply(connection, fresh.values())


def apply_waiting(
    connection: Connection, filter_: Row, arrivals: Sequence[tuple[Place, Arrival]]
) -> list[NumberedEvent]:
    """Apply the changes that waited for these messages, and return their events with the numbers of the messages."""
    rows = [
        {"company_id": place.company_id, "provider_id": getattr(arrival, "provider_id", None), "n": place.n}
        for place, arrival in arrivals
    ]
    return _apply_found(
        connection, query(connection, _WAITING_FOR_NEW, filter_ | {"rows": orjson.dumps(rows).decode()})
    )


def apply_overdue(connection: Connection, filter_: Row) -> list[NumberedEvent]:
    """Apply the changes that waited for messages which the outbox stored meanwhile, and return their events."""
    return _apply_found(connection, query(connection, _OVERDUE, filter_))


def _apply_found(connection: Connection, found: list[tuple[str, str, Row, int, float]]) -> list[NumberedEvent]:
    found.sort(key=itemgetter(4))
    statuses = [row | {"target": target} for kind, target, row, _, _ in found if kind == "status"]
    if statuses:
        query(connection, _STATUSES, {"rows": orjson.dumps(statuses).decode()})
    changes = [row | {"n": seen, "of": n} for seen, (kind, _, row, n, _) in enumerate(found) if kind != "status"]
    numbers = {row["n"]: row["of"] for row in changes}
    return [(numbers[n], event) for n, event in _apply(connection, changes)]


def _apply(connection: Connection, rows: Iterable[Row]) -> list[NumberedEvent]:
    events: list[NumberedEvent] = []
    ordered = sorted(rows, key=itemgetter("change"))
    for kind, group in groupby(ordered, key=itemgetter("change")):
        events += run(connection, (_STATEMENTS[kind], {"rows": orjson.dumps(list(group)).decode()}))
    return sorted(events, key=itemgetter(0))


def _change(change: Change) -> Row:
    kind, body = _kind_and_body(change)
    provider_id = change.provider_id if isinstance(change, Reaction) else None
    # A revocation cannot be repeated; the others can, with the same content at another time.
    parts = [kind, change.target] if kind == "revocation" else [kind, change.target, provider_id, body, change.at]
    return {
        "change": kind,
        "change_id": sha256(orjson.dumps([*parts, change.from_me])).hexdigest(),
        "target": change.target,
        "provider_id": provider_id,
        "body": body,
        "backfill": change.backfill,
    }


def _kind_and_body(change: Change) -> tuple[str, str | None]:
    match change:
        case Reaction():
            return "reaction", change.emoji
        case Edit():
            return "edit", change.text
        case Revocation():
            return "revocation", None
