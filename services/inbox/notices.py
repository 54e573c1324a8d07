"""Notices: providers' updates of numbers, accounts and templates, as events for customers and notes for operators."""

import time
from dataclasses import dataclass
from typing import Any

import orjson

from services.database.connection import Connection, query
from services.events.payload_sql import NOTICE_EVENT
from services.message import Holding, Lifting, Notice, NoticeEffect, Scope
from services.outbox import holds
from services.outbox.outcome_policy import Hold
from services.outbox.reports import NumberedEvent


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
        ELSE c.meta_waba_id = g.account AND (
            g.phone IS NULL OR g.phone = c.meta_phone_number_id OR COALESCE(c.display_phone_number, '') = ''
            OR g.phone = regexp_replace(c.display_phone_number, '[^0-9]', '', 'g')) END"""
_COLUMNS = "n int, bot_id int, number text, account text, phone text"

_RECORD = f"""
WITH input_rows AS (
    SELECT * FROM json_to_recordset(%(rows)s::json) AS g (
        {_COLUMNS}, event text, field text, value jsonb, severity text, for_operators bool)
), about AS (
    SELECT g.*, c.id, c.company_id, c.phone_index, '' AS chat_id FROM input_rows g {_ABOUT}
), noted AS (
    INSERT INTO process_events (process_name, event_type, event_data, severity)
    SELECT %(process)s, event, jsonb_build_object('field', field, 'number', number, 'account', account, 'value', value),
           severity
    FROM input_rows WHERE for_operators
), asked AS (
    INSERT INTO bot_check (bot_id) SELECT DISTINCT id FROM about WHERE for_operators ORDER BY id
    ON CONFLICT (bot_id) DO UPDATE SET due = now()
)
SELECT w.n, {NOTICE_EVENT}::text
FROM about w JOIN event_feed USING (company_id) ORDER BY w.n, w.id"""


_CONCERNED = f"""
SELECT g.n, c.id FROM json_to_recordset(%(rows)s::json) AS g ({_COLUMNS}) {_ABOUT} ORDER BY g.n"""


def record(connection: Connection, process: str, notices: list[PlacedNotice]) -> list[NumberedEvent]:
    """Record the notices, have the bots checked, and return the events."""
    rows = [
        _address(placed)
        | {
            "event": placed.notice.event,
            "field": placed.notice.field,
            "value": placed.notice.value,
            "severity": placed.notice.severity,
            "for_operators": placed.notice.for_operators,
        }
        for placed in notices
    ]
    return query(connection, _RECORD, {"rows": orjson.dumps(rows).decode(), "process": process})


def apply_effects(connection: Connection, process: str, notices: list[PlacedNotice]) -> None:
    """Hold the bots that their provider no longer serves, and end the holds of those that it serves again.

    Locks: event_feed, bot_pace.
    """
    effects = {placed.n: effect for placed in notices if (effect := placed.notice.effect) is not None}
    if not effects:
        return
    rows = orjson.dumps([_address(placed) for placed in notices if placed.n in effects]).decode()
    outcome: dict[int, NoticeEffect] = {}
    for n, bot in query(connection, _CONCERNED, {"rows": rows, "process": process}):
        outcome[bot] = _combined(outcome.get(bot), effects[n])
    now = time.time()
    holds.hold(
        connection,
        [
            Hold(bot, Scope.BOT, None if effect.until is None else effect.until - now, effect.reason, code=effect.code)
            for bot, effect in outcome.items()
            if isinstance(effect, Holding) and (effect.until is None or effect.until > now)
        ],
    )
    lifted: dict[tuple[str, ...] | None, list[int]] = {}
    for bot, effect in outcome.items():
        if isinstance(effect, Lifting):
            lifted.setdefault(effect.codes, []).append(bot)
    for codes, bots in lifted.items():
        holds.lift(connection, bots, codes)


def _combined(earlier: NoticeEffect | None, later: NoticeEffect) -> NoticeEffect:
    """The effect of two notices of a bot. A good update about some causes says nothing about the others."""
    if isinstance(earlier, Holding) and isinstance(later, Lifting) and later.codes and earlier.code not in later.codes:
        return earlier
    return later


def _address(placed: PlacedNotice) -> dict[str, Any]:
    notice = placed.notice
    return {
        "n": placed.n,
        "bot_id": placed.bot_id,
        "number": notice.number,
        "account": notice.account,
        "phone": notice.phone,
    }
