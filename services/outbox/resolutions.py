"""Unknown messages: what an operator decided about them is recorded, and those that stay unknown are reported."""

from typing import Any

from services.database.connection import Connection, query, transaction
from services.message import Status, StatusUpdate
from services.outbox.reports import Report, apply_reports, raise_events
from services.outbox.store import Outbox

#: Decisions that are recorded in one transaction.
RESOLVE_BATCH = 500
#: The code of a message of which an operator said what became of it.
RESOLVED = "resolved"
#: Minutes after which a message that is still unknown is reported to operators.
LASTING_MINUTES = 5

# A message whose bot was removed is recorded by whichever channel comes first.
_OURS = """(c.id IS NULL AND %(bot)s::int IS NULL
        OR c.process_name = %(process)s AND (%(bot)s::int IS NULL OR c.id = %(bot)s))"""
_RESOLVED = f"""
SELECT u.message_id::text, u.resolution, o.company_id, COALESCE(o.provider_id, ''), extract(epoch FROM now())::float
FROM unknown_message u LEFT JOIN outbox o USING (message_id) LEFT JOIN phone_configs c ON c.id = o.bot_id
WHERE u.resolution IS NOT NULL AND {_OURS}
ORDER BY o.bot_id, o.chat_id, o.id LIMIT {RESOLVE_BATCH} FOR UPDATE OF u SKIP LOCKED"""
_FORGET = "DELETE FROM unknown_message WHERE message_id = ANY(%s::uuid[])"
_REPORT_LASTING = f"""
WITH lasting AS (
    SELECT u.message_id, o.bot_id, o.status FROM unknown_message u JOIN outbox o USING (message_id)
        JOIN phone_configs c ON c.id = o.bot_id
    WHERE u.reported_at IS NULL AND u.since < now() - %(minutes)s * interval '1 minute' AND {_OURS}
    FOR UPDATE OF u SKIP LOCKED
), reported AS (
    UPDATE unknown_message u SET reported_at = now() FROM lasting l WHERE u.message_id = l.message_id
)
INSERT INTO process_events (process_name, event_type, event_data, severity)
SELECT %(process)s, 'messages_unknown', jsonb_build_object('company', c.company_id, 'phoneIndex', c.phone_index,
    'messages', count(*), 'resolve', 'bisnesctl dead-letters resolve'), 'warning'
FROM lasting l JOIN phone_configs c ON c.id = l.bot_id WHERE l.status = 'unknown'
GROUP BY c.company_id, c.phone_index"""


def record_resolutions(connection: Connection, outbox: Outbox) -> int:
    """Record what operators decided about unknown messages, as if their provider had reported it; returns how many."""
    values = {"process": outbox.channel, "bot": outbox.bot_id}
    recorded = 0
    while True:
        with transaction(connection) as cursor:
            cursor.execute(_RESOLVED, values)
            found = cursor.fetchall()
            if not found:
                return recorded
            reports = [_report(n, *row) for n, row in enumerate(found)]
            raise_events(connection, apply_reports(connection, outbox.channel, outbox.media_base, reports))
            cursor.execute(_FORGET, ([row[0] for row in found],))
        recorded += len(found)


def report_lasting(connection: Connection, outbox: Outbox) -> None:
    """Report messages that stay unknown, once, as a process event for each number."""
    query(connection, _REPORT_LASTING, {"process": outbox.channel, "bot": outbox.bot_id, "minutes": LASTING_MINUTES})


def _report(n: int, message_id: str, resolution: str, company: Any, provider_id: str, at: float) -> Report:
    failed = resolution == Status.FAILED
    reason = "an operator decided that it was not sent" if failed else None
    update = StatusUpdate(provider_id, Status(resolution), at, message_id, RESOLVED if failed else None, reason)
    return Report(n, update, [company])
