"""Alarms: events on the moved side after which a rollout goes back at once, without statistics."""

from collections.abc import Collection, Mapping
from datetime import datetime

from bisnesctl.database.postgres import Connection, query
from bisnesctl.formatting import duration
from bisnesctl.health.guard_file import GuardDecision
from bisnesctl.rollout.figures import Trial
from bisnesctl.rollout.outcomes import CLOCK_SLACK_SECONDS
from bisnesctl.rollout.records import Alarm, AlarmKind

#: Quick deaths of a process in a row that are a crash loop.
CRASH_LOOP_DEATHS = 3
#: Messages or sessions of one kind that are named, at most.
MAX_NAMED = 3

# The lane has gone on past a message that has not ended: nobody will send it. A lane below 0 was reopened.
_LOST = f"""
SELECT o.message_id::text FROM outbox o JOIN lane l USING (bot_id, chat_id)
WHERE o.message_id >= %(first)s::uuid AND o.bot_id = ANY(%(bots)s) AND o.status <= 'sending' AND l.done >= o.id
    AND l.head IS DISTINCT FROM o.id AND o.accepted_at >= %(since)s
LIMIT {MAX_NAMED}"""

# The provider reports a message under another id than that of its answer, so it has the message twice. The first id of
# a message whose link it refused is no other message.
_DOUBLED = f"""
SELECT DISTINCT o.message_id::text
FROM (
    SELECT convert_from(body, 'UTF8')::jsonb AS body FROM webhook_inbox
    WHERE id > %(after)s AND id <= %(until)s AND process_name = 'meta' AND processed_at IS NOT NULL AND error IS NULL
) w CROSS JOIN LATERAL jsonb_path_query(w.body, 'lax $.entry.changes.value') v (value)
    CROSS JOIN LATERAL jsonb_path_query(v.value, 'lax $.statuses[*]') s (status)
    JOIN outbox o ON o.message_id = CASE
        WHEN s.status ->> 'biz_opaque_callback_data' ~ '^[0-9a-f]{{8}}(-[0-9a-f]{{4}}){{3}}-[0-9a-f]{{12}}$'
        THEN (s.status ->> 'biz_opaque_callback_data')::uuid END
    JOIN phone_configs c ON c.id = o.bot_id
WHERE o.bot_id = ANY(%(bots)s) AND o.accepted_at >= %(since)s
    AND o.provider_id <> s.status ->> 'id' AND s.status ->> 'status' IN ('sent', 'delivered', 'read')
    AND c.meta_phone_number_id = v.value #>> '{{metadata,phone_number_id}}'
    AND o.payload #>> '{{media,refused}}' IS DISTINCT FROM s.status ->> 'id'
LIMIT {MAX_NAMED}"""
# The webhooks up to the first one that waits: a later one of the same moment may become visible after it.
_INBOX_END = """
SELECT LEAST((SELECT max(id) FROM webhook_inbox),
    (SELECT min(id) - 1 FROM webhook_inbox WHERE process_name = 'meta' AND processed_at IS NULL))"""
_INBOX_BEGIN = "SELECT COALESCE(max(id), 0) FROM webhook_inbox WHERE received_at < %(since)s"

_SESSIONS = f"""
SELECT c.company_id || '/' || c.phone_index, s.state, COALESCE(s.reason, b.reason, ''), b.kind
FROM wa_session s JOIN phone_configs c ON c.id = s.bot_id
    LEFT JOIN wa_block b ON b.bot_id = s.bot_id AND b.until > now() AND b.since >= %(since)s AND b.kind <> 'operator'
WHERE s.bot_id = ANY(%(bots)s) AND s.wanted
    AND COALESCE(s.bound_number, s.own_number, c.display_phone_number) IS NOT NULL  -- it was linked
    AND (b.bot_id IS NOT NULL OR s.state IN ('FAILED', 'SCAN_QR_CODE') AND s.changed_at >= %(since)s)
LIMIT {MAX_NAMED}"""

_SILENT = """
SELECT instance, extract(epoch FROM now() - last_heartbeat)::float FROM process_instances
WHERE instance = ANY(%(instances)s) AND host = %(host)s AND status <> 'stopped'
    AND last_heartbeat < now() - %(max_age)s * interval '1 second' AND last_heartbeat >= %(since)s
ORDER BY instance"""


def lost_messages(connection: Connection, trial: Trial) -> list[Alarm]:
    """Messages of moved bots that nobody will send."""
    found = [row[0] for row in query(connection, _LOST, _of_messages(trial))]
    return [
        Alarm(AlarmKind.MESSAGE_LOST, f"message {each} waits, but its chat has gone on without it") for each in found
    ]


class DoubleWatch:
    """Looks at the provider's reports for messages that it has twice, each report once."""

    def __init__(self) -> None:
        self._after: int | None = None
        self._since: datetime | None = None

    def doubled_messages(self, connection: Connection, trial: Trial) -> list[Alarm]:
        """Messages of moved bots that the provider has twice, by reports that were not looked at yet."""
        if self._after is None or self._since != trial.since:
            self._after, self._since = query(connection, _INBOX_BEGIN, {"since": trial.since})[0][0], trial.since
        until = query(connection, _INBOX_END)[0][0]
        if until is None or until <= self._after:
            return []
        values = {**_of_messages(trial), "after": self._after, "until": until}
        found = [row[0] for row in query(connection, _DOUBLED, values)]
        if not found:
            self._after = until  # those that were found are found again
        return [
            Alarm(AlarmKind.MESSAGE_DOUBLED, f"message {each} was sent twice: the provider reports it under two ids")
            for each in found
        ]


def lost_sessions(connection: Connection, trial: Trial) -> list[Alarm]:
    """Moved WhatsApp Web numbers that have lost their session since the step began."""
    found = query(connection, _SESSIONS, {"bots": list(trial.moved), "since": trial.since})
    return [
        Alarm(AlarmKind.SESSION_LOST, f"the session of bot {name} was lost: {reason or kind or state}")
        for name, state, reason, kind in found
    ]


def silent_instances(
    connection: Connection, instances: Collection[str], host: str, since: datetime, max_age: float
) -> list[Alarm]:
    """Processes of the moved side that gave a heartbeat since the step began, and give none now.

    `max_age`: seconds for which a heartbeat counts.
    """
    values = {"instances": list(instances), "host": host, "since": since, "max_age": max_age}
    return [
        Alarm(AlarmKind.HEARTBEAT_GONE, f"{name} has given no heartbeat for {duration(age)}")
        for name, age in query(connection, _SILENT, values)
    ]


def crash_loops(decisions: Mapping[str, GuardDecision], instances: Collection[str]) -> list[Alarm]:
    """Processes of the moved side that the guard does not start any more, or that end again and again."""
    return [
        Alarm(AlarmKind.CRASH_LOOP, f"{name} ends again and again: {each.reason}")
        for name, each in sorted(decisions.items())
        if name in instances and (each.decision in ("block", "fail") or each.deaths >= CRASH_LOOP_DEATHS)
    ]


def _of_messages(trial: Trial) -> dict[str, object]:
    first = int((trial.since.timestamp() - CLOCK_SLACK_SECONDS) * 1000)
    return {"bots": list(trial.moved), "since": trial.since, "first": f"{max(first, 0):012x}" + "0" * 20}
