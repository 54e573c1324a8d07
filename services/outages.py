"""The SQL of outages: numbers whose provider cannot be reached, or serves nobody just now.

An outage holds its number by `bot_pace.held_until`, as every hold does. When a pause is over, one message is claimed
and finds out whether the provider serves the number again. All times are the database's.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict

import orjson

from services.message import Status
from services.outage_policy import Answer, Fault, Pauses
from services.store import Connection, Outbox, Result, transaction

#: The code of messages that waited for their provider until they were too old.
UNREACHABLE = "provider_unreachable"
#: Minutes without a failed attempt after which the next one begins another outage: nobody was sending meanwhile.
FORGOTTEN_MINUTES = 10
#: Messages that are given up at once.
BATCH = 500

_LASTS = "p.outage_since IS NOT NULL AND p.outage_seen > now() - %(forgotten)s * interval '1 minute'"
_GIVEN = """
    SELECT * FROM json_to_recordset(%(faults)s::json) AS f (
        bot_id int, code text, reason text, probe bool, least float)"""

# What lasts is told to the customer and to whoever reads process_events. Locks: event_feed first, then bot_pace.
_REPORT = f"""
WITH lasting AS (
    SELECT p.bot_id, p.process_name, f.code || ': ' || f.reason AS reason
    FROM ({_GIVEN}) f JOIN bot_pace p USING (bot_id)
    WHERE f.probe AND NOT p.outage_reported AND {_LASTS}
        AND p.outage_since <= now() - %(reported_after)s * interval '1 second'
    ORDER BY p.bot_id
), noted AS (
    INSERT INTO process_events (process_name, event_type, event_data, severity)
    SELECT process_name, 'bot_unavailable', bot_status_event(bot_id, 'unavailable', reason), 'error' FROM lasting
)
SELECT raise_events(jsonb_agg(bot_status_event(bot_id, 'unavailable', reason))) FROM lasting"""

# Of many messages that fail together, only the one that was to find out makes the pause longer.
_BEGIN = f"""
WITH f AS ({_GIVEN}), locked AS (
    SELECT p.bot_id, COALESCE({_LASTS}, false) AS lasts FROM bot_pace p
    WHERE p.bot_id IN (SELECT bot_id FROM f) ORDER BY p.bot_id FOR UPDATE
), paused AS (
    SELECT f.*, l.lasts, GREATEST(f.least, CASE WHEN NOT l.lasts THEN %(first)s
        WHEN f.probe THEN LEAST(p.outage_pause * 2, %(longest)s) ELSE p.outage_pause END) AS pause
    FROM f JOIN locked l USING (bot_id) JOIN bot_pace p USING (bot_id)
)
UPDATE bot_pace p SET
    outage_since = CASE WHEN n.lasts THEN p.outage_since ELSE now() END,
    outage_reported = n.lasts AND (p.outage_reported
        OR n.probe AND p.outage_since <= now() - %(reported_after)s * interval '1 second'),
    outage_seen = now(), outage_code = n.code, outage_reason = n.reason, outage_pause = n.pause,
    held_reason = CASE WHEN p.held_until = 'infinity' THEN p.held_reason ELSE n.code || ': ' || n.reason END,
    held_until = CASE WHEN p.held_until = 'infinity' OR n.lasts AND NOT n.probe THEN p.held_until
        ELSE now() + n.pause * (0.75 + 0.25 * random()) * interval '1 second' END
FROM paused n WHERE p.bot_id = n.bot_id
RETURNING p.bot_id, CASE WHEN n.probe AND isfinite(p.held_until)
    THEN extract(epoch FROM p.held_until - now())::float ELSE 0 END"""

_TELL_ENDED = """
WITH ended AS (
    SELECT bot_id, process_name FROM bot_pace
    WHERE bot_id = ANY(%(sent)s) AND outage_reported AND held_until <> 'infinity' ORDER BY bot_id
), noted AS (
    INSERT INTO process_events (process_name, event_type, event_data, severity)
    SELECT process_name, 'bot_available', bot_status_event(bot_id, 'active', NULL), 'info' FROM ended
)
SELECT raise_events(jsonb_agg(bot_status_event(bot_id, 'active', NULL))) FROM ended"""

# A message that was refused for a reason of its own says nothing of the others: the next one finds out at once.
_END = """
WITH locked AS (
    SELECT bot_id FROM bot_pace WHERE bot_id = ANY(%(answered)s) AND outage_since IS NOT NULL ORDER BY bot_id FOR UPDATE
), probed AS (
    UPDATE bot_pace p SET held_until = now() FROM locked
    WHERE p.bot_id = locked.bot_id AND p.bot_id <> ALL(%(sent)s) AND p.held_until <> 'infinity'
)
UPDATE bot_pace p SET outage_since = NULL, outage_seen = NULL, outage_code = NULL, outage_reason = NULL,
    outage_pause = 0, outage_reported = false,
    held_reason = CASE WHEN p.held_until = 'infinity' THEN p.held_reason END,
    held_until = CASE WHEN p.held_until = 'infinity' THEN p.held_until ELSE '-infinity' END
FROM locked WHERE p.bot_id = locked.bot_id AND p.bot_id = ANY(%(sent)s)"""

# A message is as old as what was last done with it: its acceptance, its last own attempt, its being queued once more.
_CLAIM_OLD = """
WITH latest AS (
    SELECT now() - %(hours)s * interval '1 hour' AS at
), old AS (
    SELECT l.bot_id, l.chat_id, o.id, p.outage_code || ': ' || p.outage_reason AS reason
    FROM latest CROSS JOIN bot_pace p JOIN lane l USING (bot_id) CROSS JOIN LATERAL (
        SELECT id, updated_at FROM outbox
        WHERE bot_id = l.bot_id AND chat_id = l.chat_id AND id > l.done AND status <= 'sending' ORDER BY id LIMIT 1) o
    WHERE p.process_name = %(process)s AND (%(bot)s IS NULL OR p.bot_id = %(bot)s) AND l.pending > 0 AND l.claim IS NULL
        AND p.outage_since < latest.at AND o.updated_at < latest.at
    ORDER BY l.bot_id, l.chat_id LIMIT %(limit)s FOR UPDATE OF l SKIP LOCKED
), claimed AS (
    UPDATE lane l SET claim = %(worker)s, head = old.id FROM old WHERE l.bot_id = old.bot_id AND l.chat_id = old.chat_id
)
SELECT bot_id, chat_id, id, reason FROM old"""


def note(connection: Connection, findings: Iterable[Fault | Answer], pauses: Pauses) -> dict[int, float]:
    """Begin, prolong and end outages, as attempts have found. What lasts, and its end, raises an event.

    Returns, by bot, the seconds until the next message finds out whether an outage that was prolonged is over.
    """
    faults = _merged(each for each in findings if isinstance(each, Fault))
    answers = [each for each in findings if isinstance(each, Answer)]
    sent = sorted({each.bot_id for each in answers if each.sent})
    answered = sorted({each.bot_id for each in answers})
    begun = {
        "faults": orjson.dumps([asdict(each) for each in faults if each.bot_id not in sent]).decode(),
        "forgotten": FORGOTTEN_MINUTES,
        "first": pauses.first,
        "longest": pauses.longest,
        "reported_after": pauses.reported_after,
    }
    held: dict[int, float] = {}
    with transaction(connection) as cursor:
        if faults:
            cursor.execute(_REPORT, begun)
        if sent:
            cursor.execute(_TELL_ENDED, {"sent": sent})
        if faults:
            cursor.execute(_BEGIN, begun)
            held = dict(cursor.fetchall())
        if answered:
            cursor.execute(_END, {"sent": sent, "answered": answered})
    return held


def _merged(faults: Iterable[Fault]) -> list[Fault]:
    """One for each number: that of the message which was to find out, if it is among them."""
    chosen: dict[int, Fault] = {}
    for fault in faults:
        known = chosen.get(fault.bot_id)
        if known is None or fault.probe or not known.probe:
            chosen[fault.bot_id] = fault
    return list(chosen.values())


def give_up_old(connection: Connection, outbox: Outbox, hours: float) -> int:
    """Fail messages that have waited for their provider for too long; returns how many."""
    given_up = 0
    while results := _give_up_some(connection, outbox, hours):
        given_up += len(results)
    return given_up


def _give_up_some(connection: Connection, outbox: Outbox, hours: float) -> Sequence[Result]:
    values = {"process": outbox.process, "bot": outbox.bot_id, "worker": outbox.worker, "hours": hours, "limit": BATCH}
    with transaction(connection) as cursor:  # so that nobody sees the claims
        cursor.execute(_CLAIM_OLD, values)
        found = cursor.fetchall()
        results = [
            Result(
                bot_id, chat_id, number, outbox.worker, final=True, status=Status.FAILED, code=UNREACHABLE,
                error=f"it waited for its provider for {hours:g} hours ({reason})",
            )
            for bot_id, chat_id, number, reason in found
        ]  # fmt: skip
        outbox.record(connection, results)
    return results
