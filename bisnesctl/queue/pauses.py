"""Pauses: an operator, or the company itself, keeps a bot from sending. Messages are accepted and wait meanwhile.

A company neither changes nor ends a pause of an operator. An operator's command replaces or ends any pause.

A pause is independent of the holds of a bot: neither a check nor a new credential ends it, and its end does not end
them. Lock order: event_feed, then bot_pace.
"""

from collections.abc import Iterable, Sequence

from bisnesctl.database.postgres import Connection, query
from bisnesctl.queue.targets import BotName

#: Characters of a reason, at most.
MAX_REASON_CHARACTERS = 500
#: Seconds of a pause that ends by itself, at most: a year.
MAX_PAUSE_SECONDS = 365 * 86400

# Changes of pauses, one after the other, so that each is reported once: "paus" as a number.
_SERIALISE = f"SELECT pg_advisory_xact_lock({0x70617573})"
_HELD = "(p.held_until = 'infinity' OR p.hold_code IS NOT NULL AND p.held_until > now())"

_OF_OPERATORS = """
SELECT bot_id FROM bot_pace WHERE bot_id = ANY(%(bots)s) AND paused_until > now() AND NOT paused_by_company"""

# A pause that is changed is reported once more, since customers see its reason.
_REPORT_BEGIN = f"""
WITH paused AS (
    SELECT p.bot_id, p.process_name, {_HELD} AS held,
           concat_ws(': ', CASE WHEN %(company)s THEN 'paused by the company' ELSE 'paused by an operator' END,
               %(reason)s::text) AS reason
    FROM bot_pace p WHERE p.bot_id = ANY(%(bots)s)
), noted AS (
    INSERT INTO process_events (process_name, event_type, event_data, severity)
    SELECT process_name, 'bot_paused', bot_status_event(bot_id, 'waiting', reason)
        || jsonb_build_object('by', %(by)s::text, 'seconds', %(seconds)s::float), 'info'
    FROM paused ORDER BY bot_id
)
SELECT raise_events(jsonb_agg(bot_status_event(bot_id, 'waiting', reason) ORDER BY bot_id)) FROM paused
WHERE NOT held"""
_LOCK = "SELECT FROM bot_pace WHERE bot_id = ANY(%(bots)s) ORDER BY bot_id FOR UPDATE"
_BEGIN = """
UPDATE bot_pace SET paused_at = CASE WHEN paused_until > now() THEN paused_at ELSE now() END,
    paused_until = COALESCE(now() + %(seconds)s * interval '1 second', 'infinity'),
    paused_reason = %(reason)s, paused_by = %(by)s, paused_by_company = %(company)s
WHERE bot_id = ANY(%(bots)s)"""

# The time of the end is kept: the age of messages counts from it.
_REPORT_END = f"""
WITH resumed AS (
    SELECT p.bot_id, p.process_name, {_HELD} AS held FROM bot_pace p
    WHERE p.bot_id = ANY(%(bots)s) AND p.paused_at IS NOT NULL
), noted AS (
    INSERT INTO process_events (process_name, event_type, event_data, severity)
    SELECT process_name, 'bot_resumed', bot_status_event(bot_id, CASE WHEN held THEN 'waiting' ELSE 'active' END, NULL)
        || jsonb_build_object('by', %(by)s::text), 'info'
    FROM resumed ORDER BY bot_id
)
SELECT raise_events(jsonb_agg(bot_status_event(bot_id, 'active', NULL) ORDER BY bot_id)) FROM resumed WHERE NOT held"""
_END = """
UPDATE bot_pace SET paused_until = LEAST(paused_until, now()), paused_at = NULL, paused_reason = NULL, paused_by = NULL,
    paused_by_company = false
WHERE bot_id = ANY(%(bots)s) AND paused_at IS NOT NULL AND (%(now)s OR paused_until <= now())"""
_STILL = """
SELECT bot_id FROM bot_pace
WHERE bot_id = ANY(%(bots)s) AND paused_at IS NOT NULL AND (%(now)s OR paused_until <= now())"""
_OVER = "SELECT bot_id FROM bot_pace WHERE paused_at IS NOT NULL AND paused_until <= now()"
_IN_HAND = "SELECT count(*)::int FROM lane WHERE bot_id = ANY(%s) AND claim IS NOT NULL"


class PausedByOperator(Exception):
    """An operator has paused all of the bots, which their company can neither change nor end."""


def pause(
    connection: Connection, bots: Sequence[BotName], by: str, reason: str | None = None, seconds: float | None = None,
    company: bool = False,
) -> set[int]:  # fmt: skip
    """Pauses bots, or changes their pauses; returns their ids. No worker claims a message of them once this returns.

    `seconds`: after which the pause ends by itself; None: when it is resumed. `by`: who asks for it. `company`: whether
    that is their company: bots that an operator has paused stay as they are. Raises `PausedByOperator`.
    """
    values = {"by": by, "reason": reason or None, "seconds": seconds, "company": company}
    with connection:
        query(connection, _SERIALISE)
        changed = _changeable(connection, bots, company)
        for statement in (_REPORT_BEGIN, _LOCK, _BEGIN):
            query(connection, statement, {**values, "bots": changed})
    return set(changed)


def resume(connection: Connection, bots: Sequence[BotName], by: str, company: bool = False) -> set[int]:
    """Ends the pauses of bots; returns the ids of those that were paused. `company`, and errors: as for `pause`."""
    with connection:
        query(connection, _SERIALISE)
        return _end(connection, _changeable(connection, bots, company), by, now=True)


def end_expired(connection: Connection) -> set[int]:
    """Notes that pauses ended by themselves, and reports it; returns the ids of the bots.

    Several processes may do so at once.
    """
    over = [row[0] for row in query(connection, _OVER)]
    if not over:
        return set()
    with connection:
        query(connection, _SERIALISE)
        return _end(connection, sorted(over), "its end", now=False)


def in_hand(connection: Connection, bots: Sequence[BotName]) -> int:
    """The number of messages that workers have in hand: they may leave although their bots are paused."""
    return int(query(connection, _IN_HAND, ([each.id for each in bots],))[0][0])


def _changeable(connection: Connection, bots: Iterable[BotName], company: bool) -> list[int]:
    found = sorted(each.id for each in bots)
    if not company:
        return found
    kept = {row[0] for row in query(connection, _OF_OPERATORS, {"bots": found})}
    if found and kept.issuperset(found):
        raise PausedByOperator
    return [each for each in found if each not in kept]


def _end(connection: Connection, bots: list[int], by: str, now: bool) -> set[int]:
    values = {"bots": bots, "by": by, "now": now}
    paused = {row[0] for row in query(connection, _STILL, values)}
    if paused:
        values["bots"] = sorted(paused)
        query(connection, _REPORT_END, values)
        query(connection, _LOCK, values)
        query(connection, _END, values)
    return paused
