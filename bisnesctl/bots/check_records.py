"""Results of checks in the database, and the bots that need an operator."""

import contextlib
import json
from dataclasses import asdict, dataclass, replace

from bisnesctl import moments
from bisnesctl.bots import outages, web_sessions
from bisnesctl.bots.provider_report import Level, Problem, ProviderReport, worst_level
from bisnesctl.database import postgres
from bisnesctl.database.postgres import Connection, query
from bisnesctl.errors import BisnesError
from bisnesctl.settings import Settings

_BEFORE = """
SELECT COALESCE(k.status, 'unknown'), COALESCE(k.report -> 'problems', '[]'), c.process_name,
       COALESCE(p.held_until = 'infinity', false)
FROM phone_configs c LEFT JOIN bot_check k ON k.bot_id = c.id LEFT JOIN bot_pace p ON p.bot_id = c.id
WHERE c.id = %s"""

_EVENT = "SELECT raise_events(jsonb_build_array(bot_status_event(%s, %s, %s)))"

_NOTE = """
INSERT INTO process_events (process_name, event_type, event_data, severity)
VALUES (%s, 'bot_check', bot_status_event(%s, %s, %s), %s)"""

_STORE = """
INSERT INTO bot_check AS k (bot_id, checked_at, status, report)
SELECT id, now(), %(status)s, %(report)s::jsonb FROM phone_configs WHERE id = %(bot)s
ON CONFLICT (bot_id) DO UPDATE SET checked_at = now(), status = excluded.status, report = excluded.report"""

# A cause that came back is left alone for longer each time, a word of the provider until its other servers know it.
_LIFT = """
SELECT lift_holds(ARRAY[bot_id]) FROM bot_pace
WHERE bot_id = %(bot)s AND hold_code IS NOT NULL AND held_until = 'infinity' AND (%(at_once)s OR held_at <= now()
    - CASE WHEN starts_with(hold_code, 'account_update.') THEN %(notice_minutes)s ELSE 0 END * interval '1 minute'
    - CASE WHEN hold_count > 0 THEN LEAST(%(first)s * 2.0 ^ LEAST(hold_count - 1, 20), %(longest)s) ELSE 0 END
        * interval '1 minute')"""

_TROUBLED = """
SELECT c.company_id, c.phone_index, CASE WHEN h.held THEN 'waiting' ELSE k.status END,
       CASE WHEN h.held THEN p.held_reason ELSE
           concat_ws('; ', k.report #>> '{problems,0,text}', NULLIF(k.report #>> '{problems,0,next}', '')) END
FROM phone_configs c LEFT JOIN bot_check k ON k.bot_id = c.id LEFT JOIN bot_pace p ON p.bot_id = c.id
    CROSS JOIN LATERAL (
        SELECT p.held_until = 'infinity' OR p.hold_code IS NOT NULL AND p.held_until > now() AS held) h
WHERE h.held OR k.status IN ('warning', 'error')"""

# A bot that an operator paused may have another trouble as well.
_PAUSED = """
SELECT c.company_id, c.phone_index, p.paused_by, CASE WHEN isfinite(p.paused_until)
           THEN extract(epoch FROM p.paused_until)::float END, p.paused_reason
FROM bot_pace p JOIN phone_configs c ON c.id = p.bot_id WHERE p.paused_until > now()
ORDER BY c.company_id, c.phone_index"""

#: The status of a bot that an operator paused, which is no trouble.
PAUSED = "paused"
#: The status of a bot whose provider is unavailable.
UNAVAILABLE = "unavailable"

#: Minutes for which a hold by a notice of the provider stays, regardless of checks.
NOTICE_HOLD_MINUTES = 10
#: Minutes for which a hold stays whose cause came back after it was lifted: the first time, doubled each time, at most.
FIRST_RETURN_MINUTES = 15
LONGEST_RETURN_MINUTES = 360

#: Seconds to connect, and for each statement, so that `status` is quick.
DATABASE_TIMEOUT_SECONDS = 2

_SEVERITY = {Level.OK: "info", Level.WARNING: "warning", Level.ERROR: "error"}


@dataclass(frozen=True, slots=True)
class BotTrouble:
    """A bot that needs an operator, now or soon."""

    company: str
    phone: int
    #: waiting (held), unavailable (its provider), error, warning, paused (by an operator), or a status of
    #: `WebSession.trouble`, such as note.
    status: str
    reason: str
    hint: str = "bisnesctl bots verify"  # the command that shows more, or solves it
    others: int = 0  # other bots with the same cause

    @property
    def name(self) -> str:
        """The bot's name, <companyId>-<phoneIndex>, with the number of other bots."""
        return f"{self.company}-{self.phone}{f' and {self.others} more' if self.others else ''}"


def record(connection: Connection, bot_id: int, report: ProviderReport, found: list[Problem]) -> bool:
    """Stores the result of a check; returns whether it changed.

    A change is written to process_events, and reported to the customer as the event `bot.status`, unless the bot is
    held, which was reported already. Locks in the usual order: event_feed, then bot_check.
    """
    with connection:
        rows = query(connection, _BEFORE, (bot_id,))
        if not rows:
            return False  # the bot was removed meanwhile
        before, known, process, held = rows[0]
        now = worst_level(found)
        known_codes = [each["code"] for each in known] if isinstance(known, list) else []
        changed = known_codes != [each.code for each in found]
        if changed:
            state, reason = "active" if now is Level.OK else now.value, str(found[0]) if found else None
            if not held:
                query(connection, _EVENT, (bot_id, state, reason))
            query(connection, _NOTE, (process, bot_id, state, reason, _SEVERITY[now]))
        stored = {**asdict(report), "problems": [asdict(each) for each in found]}
        query(connection, _STORE, {"bot": bot_id, "status": now.value, "report": json.dumps(stored)})
    return changed or before == "unknown"


def lift_hold(connection: Connection, bot_id: int, at_once: bool) -> bool:
    """Ends the hold of a bot whose provider says that it can send; returns whether it was held.

    `at_once`: an operator asked for the check. Otherwise a hold whose cause came back stays for some time.
    """
    values = {
        "bot": bot_id,
        "at_once": at_once,
        "notice_minutes": NOTICE_HOLD_MINUTES,
        "first": FIRST_RETURN_MINUTES,
        "longest": LONGEST_RETURN_MINUTES,
    }
    with connection:
        return any(lifted for (lifted,) in query(connection, _LIFT, values))


def troubled(settings: Settings) -> list[BotTrouble]:
    """The bots that need an operator, as `troubled_in` finds them.

    Empty if the database is unavailable or not migrated, which other checks report.
    """
    with (
        contextlib.suppress(BisnesError),
        postgres.connected(settings.database_dsn, timeout=DATABASE_TIMEOUT_SECONDS) as connection,
    ):
        return troubled_in(connection, settings.max_heartbeat_age / 1000)
    return []


def troubled_in(connection: Connection, max_heartbeat_age: float) -> list[BotTrouble]:
    """The bots that need an operator: those that are held, whose provider is unavailable, whose last check found a
    problem, or whose WhatsApp Web session does not work. Those that an operator paused come first.

    `max_heartbeat_age`: seconds after which a session is silent.
    """
    rows = query(connection, _TROUBLED)
    found = {(row[0], row[1]): BotTrouble(row[0], row[1], row[2], row[3] or "") for row in rows}
    for company, phone, count in outages.unknown(connection):
        found.setdefault((company, phone), _unknown(company, phone, count))
    for each in outages.find(connection):
        found[each.company, each.phone] = BotTrouble(
            each.company, each.phone, UNAVAILABLE, str(each), "bisnesctl bots list", each.others
        )
    for session in web_sessions.find(connection):
        if trouble := session.trouble(max_heartbeat_age):  # the cause of a hold, if there is one
            found[session.company, session.phone] = BotTrouble(session.company, session.phone, *trouble)
    pauses = [_pause(*row) for row in query(connection, _PAUSED)]
    return [*pauses, *_with_notes_together([found[each] for each in sorted(found)])]


def _pause(company: str, phone: int, by: str, until: float | None, reason: str | None) -> BotTrouble:
    end = "it is resumed" if until is None else moments.shown(until)
    text = ": ".join(filter(None, (f"by {by} until {end}", reason)))
    return BotTrouble(company, phone, PAUSED, text, f"bisnesctl queue resume {company}/{phone}")


def _with_notes_together(found: list[BotTrouble]) -> list[BotTrouble]:
    """The same, with one entry for all numbers that are not in use yet for the same reason. They come last."""
    notes: dict[str, BotTrouble] = {}
    for each in found:
        if each.status == web_sessions.NOTE:
            first = notes.get(each.reason)
            notes[each.reason] = replace(first, others=first.others + 1, hint="bisnesctl bots list") if first else each
    return [*(each for each in found if each.status != web_sessions.NOTE), *notes.values()]


def _unknown(company: str, phone: int, count: int) -> BotTrouble:
    messages = "1 message" if count == 1 else f"{count} messages"
    reason = f"{messages} may have been sent, without a status report since"
    return BotTrouble(company, phone, "warning", reason, "bisnesctl dead-letters list --kind unknown")
