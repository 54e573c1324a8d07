"""One bot on one page: `bisnesctl describe 0128-2`."""

from dataclasses import asdict, dataclass
from typing import Any

from bisnesctl import masking
from bisnesctl.bots import causes, check_records, hold_ends, store, web_sessions
from bisnesctl.bots.causes import Cause
from bisnesctl.database import postgres
from bisnesctl.database.event_log import EventFilter, LoggedEvent
from bisnesctl.database.postgres import Connection, query
from bisnesctl.errors import BisnesError
from bisnesctl.health import event_history
from bisnesctl.moments import from_database, iso
from bisnesctl.naming import session_name
from bisnesctl.processes.deployment import Deployment
from bisnesctl.views import backlog
from bisnesctl.views.process_page import MAX_EVENTS, MAX_HISTORY

#: Seconds to connect, and for each statement. A statement that takes longer is left out.
DATABASE_TIMEOUT_SECONDS = 3
#: Events that are read to find those of the history.
_READ_EVENTS = 100

_LIMITS = """
SELECT l.per_hour, l.per_day, l.new_chats_per_day FROM wa_limit l JOIN phone_configs c ON c.id = l.bot_id
WHERE c.company_id = %(company)s AND c.phone_index = %(phone)s"""
_SENT_BY_HOUR = """
SELECT COALESCE(sum(messages) FILTER (WHERE hour >= date_trunc('hour', now())), 0)::int, COALESCE(sum(messages), 0)::int
FROM wa_sent s JOIN phone_configs c ON c.id = s.bot_id
WHERE c.company_id = %(company)s AND c.phone_index = %(phone)s AND hour > now() - interval '24 hours'"""
_PACE = """
SELECT p.held_at::timestamptz(0)::text, p.slow_factor::float, CASE WHEN p.slow_until > now()
    THEN p.slow_until::timestamptz(0)::text END
FROM bot_pace p JOIN phone_configs c ON c.id = p.bot_id
WHERE c.company_id = %(company)s AND c.phone_index = %(phone)s"""
_LAST_SENT = """
SELECT max(o.updated_at)::timestamptz(0)::text FROM outbox o JOIN phone_configs c ON c.id = o.bot_id
WHERE c.company_id = %(company)s AND c.phone_index = %(phone)s AND o.status IN ('sent', 'delivered', 'read')
    AND o.updated_at > now() - interval '30 days'"""
_LAST_RECEIVED = """
SELECT max(timestamp)::timestamptz(0)::text FROM messages
WHERE company_id = %(company)s AND phone_index = %(phone)s AND NOT COALESCE(from_me, false)
    AND timestamp > now() - interval '30 days'"""
_WEBHOOKS = """
SELECT w.id::text, w.url, w.events, w.active, w.failures, CASE WHEN w.paused_until > now()
    THEN w.paused_until::timestamptz(0)::text END, w.last_error, w.last_delivered_at::timestamptz(0)::text,
    (SELECT COALESCE(sum(pending), 0)::int FROM webhook_lane l WHERE l.webhook_id = w.id)
FROM webhook w WHERE w.company_id = %(company)s ORDER BY w.created_at"""


@dataclass(frozen=True)
class CustomerWebhook:
    """A webhook of the bot's company, without its secrets."""

    id: str
    url: str
    events: list[str]
    active: bool
    #: In a row.
    failures: int
    paused_until: str | None
    last_error: str | None
    last_delivered_at: str | None
    pending: int


@dataclass(frozen=True)
class BotPage:
    """Everything that is known about one bot. Times are in the form of `moments.iso`."""

    name: str
    company: str
    phone: int
    type: str
    channel: str
    number: str | None
    phone_number_id: str | None
    account: str | None
    status: str
    wanted: str
    actual: str
    #: Why it does not send; empty if it does.
    why: str
    next: str
    commands: list[str]
    hold: dict[str, Any] | None
    outage: dict[str, Any] | None
    block: dict[str, Any] | None
    #: Its WhatsApp Web session; None: it has none.
    session: dict[str, Any] | None
    session_process: str | None
    limits: dict[str, Any]
    waiting: int
    oldest_seconds: float | None
    last_sent_at: str | None
    last_received_at: str | None
    check: str | None
    checked_at: str | None
    problems: list[dict[str, Any]]
    webhooks: list[CustomerWebhook]
    history: list[LoggedEvent]
    events: list[LoggedEvent]
    unseen: list[str]


def describe(deployment: Deployment, company: str, phone: int) -> BotPage | None:
    """The page of a bot; None if there is no such bot. Raises `DatabaseUnavailable` and its siblings."""
    settings = deployment.settings
    with postgres.connected(settings.database_dsn, timeout=DATABASE_TIMEOUT_SECONDS) as connection:
        found = store.find(connection, company, phone)
        if not found:
            return None
        sessions = web_sessions.find(connection, company, phone) if found[0].process == "wwebjs" else []
        reader = _Reader(connection, {"company": company, "phone": phone})
        troubles = [each for each in check_records.troubled_in(connection, settings.max_heartbeat_age / 1000)
                    if (each.company, each.phone) == (company, phone)]  # fmt: skip
        waits = backlog.of_bot(connection, company, phone)
        ids = [each.id for each in store.known(connection, company, phone)]
        silence = settings.max_heartbeat_age / 1000
        why = [each for bot in causes.situations(connection, ids).values() for each in causes.causes_of(bot, silence)]
        name = f"{company}-{phone}"
        read = event_history.read(deployment, EventFilter(bots=(name,), limit=_READ_EVENTS))
        if read.unavailable:
            reader.unseen.append(f"events before the guard's files: {read.unavailable}")
        return _page(found[0], sessions[0] if sessions else None, reader, troubles, why, waits, read.events)


class _Reader:
    """Reads rows that may take long; those that cannot be read are left out and named."""

    def __init__(self, connection: Connection, values: dict[str, Any]) -> None:
        self._connection, self._values = connection, values
        self.unseen: list[str] = []

    def rows(self, statement: str, what: str) -> list[tuple[Any, ...]]:
        """The rows of a statement; empty if they cannot be read, or not in time."""
        try:
            with postgres.translated("See `bisnesctl status`"):
                return query(self._connection, statement, self._values)
        except BisnesError as error:
            self.unseen.append(f"{what}: {error}")
            return []

    def value(self, statement: str, what: str) -> Any:
        """The first column of the only row; None if there is none."""
        rows = self.rows(statement, what)
        return rows[0][0] if rows else None


def _page(
    bot: store.Bot, session: web_sessions.WebSession | None, reader: _Reader, troubles: list[check_records.BotTrouble],
    why: list[Cause], waits: backlog.Backlog, events: list[LoggedEvent],
) -> BotPage:  # fmt: skip
    trouble = troubles[0] if troubles else None
    return BotPage(
        name=f"{bot.company}-{bot.phone}",
        company=bot.company,
        phone=bot.phone,
        type=bot.type,
        channel=bot.process,
        number=(session.number if session else None) or bot.display_number,
        phone_number_id=bot.phone_number_id,
        account=bot.waba_id,
        status=bot.status,
        wanted=_wanted(bot, session),
        actual=_actual(bot, session, bool(why)),
        why="; ".join(each.text for each in why) or (trouble.reason if trouble else ""),
        next=_next(bot, why),
        commands=_commands(bot, why, trouble),
        hold=_hold(bot, reader),
        outage=bot.outage and bot.outage | {"since": from_database(bot.outage.get("since"))},
        block=_block(session),
        session=_session(session),
        session_process=session_name(bot.company, bot.phone) if session else None,
        limits=_limits(bot, session, reader),
        waiting=waits.waiting,
        oldest_seconds=waits.oldest_seconds,
        last_sent_at=from_database(reader.value(_LAST_SENT, "the last message that was sent")),
        last_received_at=from_database(reader.value(_LAST_RECEIVED, "the last message that was received")),
        check=bot.check,
        checked_at=from_database(bot.checked_at),
        problems=bot.problems,
        webhooks=[_webhook(row) for row in reader.rows(_WEBHOOKS, "its company's webhooks")],
        history=[each for each in events if each.kind != "process_running"][:MAX_HISTORY],
        events=events[:MAX_EVENTS],
        unseen=reader.unseen,
    )


def _wanted(bot: store.Bot, session: web_sessions.WebSession | None) -> str:
    if session is not None and not session.wanted:
        return "stopped"
    return "running" if bot.paused is None else "paused"


def _actual(bot: store.Bot, session: web_sessions.WebSession | None, is_prevented: bool) -> str:
    """The first that keeps it from sending: its session, an operator's pause, a hold, its provider, or a process."""
    if session is not None and (session.block or session.state != "WORKING"):
        return "blocked" if session.block else session.state
    if bot.paused is not None:
        return "paused"
    if bot.held_until is not None:
        return "held"
    if bot.outage:
        return "unavailable"
    return "not sending" if is_prevented else session.state if session else "sending"


def _next(bot: store.Bot, why: list[Cause]) -> str:
    if why:
        return f"its messages wait; {why[0].next or 'nothing ends that by itself'}"
    return "its messages leave, oldest of each chat first" if bot.waiting else "it waits for messages"


def _commands(bot: store.Bot, why: list[Cause], trouble: check_records.BotTrouble | None) -> list[str]:
    found = [each.command for each in why if each.command] + ([trouble.hint] if trouble is not None else [])
    return list(dict.fromkeys([*found, f"bisnesctl events {bot.company}-{bot.phone} --follow"]))


def _hold(bot: store.Bot, reader: _Reader) -> dict[str, Any] | None:
    if bot.held_until is None:
        return None
    pace = reader.rows(_PACE, "the beginning of its hold")
    end = hold_ends.BY_CODE.get(bot.hold_code or "")
    return {
        "cause": bot.held_reason,
        "code": bot.hold_code,
        "since": from_database(pace[0][0]) if pace else None,
        "until": from_database(bot.held_until),
        "ends_with": end.by_itself if end else None,
    }


def _block(session: web_sessions.WebSession | None) -> dict[str, Any] | None:
    if session is None or session.block is None:
        return None
    block = session.block
    return {
        "kind": block.kind,
        "reason": block.reason,
        "since": iso(block.since.timestamp()),
        "until": iso(block.until.timestamp()) if block.until else None,
    }


def _session(session: web_sessions.WebSession | None) -> dict[str, Any] | None:
    if session is None:
        return None
    shown = ("state", "reason", "host", "failed_starts", "memory_mb", "versions", "linked", "moved")
    ages = {f"{name}_seconds_ago": age for name, age in asdict(session.ages).items()}
    return {name: getattr(session, name) for name in shown} | ages


def _limits(bot: store.Bot, session: web_sessions.WebSession | None, reader: _Reader) -> dict[str, Any]:
    found: dict[str, Any] = {"messages_per_second": bot.rate}
    if session is not None:
        if rows := reader.rows(_LIMITS, "its limits"):
            found |= dict(zip(("per_hour", "per_day", "new_chats_per_day"), rows[0], strict=True))
        if rows := reader.rows(_SENT_BY_HOUR, "how much it sent"):
            found |= dict(zip(("sent_this_hour", "sent_within_a_day"), rows[0], strict=True))
    elif (rows := reader.rows(_PACE, "its rate")) and rows[0][2]:
        found |= {"slowed_to": rows[0][1], "slowed_until": from_database(rows[0][2])}
    return found


def _webhook(row: tuple[Any, ...]) -> CustomerWebhook:
    number, url, events, active, failures, paused, error, delivered, pending = row
    paused, delivered = from_database(paused), from_database(delivered)
    return CustomerWebhook(
        number, masking.address(url), list(events), active, failures, paused,
        masking.text(error) if error else None, delivered, pending,
    )  # fmt: skip
