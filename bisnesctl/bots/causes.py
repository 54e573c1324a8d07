"""The causes that keep a bot from sending, in the words of every command: `queue`, `why`, `describe` and `monit`."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from bisnesctl.bots import hold_ends, web_sessions
from bisnesctl.bots.web_sessions import WebSession
from bisnesctl.database.postgres import Connection, query
from bisnesctl.formatting import duration
from bisnesctl.naming import session_name

#: Seconds without a heartbeat after which the page of a session is silent, unless a setting says otherwise.
SILENCE_SECONDS = 60.0

_UTC = "to_char({0} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')"
_LEFT = "CASE WHEN isfinite({0}) THEN extract(epoch FROM {0} - now())::float END"
_SITUATIONS = f"""
SELECT c.id, c.company_id, c.phone_index, c.process_name, p.rate::float,
       p.paused_until > now(), CASE WHEN isfinite(p.paused_until) THEN {_UTC.format("p.paused_until")} END,
       {_LEFT.format("p.paused_until")}, {_UTC.format("p.paused_at")}, p.paused_by, p.paused_reason,
       p.held_until > now(), CASE WHEN isfinite(p.held_until) THEN {_UTC.format("p.held_until")} END,
       {_LEFT.format("p.held_until")}, p.hold_code, p.held_reason, {_UTC.format("p.outage_since")},
       p.outage_code || ': ' || p.outage_reason,
       NOT EXISTS (SELECT FROM process_instances i
                   WHERE CASE WHEN p.owner IS NULL OR c.process_name <> 'meta'
                           THEN i.process_name = 'legacy' OR i.process_name = c.process_name AND i.instance <> 'meta'
                           WHEN p.owner = 'legacy' THEN i.process_name = 'legacy'
                           ELSE i.process_name = c.process_name AND i.instance <> 'meta' END
                   AND i.status <> 'stopped' AND i.last_heartbeat > now() - interval '60 seconds'),
       p.owner, CASE WHEN p.drain_until > now() THEN p.next_owner END
FROM phone_configs c LEFT JOIN bot_pace p ON p.bot_id = c.id
WHERE %(bots)s IS NULL OR c.id = ANY(%(bots)s)"""


class Cause(NamedTuple):
    """One cause."""

    #: The part that it is about: the pause, the session, the number, or a process.
    about: str
    #: Whether it lasts until something is done; otherwise it passes.
    lasts: bool
    #: As a sentence without a full stop.
    text: str
    #: The next step that happens without an operator; empty if there is none.
    next: str
    #: The command that changes it; None: nothing is to be done.
    command: str | None


@dataclass(frozen=True, slots=True)
class Situation:
    """The situation of a bot. Times are ISO 8601 in UTC; an end of None is an operator's."""

    id: int
    company: str
    phone: int
    channel: str
    rate: float | None  # messages a second; None: the channel's setting
    paused: bool | None
    paused_until: str | None
    paused_seconds: float | None  # until its end
    paused_at: str | None
    paused_by: str | None
    paused_reason: str | None
    held: bool | None
    held_until: str | None
    held_seconds: float | None
    hold_code: str | None
    held_reason: str | None
    outage_since: str | None
    outage: str | None
    no_worker: bool  # whether no process lives that sends for it; the receiver of webhooks does not
    owner: str | None = None  # the side that serves it; None: the one that runs
    next_owner: str | None = None  # the side to which it is being handed over now
    session: WebSession | None = None  # of WhatsApp Web

    @property
    def name(self) -> str:
        """The name of the bot as commands accept it."""
        return f"{self.company}/{self.phone}"


def situations(connection: Connection, bots: Sequence[int] | None = None) -> dict[int, Situation]:
    """The situations of bots by their ids; None: of all."""
    rows = query(connection, _SITUATIONS, {"bots": None if bots is None else list(bots)})
    has_sessions = any(row[3] == "wwebjs" for row in rows)
    sessions = {each.bot_id: each for each in web_sessions.find(connection)} if has_sessions else {}
    return {row[0]: Situation(*[*row, sessions.get(row[0])]) for row in rows}


def causes_of(bot: Situation, silence_seconds: float = SILENCE_SECONDS) -> Iterator[Cause]:
    """The causes that keep a bot from sending, the most lasting first; none if it sends."""
    if bot.paused:
        yield _pause(bot)
    if bot.session is not None and (cause := _of_session(bot.session, silence_seconds, bot.no_worker)):
        yield cause
    if (cause := _of_number(bot)) is not None:
        yield cause
    if bot.next_owner:
        text = f"it is being handed over from {bot.owner} to {bot.next_owner}"
        yield Cause("process", False, text, "it continues within seconds", "bisnesctl rollout status")
    if bot.no_worker and bot.owner == "legacy":
        yield Cause("process", True, "the legacy process serves it, and does not run", "", "bisnesctl rollout status")
    elif bot.no_worker:
        sender = "worker" if bot.channel == "meta" else "process"
        command = "bisnesctl why meta-worker" if bot.channel == "meta" else "bisnesctl status"
        yield Cause("process", True, f"no {sender} of {bot.channel} is running", "", command)


def _pause(bot: Situation) -> Cause:
    end = f" until {bot.paused_until}" if bot.paused_until else ""
    author = f" by {bot.paused_by}" if bot.paused_by else ""
    reason = f": {bot.paused_reason}" if bot.paused_reason else ""
    text = f"bot {bot.name} is paused{end} since {bot.paused_at}{author}{reason}"
    return Cause("pause", False, text, _continues(bot.paused_seconds), f"bisnesctl queue resume {bot.name}")


def _of_session(session: WebSession, silence_seconds: float, no_manager: bool) -> Cause | None:
    trouble = session.trouble(silence_seconds)
    if trouble is not None:
        status, reason, command = trouble
        if status == web_sessions.NOTE:
            return Cause("session", True, reason, "", command)
        passes = status == "starting"
        text = f"its session is {status}{f': {reason}' if reason else ''}"
        return Cause("session", not passes, text, "it is ready in a moment" if passes else "", command)
    if not session.wanted:
        command = f"bisnesctl bots unblock {session.company} {session.phone}"
        return Cause("session", False, "its session was stopped on purpose", "", command)
    if session.state != "WORKING":
        why = session.current_reason(silence_seconds)
        text = f"its session is {session.state.lower()}{f': {why}' if why else ''}"
        if no_manager:
            return Cause("session", False, text, "", None)
        command = f"bisnesctl logs {session_name(session.company, session.phone)}"
        return Cause("session", False, text, "the manager starts it", command)
    return None


def _of_number(bot: Situation) -> Cause | None:
    if bot.held and (bot.hold_code is not None or bot.held_until is None):
        end = f" until {bot.held_until}" if bot.held_until else ""
        known = hold_ends.BY_CODE.get(bot.hold_code or "")
        text = f"its number is held{end}: {bot.held_reason or 'no reason is given'}"
        by_itself = f"it ends by itself with {known.by_itself}" if known else ""
        return Cause("number", True, text, by_itself, hold_ends.command_for(bot.hold_code, bot.company, bot.phone))
    if bot.outage_since is not None:
        text = f"its provider is unavailable since {bot.outage_since}: {bot.outage}"
        attempt = f"the next attempt is in {duration(bot.held_seconds)}" if bot.held and bot.held_seconds else ""
        return Cause("number", True, text, attempt, "bisnesctl bots list")
    if bot.held:
        text = f"its number is limited until {bot.held_until}: {bot.held_reason or 'a limit of its provider'}"
        return Cause("number", False, text, _continues(bot.held_seconds), None)
    return None


def _continues(seconds: float | None) -> str:
    return f"it continues in {duration(seconds)}" if seconds is not None else ""
