"""The SQL of outages: numbers whose provider cannot be reached, or serves nobody just now.

An outage holds its number by `bot_pace.held_until`, as every hold does. When a pause is over, one message is claimed
and finds out whether the provider serves the number again. All times are the database's.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict

import orjson

from services.database.connection import Connection, transaction
from services.message import Status
from services.outbox.outage_policy import Answer, Fault, Pauses
from services.outbox.store import Outbox, Result

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

# What lasts, and its end, is told to customers and to whoever reads process_events. Locks: every event_feed at once.
_TELL = f"""
WITH lasting AS (
    SELECT p.bot_id, p.process_name, f.code || ': ' || f.reason AS reason
    FROM ({_GIVEN}) f JOIN bot_pace p USING (bot_id)
    WHERE f.probe AND NOT p.outage_reported AND {_LASTS}
        AND p.outage_since <= now() - %(reported_after)s * interval '1 second'
), ended AS (
    SELECT bot_id, process_name FROM bot_pace
    WHERE bot_id = ANY(%(sent)s) AND outage_reported AND held_until <> 'infinity'
), told AS (
    SELECT bot_id, process_name, 'bot_unavailable' AS name, 'error' AS severity,
           bot_status_event(bot_id, 'unavailable', reason) AS event FROM lasting
    UNION ALL
    SELECT bot_id, process_name, 'bot_available', 'info', bot_status_event(bot_id, 'active', NULL) FROM ended
), noted AS (
    INSERT INTO process_events (process_name, event_type, event_data, severity)
    SELECT process_name, name, event, severity FROM told
)
SELECT raise_events(jsonb_agg(event ORDER BY bot_id)) FROM told"""

# At once and in order, so that workers with findings of the same numbers do not deadlock.
_LOCK = "SELECT FROM bot_pace WHERE bot_id = ANY(%(bots)s) ORDER BY bot_id FOR UPDATE"

# Of many messages that fail together, only the one that was to find out makes the pause longer.
_BEGIN = f"""
WITH known AS (
    SELECT f.*, p.outage_pause, COALESCE({_LASTS}, false) AS lasts FROM ({_GIVEN}) f JOIN bot_pace p USING (bot_id)
), paused AS (
    SELECT *, GREATEST(least, CASE WHEN NOT lasts THEN %(first)s
        WHEN probe THEN LEAST(outage_pause * 2, %(longest)s) ELSE outage_pause END) AS pause FROM known
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

# A message that was refused for a reason of its own says nothing of the others: the next one finds out at once.
_END = """
WITH probed AS (
    UPDATE bot_pace SET held_until = now()
    WHERE bot_id = ANY(%(answered)s) AND bot_id <> ALL(%(sent)s) AND outage_since IS NOT NULL
        AND held_until <> 'infinity'
)
UPDATE bot_pace p SET outage_since = NULL, outage_seen = NULL, outage_code = NULL, outage_reason = NULL,
    outage_pause = 0, outage_reported = false,
    held_reason = CASE WHEN p.held_until = 'infinity' THEN p.held_reason END,
    held_until = CASE WHEN p.held_until = 'infinity' THEN p.held_until ELSE '-infinity' END
WHERE p.bot_id = ANY(%(sent)s) AND p.outage_since IS NOT NULL"""

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
    values = {
        "faults": orjson.dumps([asdict(each) for each in faults if each.bot_id not in sent]).decode(),
        "sent": sent,
        "answered": answered,
        "bots": sorted({each.bot_id for each in faults}.union(answered)),
        "forgotten": FORGOTTEN_MINUTES,
        "first": pauses.first,
        "longest": pauses.longest,
        "reported_after": pauses.reported_after,
    }
    held: dict[int, float] = {}
    with transaction(connection) as cursor:
        cursor.execute(_TELL, values)
        cursor.execute(_LOCK, values)
        if faults:
            cursor.execute(_BEGIN, values)
            held = dict(cursor.fetchall())
        if answered:
            cursor.execute(_END, values)
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
