"""The SQL of holds: numbers that send nothing for a while, with their queues kept.

`bot_pace.held_until` is the end of a hold: of a throttled number, of one that an operator must act on, or of an outage,
in which a number's provider cannot be reached or serves nobody. When the pause of an outage is over, one message is
claimed and finds out whether the provider serves the number again. All times are the database's.
"""

from collections.abc import Iterable, Sequence

import orjson

from services.database.connection import Connection, query, query_value, transaction
from services.message import Status
from services.outbox.outcome_policy import Answer, Fault, Hold, Pauses, Result
from services.outbox.store import Outbox

#: The code of messages that waited for their provider until they were too old.
UNREACHABLE = "provider_unreachable"
#: Minutes without a failed attempt after which the next one begins another outage: nobody was sending meanwhile.
FORGOTTEN_MINUTES = 10
#: The share by which the pauses of an outage may be shorter.
OUTAGE_JITTER = 0.25
#: Messages that are failed in one transaction because they are too old.
GIVE_UP_BATCH = 500
#: Seconds for which a throttled number stays slow.
SLOW_SECONDS = 60
#: The least share of its rate that a throttled number keeps.
SLOWEST_SHARE = 1 / 16

#: Whether a hold of a row `p` of bot_pace has a cause that does not pass by itself within seconds.
_HELD = "(p.held_until = 'infinity' OR p.hold_code IS NOT NULL AND p.held_until > now())"

# A hold that does not end within seconds is reported to the customer and in process_events. Locks: event_feed first.
_REPORT_HELD = f"""
WITH held AS (
    SELECT DISTINCT ON (h.bot_id) h.bot_id, h.reason, p.process_name
    FROM json_to_recordset(%(holds)s::json) AS h (bot_id int, after float, reason text, code text)
    JOIN bot_pace p USING (bot_id) WHERE (h.after IS NULL OR h.after > 0 AND h.code IS NOT NULL) AND NOT {_HELD}
), noted AS (
    INSERT INTO process_events (process_name, event_type, event_data, severity)
    SELECT process_name, 'bot_waiting', bot_status_event(bot_id, 'waiting', reason), 'error' FROM held
)
SELECT raise_events(jsonb_agg(bot_status_event(bot_id, 'waiting', reason))) FROM held"""
# A cause that comes back within a day after it was lifted is counted: the next check does not end the hold at once.
_HOLD = f"""
WITH h AS (
    SELECT * FROM json_to_recordset(%(holds)s::json) AS h (
        bot_id int, scope text, after float, reason text, slower bool, code text)
), targets AS (
    SELECT bot_id, after, reason, slower, code FROM h
    UNION ALL
    SELECT other.id, after, reason, slower, code FROM h JOIN phone_configs c ON c.id = h.bot_id
    JOIN phone_configs other ON other.meta_waba_id = c.meta_waba_id AND other.process_name = c.process_name
        AND other.id <> c.id
    WHERE h.scope = 'account' AND c.meta_waba_id <> ''
), merged AS (
    SELECT bot_id, CASE WHEN bool_or(after IS NULL) THEN NULL ELSE max(after) END AS after,
           (array_agg(reason ORDER BY code IS NULL, after DESC NULLS FIRST))[1] AS reason,
           (array_agg(code ORDER BY code IS NULL, after DESC NULLS FIRST))[1] AS code, bool_or(slower) AS slower
    FROM targets GROUP BY bot_id
), locked AS (
    SELECT bot_id FROM bot_pace WHERE bot_id IN (SELECT bot_id FROM merged) ORDER BY bot_id FOR UPDATE
)
UPDATE bot_pace p SET
    held_reason = CASE WHEN p.held_until = 'infinity' OR {_HELD} AND m.code IS NULL THEN p.held_reason
                       ELSE m.reason END,
    hold_code = CASE WHEN p.held_until = 'infinity' OR {_HELD} AND m.code IS NULL THEN p.hold_code ELSE m.code END,
    held_at = CASE WHEN {_HELD} THEN p.held_at ELSE now() END,
    hold_count = CASE WHEN m.code IS NULL OR {_HELD} THEN p.hold_count
                      WHEN m.code = p.lifted_code AND p.lifted_at > now() - interval '1 day' THEN p.hold_count + 1
                      ELSE 0 END,
    held_until = GREATEST(
        p.held_until, CASE WHEN m.after IS NULL THEN 'infinity' ELSE now() + m.after * interval '1 second' END),
    slow_factor = CASE WHEN NOT m.slower THEN p.slow_factor WHEN p.slow_until <= now() THEN 0.5
                       ELSE GREATEST(p.slow_factor / 2, %(slowest)s) END,
    slow_until = CASE WHEN m.slower THEN now() + %(slow)s * interval '1 second' ELSE p.slow_until END
FROM merged m JOIN locked USING (bot_id) WHERE p.bot_id = m.bot_id"""

_EXPIRED = """
SELECT p.bot_id, c.company_id FROM bot_pace p JOIN phone_configs c ON c.id = p.bot_id
WHERE p.process_name = %(process)s AND (%(bot)s IS NULL OR p.bot_id = %(bot)s)
    AND p.hold_code IS NOT NULL AND p.held_until <= now() AND isfinite(p.held_until)"""
# Of several workers, the first one reports it; a paused bot is not active. Locks: event_feed, bot_pace.
_LOCK_FEEDS = "SELECT FROM event_feed WHERE company_id = ANY(%(companies)s) ORDER BY company_id FOR UPDATE"
_END_EXPIRED = """
WITH ended AS (
    UPDATE bot_pace p SET held_until = '-infinity', held_reason = NULL, hold_code = NULL, held_at = NULL
    FROM bot_pace former
    WHERE p.bot_id = ANY(%(bots)s) AND former.bot_id = p.bot_id
        AND p.hold_code IS NOT NULL AND p.held_until <= now() AND isfinite(p.held_until)
    RETURNING p.bot_id, p.process_name, former.held_reason AS reason, p.paused_until <= now() AS unpaused
), noted AS (
    INSERT INTO process_events (process_name, event_type, event_data, severity)
    SELECT process_name, 'bot_active', bot_status_event(bot_id, 'active', reason), 'info' FROM ended ORDER BY bot_id
), raised AS (
    SELECT raise_events(jsonb_agg(bot_status_event(bot_id, 'active', NULL) ORDER BY bot_id)) FROM ended WHERE unpaused
)
SELECT count(*) FROM ended CROSS JOIN raised"""

_LASTS = "p.outage_since IS NOT NULL AND p.outage_seen > now() - %(forgotten)s * interval '1 minute'"
_FAULTS = """
    SELECT * FROM json_to_recordset(%(faults)s::json) AS f (
        bot_id int, code text, reason text, probe bool, least float)"""

# An outage that lasts, and its end, is reported to customers and in process_events. Locks: every event_feed at once.
_REPORT = f"""
WITH lasting AS (
    SELECT p.bot_id, p.process_name, f.code || ': ' || f.reason AS reason
    FROM ({_FAULTS}) f JOIN bot_pace p USING (bot_id)
    WHERE f.probe AND NOT p.outage_reported AND {_LASTS}
        AND p.outage_since <= now() - %(reported_after)s * interval '1 second'
), ended AS (
    SELECT bot_id, process_name FROM bot_pace p
    WHERE bot_id = ANY(%(sent)s) AND outage_reported AND NOT {_HELD}
), reports AS (
    SELECT bot_id, process_name, 'bot_unavailable' AS name, 'error' AS severity,
           bot_status_event(bot_id, 'unavailable', reason) AS event FROM lasting
    UNION ALL
    SELECT bot_id, process_name, 'bot_available', 'info', bot_status_event(bot_id, 'active', NULL) FROM ended
), noted AS (
    INSERT INTO process_events (process_name, event_type, event_data, severity)
    SELECT process_name, name, event, severity FROM reports
)
SELECT raise_events(jsonb_agg(event ORDER BY bot_id)) FROM reports"""

# At once and in order, so that workers with findings of the same numbers do not deadlock.
_LOCK = "SELECT FROM bot_pace WHERE bot_id = ANY(%(bots)s) ORDER BY bot_id FOR UPDATE"

# Of many messages that fail together, only the one that was to find out makes the pause longer.
_BEGIN = f"""
WITH known AS (
    SELECT f.*, p.outage_pause, COALESCE({_LASTS}, false) AS lasts FROM ({_FAULTS}) f JOIN bot_pace p USING (bot_id)
), paused AS (
    SELECT *, GREATEST(least, CASE WHEN NOT lasts THEN %(first)s
        WHEN probe THEN LEAST(outage_pause * 2, %(longest)s) ELSE outage_pause END) AS pause FROM known
)
UPDATE bot_pace p SET
    outage_since = CASE WHEN n.lasts THEN p.outage_since ELSE now() END,
    outage_reported = n.lasts AND (p.outage_reported
        OR n.probe AND p.outage_since <= now() - %(reported_after)s * interval '1 second'),
    outage_seen = now(), outage_code = n.code, outage_reason = n.reason, outage_pause = n.pause,
    held_reason = CASE WHEN {_HELD} THEN p.held_reason ELSE n.code || ': ' || n.reason END,
    held_until = CASE WHEN {_HELD} OR n.lasts AND NOT n.probe THEN p.held_until
        ELSE now() + n.pause * (1 - {OUTAGE_JITTER} * random()) * interval '1 second' END
FROM paused n WHERE p.bot_id = n.bot_id
RETURNING p.bot_id, CASE WHEN n.probe AND isfinite(p.held_until)
    THEN extract(epoch FROM p.held_until - now())::float ELSE 0 END"""

# A message that was refused for a reason of its own says nothing of the others: the next one finds out at once.
_END = f"""
WITH probed AS (
    UPDATE bot_pace p SET held_until = now()
    WHERE bot_id = ANY(%(answered)s) AND bot_id <> ALL(%(sent)s) AND outage_since IS NOT NULL AND NOT {_HELD}
)
UPDATE bot_pace p SET outage_since = NULL, outage_seen = NULL, outage_code = NULL, outage_reason = NULL,
    outage_pause = 0, outage_reported = false,
    held_reason = CASE WHEN {_HELD} THEN p.held_reason END,
    held_until = CASE WHEN {_HELD} THEN p.held_until ELSE '-infinity' END
WHERE p.bot_id = ANY(%(sent)s) AND p.outage_since IS NOT NULL"""

# The age of a message counts from its acceptance, its last own attempt, its last return to the queue, or the end of its
# bot's last pause.
_CLAIM_OLD = """
WITH latest AS (
    SELECT now() - %(hours)s * interval '1 hour' AS at
), old AS (
    SELECT l.bot_id, l.chat_id, o.id, p.outage_code || ': ' || p.outage_reason AS reason
    FROM latest CROSS JOIN bot_pace p JOIN lane l USING (bot_id) CROSS JOIN LATERAL (
        SELECT id, updated_at FROM outbox
        WHERE bot_id = l.bot_id AND chat_id = l.chat_id AND id > l.done AND status <= 'sending' ORDER BY id LIMIT 1) o
    WHERE p.process_name = %(process)s AND (%(bot)s IS NULL OR p.bot_id = %(bot)s) AND l.pending > 0 AND l.claim IS NULL
        AND GREATEST(p.outage_since, p.paused_until) < latest.at AND p.outage_since IS NOT NULL
        AND o.updated_at < latest.at
    ORDER BY l.bot_id, l.chat_id LIMIT %(limit)s FOR UPDATE OF l SKIP LOCKED
), claimed AS (
    UPDATE lane l SET claim = %(worker)s, head = old.id FROM old WHERE l.bot_id = old.bot_id AND l.chat_id = old.chat_id
)
SELECT bot_id, chat_id, id, reason FROM old"""


def hold(connection: Connection, holds: list[Hold]) -> None:
    """Hold numbers and accounts, in one transaction or the caller's; one that does not end soon raises an event."""
    if not holds:
        return
    rows = orjson.dumps(holds).decode()
    with connection.cursor() as cursor:
        cursor.execute(f"{_REPORT_HELD};{_HOLD}", {"holds": rows, "slow": SLOW_SECONDS, "slowest": SLOWEST_SHARE})


def lift(connection: Connection, bot_ids: list[int], codes: Sequence[str] | None = None) -> list[int]:
    """End the holds with these causes, or with any cause, and report it; returns the bots that were held."""
    return list(query_value(connection, "SELECT lift_holds(%s, %s)", (bot_ids, codes and list(codes))) or ())


def end_expired(connection: Connection, outbox: Outbox) -> int:
    """End the holds with a cause whose time is over, and report it once; returns how many.

    The messages of such a number are sent from that time on in any case.
    """
    found = query(connection, _EXPIRED, {"process": outbox.channel, "bot": outbox.bot_id})
    if not found:
        return 0
    bots, companies = [row[0] for row in found], sorted({row[1] for row in found})
    with transaction(connection) as cursor:
        cursor.execute(_LOCK_FEEDS, {"companies": companies})
        cursor.execute(_LOCK, {"bots": bots})
        cursor.execute(_END_EXPIRED, {"bots": bots})
        return int(cursor.fetchall()[0][0])


def note_outages(connection: Connection, findings: Iterable[Fault | Answer], pauses: Pauses) -> dict[int, float]:
    """Begin, prolong and end outages by what attempts have found. One that lasts raises an event, as does its end.

    Returns, by bot, the seconds until the next message finds out whether an outage that was prolonged is over.
    """
    faults = _merged(each for each in findings if isinstance(each, Fault))
    answers = [each for each in findings if isinstance(each, Answer)]
    sent = sorted({each.bot_id for each in answers if each.sent})
    answered = sorted({each.bot_id for each in answers})
    values = {
        "faults": orjson.dumps([each for each in faults if each.bot_id not in sent]).decode(),
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
        cursor.execute(_REPORT, values)
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


def fail_old(connection: Connection, outbox: Outbox, hours: float) -> int:
    """Fail messages that have waited for their provider for too long; returns how many."""
    failed = 0
    while some := _fail_some_old(connection, outbox, hours):
        failed += some
    return failed


def _fail_some_old(connection: Connection, outbox: Outbox, hours: float) -> int:
    values = {
        "process": outbox.channel,
        "bot": outbox.bot_id,
        "worker": outbox.worker,
        "hours": hours,
        "limit": GIVE_UP_BATCH,
    }
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
    return len(results)
