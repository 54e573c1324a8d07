"""How a session is, written down wherever somebody reads it: one transaction, whoever tells it.

The customer's event, `wa_session`, what the old front-ends read, and a note.
"""

from services.connectors.wwebjs.states.failed_starts import StartEvent, count
from services.database.connection import Connection, transaction

#: What the old tables call a state.
_OLD = {
    "STOPPED": "disconnected",
    "STARTING": "connecting",
    "SCAN_QR_CODE": "qr",
    "WORKING": "connected",
    "FAILED": "failed",
}

_FAILED_STARTS = "SELECT failed_starts FROM wa_session WHERE bot_id = %s FOR UPDATE"

# Locks event_feed before the session's row, as all others do.
_EVENT = """
SELECT raise_events(jsonb_build_array(session_status_event(%(bot)s, %(state)s, %(reason)s)))
WHERE NOT EXISTS (SELECT FROM wa_session WHERE bot_id = %(bot)s AND state = %(state)s)"""
_CHANGE = """
WITH changed AS (
    UPDATE wa_session SET state = %(state)s, reason = %(reason)s,
        changed_at = CASE WHEN state = %(state)s THEN changed_at ELSE now() END,
        failed_starts = %(failed)s,
        qr = NULL, qr_expires_at = NULL, pairing_code = NULL, pairing_expires_at = NULL,
        own_number = CASE WHEN %(state)s = 'SCAN_QR_CODE' THEN NULL ELSE COALESCE(%(number)s, own_number) END,
        bound_number = COALESCE(bound_number, %(number)s)
    WHERE bot_id = %(bot)s RETURNING bot_id
), named AS (
    UPDATE phone_configs SET status = %(old)s, updated_at = now(),
        display_phone_number = COALESCE(display_phone_number, %(number)s)
    FROM changed WHERE id = bot_id RETURNING id, company_id, phone_index, connection_type
), told AS (
    UPDATE phone_status p SET status = %(old)s, updated_at = now(),
        last_seen = CASE WHEN %(alive)s THEN now() ELSE p.last_seen END,
        metadata = COALESCE(metadata, '{}') - 'qrCode', phone_number = COALESCE(%(number)s, p.phone_number)
    FROM named n WHERE p.company_id = n.company_id AND p.phone_index = n.phone_index::text RETURNING p.id
), made AS (
    INSERT INTO phone_status (company_id, phone_index, status, last_seen, connection_type, phone_number)
    SELECT company_id, phone_index::text, %(old)s, now(), COALESCE(connection_type, 'wwebjs'), %(number)s FROM named
    WHERE %(alive)s AND NOT EXISTS (SELECT FROM phone_status p WHERE p.company_id = named.company_id
        AND p.phone_index = named.phone_index::text)
)
INSERT INTO process_events (process_name, event_type, event_data, severity)
SELECT 'wwebjs', 'session_status', session_status_event(id, %(state)s, %(reason)s), %(severity)s FROM named"""


def announce(
    connection: Connection, bot_id: int, state: str, reason: str | None, *, number: str | None = None, alive: bool,
    start: StartEvent = StartEvent.INTERRUPTED,
) -> None:  # fmt: skip
    """The session of a bot is in this state from now on. `number`: digits, once it is linked.

    `alive`: whether its own process says so, rather than somebody who found that it does not run. `start`: what that
    means for its start.
    """
    values = {
        "bot": bot_id, "state": state, "reason": reason, "number": number, "old": _OLD[state], "alive": alive,
        "severity": "error" if state == "FAILED" else "info",
    }  # fmt: skip
    with transaction(connection) as cursor:
        if state == "WORKING":
            cursor.execute("SELECT release_bot(%s)", (bot_id,))
        cursor.execute(_EVENT, values)
        cursor.execute(_FAILED_STARTS, (bot_id,))
        (failed,) = cursor.fetchone() or (0,)
        cursor.execute(_CHANGE, values | {"failed": count(failed, start)})
