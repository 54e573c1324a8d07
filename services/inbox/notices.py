"""Notices: providers' updates of numbers, accounts and templates, as events for customers and notes for operators."""

from dataclasses import dataclass

import orjson

from services.database.connection import Connection, query
from services.events.payload_sql import NOTICE_EVENT
from services.message import Notice, Scope
from services.outbox.outcome_policy import Hold
from services.outbox.store import NumberedEvent

#: Account updates that end a connection until an operator acts (Webhooks reference, "account_update").
ENDING_UPDATES = {
    "DISABLED_UPDATE",
    "ACCOUNT_VIOLATION",
    "ACCOUNT_DELETED",
    "PARTNER_REMOVED",
    "PARTNER_APP_UNINSTALLED",
}


@dataclass(frozen=True, slots=True)
class PlacedNotice:
    """A notice with its place in the batch and the one bot that it may be about (None: any)."""

    n: int
    notice: Notice
    bot_id: int | None


_ABOUT = """
    JOIN phone_configs c ON c.process_name = %(process)s AND CASE
        WHEN g.bot_id IS NOT NULL THEN c.id = g.bot_id
        WHEN g.number IS NOT NULL THEN c.meta_phone_number_id = g.number
        ELSE c.meta_waba_id = g.account END"""

_RECORD = f"""
WITH input_rows AS (
    SELECT * FROM json_to_recordset(%(rows)s::json) AS g (
        n int, bot_id int, number text, account text, event text, field text, value jsonb, ending bool,
        for_operators bool)
), about AS (
    SELECT g.*, c.id, c.company_id, c.phone_index, '' AS chat_id FROM input_rows g {_ABOUT}
), noted AS (
    INSERT INTO process_events (process_name, event_type, event_data, severity)
    SELECT %(process)s, event, jsonb_build_object('field', field, 'number', number, 'account', account, 'value', value),
           CASE WHEN ending THEN 'error' ELSE 'warning' END
    FROM input_rows WHERE for_operators
), asked AS (
    INSERT INTO bot_check (bot_id) SELECT DISTINCT id FROM about WHERE for_operators ORDER BY id
    ON CONFLICT (bot_id) DO UPDATE SET due = now()
)
SELECT w.n, {NOTICE_EVENT}::text
FROM about w JOIN event_feed USING (company_id) ORDER BY w.n, w.id"""


_ENDED = f"""
SELECT c.id, g.event FROM json_to_recordset(%(rows)s::json) AS g (bot_id int, number text, account text, event text)
{_ABOUT}"""


def record(connection: Connection, process: str, notices: list[PlacedNotice]) -> list[NumberedEvent]:
    """Record the notices, have the bots checked, and return the events."""
    rows = [
        {
            "n": placed.n,
            "bot_id": placed.bot_id,
            "number": placed.notice.number,
            "account": placed.notice.account,
            "event": placed.notice.event,
            "field": placed.notice.field,
            "value": placed.notice.value,
            "ending": ends(placed.notice),
            "for_operators": placed.notice.for_operators,
        }
        for placed in notices
    ]
    return query(connection, _RECORD, {"rows": orjson.dumps(rows).decode(), "process": process})


def holds(connection: Connection, process: str, notices: list[PlacedNotice]) -> list[Hold]:
    """The bots that cannot continue after such notices until an operator acts."""
    rows = [
        {
            "bot_id": placed.bot_id,
            "number": placed.notice.number,
            "account": placed.notice.account,
            "event": placed.notice.value["event"],
        }
        for placed in notices
        if ends(placed.notice)
    ]
    if not rows:
        return []
    found = query(connection, _ENDED, {"rows": orjson.dumps(rows).decode(), "process": process})
    return [Hold(bot, Scope.BOT, None, f"Meta reports {event}: see WhatsApp Manager") for bot, event in found]


def ends(notice: Notice) -> bool:
    """Whether the account cannot be used any more until an operator acts."""
    return notice.event == "account.update" and str(notice.value.get("event")) in ENDING_UPDATES
