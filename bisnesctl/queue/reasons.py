"""Why a message waits: decided from its row, its place in its chat, and the situation of its bot."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from bisnesctl.bots import hold_ends
from bisnesctl.database.postgres import Connection, query
from bisnesctl.database.retries import refusal

#: A reason, and the command that changes it; None: nothing is to be done.
Reason = tuple[str, str | None]

_UNFINISHED = ("queued", "waiting", "sending")

_UTC = "to_char({0} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')"
_SITUATIONS = f"""
SELECT c.id, c.company_id, c.phone_index, c.process_name, p.rate::float,
       p.paused_until > now(), CASE WHEN isfinite(p.paused_until) THEN {_UTC.format("p.paused_until")} END,
       {_UTC.format("p.paused_at")}, p.paused_reason,
       p.held_until > now(), CASE WHEN isfinite(p.held_until) THEN {_UTC.format("p.held_until")} END,
       p.hold_code, p.held_reason, {_UTC.format("p.outage_since")}, p.outage_code || ': ' || p.outage_reason,
       b.bot_id IS NOT NULL, CASE WHEN isfinite(b.until) THEN {_UTC.format("b.until")} END, b.reason,
       f.bot_id IS NOT NULL, s.state, s.reason,
       NOT EXISTS (SELECT FROM process_instances i WHERE i.process_name = c.process_name
                   AND i.status <> 'stopped' AND i.last_heartbeat > now() - interval '60 seconds')
FROM phone_configs c LEFT JOIN bot_pace p ON p.bot_id = c.id
    LEFT JOIN wa_session s ON s.bot_id = c.id AND c.process_name = 'wwebjs'
    LEFT JOIN wa_block b ON b.bot_id = c.id AND b.until > now() AND c.process_name = 'wwebjs'
    LEFT JOIN former_number f ON f.bot_id = c.id AND f.moved_at IS NULL AND c.process_name = 'wwebjs'
WHERE c.id = ANY(%s)"""


@dataclass(frozen=True, slots=True)
class Situation:
    """The causes that keep a bot from sending. Times are ISO 8601 in UTC; an end of None is an operator's."""

    id: int
    company: str
    phone: int
    channel: str
    rate: float | None  # messages a second; None: the channel's setting
    paused: bool
    paused_until: str | None
    paused_at: str | None
    paused_reason: str | None
    held: bool
    held_until: str | None
    hold_code: str | None
    held_reason: str | None
    outage_since: str | None
    outage: str | None
    blocked: bool
    blocked_until: str | None
    blocked_reason: str | None
    at_former: bool  # whether the former server may still run the number
    session: str | None  # the state of the WhatsApp Web session
    session_reason: str | None
    no_worker: bool  # whether no process of the channel lives

    @property
    def name(self) -> str:
        """The name of the bot as commands accept it."""
        return f"{self.company}/{self.phone}"


@dataclass(frozen=True, slots=True)
class Place:
    """A message as it is read: its row with its place in its chat, and the situation of its bot."""

    row: dict[str, Any]
    bot: Situation | None  # None: it was removed

    @property
    def unfinished(self) -> bool:
        """Whether it is neither sent nor failed nor unknown."""
        return self.row["status"] in _UNFINISHED

    @property
    def is_first(self) -> bool:
        """Whether it is the next message of its chat."""
        return self.row["first"] is None

    @property
    def next_attempt_at(self) -> str | None:
        """When it is tried again; None: as soon as it is its turn."""
        due: str | None = self.row["due"]
        return due if self.unfinished and self.is_first else None


def situations(connection: Connection, bots: Sequence[int]) -> dict[int, Situation]:
    """The situations of bots by their ids."""
    return {row[0]: Situation(*row) for row in query(connection, _SITUATIONS, (list(bots),))}


def state_of(place: Place) -> str:
    """The state of a message: `states.State`, or its status if it was sent."""
    if not place.unfinished:
        return str(place.row["status"])
    if place.row["in_hand"]:
        return "active"
    held = place.bot is not None and (place.bot.paused or place.bot.held)
    return "delayed" if held or place.next_attempt_at else "waiting"


def explain(place: Place) -> Reason:
    """Why a message waits, or what became of it."""
    if not place.unfinished:
        return _outcome(place)
    if place.row["in_hand"]:
        return _in_hand(place.row)
    if place.bot is None:
        return "its bot was removed", None
    causes = list(causes_of(place.bot))
    if causes:
        return "; ".join(text for text, _ in causes), causes[0][1]
    return _turn(place, place.bot)


def causes_of(bot: Situation) -> Iterator[Reason]:
    """The causes that keep a bot from sending, the most lasting first; none if it sends."""
    options = f"{bot.company} {bot.phone}"
    if bot.paused:
        reason = f": {bot.paused_reason}" if bot.paused_reason else ""
        end = f" until {bot.paused_until}" if bot.paused_until else ""
        yield f"bot {bot.name} is paused{end} since {bot.paused_at}{reason}", f"bisnesctl queue resume {bot.name}"
    if bot.at_former:
        yield "the former server may still run its number", f"bisnesctl bots move {options}"
    elif bot.blocked:
        end = f" until {bot.blocked_until}" if bot.blocked_until else ""
        yield f"its session is blocked{end}: {bot.blocked_reason}", f"bisnesctl bots unblock {options}"
    elif bot.session not in (None, "WORKING"):
        reason = f": {bot.session_reason}" if bot.session_reason else ""
        command = f"bisnesctl bots link {options}" if bot.session == "SCAN_QR_CODE" else "bisnesctl status"
        yield f"its session is {(bot.session or '').lower()}{reason}", command
    if bot.held and (bot.hold_code is not None or bot.held_until is None):
        end = f" until {bot.held_until}" if bot.held_until else ""
        yield (
            f"its number is held{end}: {bot.held_reason}",
            hold_ends.command_for(bot.hold_code, bot.company, bot.phone),
        )
    elif bot.outage_since is not None:
        attempt = f"; next attempt at {bot.held_until}" if bot.held and bot.held_until else ""
        yield f"its provider is unavailable since {bot.outage_since}: {bot.outage}{attempt}", None
    elif bot.held:
        yield f"its number is limited until {bot.held_until}: {bot.held_reason}", None
    if bot.no_worker:
        yield f"no process of {bot.channel} is running", "bisnesctl status"


def _outcome(place: Place) -> Reason:
    row = place.row
    error = ": ".join(filter(None, (row["code"], row["error"])))
    if row["status"] == "unknown":
        return f"it may have been sent: {error}", f"bisnesctl dead-letters resolve --as sent|failed|again {row['id']}"
    if row["status"] != "failed":
        return f"{row['status']}", None
    why = refusal(row["code"], row["error"], row["provider_id"] is not None, place.bot is None)
    return f"it failed: {error}", None if why else f"bisnesctl queue retry {row['id']}"


def _in_hand(row: dict[str, Any]) -> Reason:
    if row["lease_over"]:
        return "the worker that has it in hand does not answer; another takes it over", "bisnesctl status"
    return "a worker has it in hand", None


def _turn(place: Place, bot: Situation) -> Reason:
    row = place.row
    if not place.is_first:
        return _behind_first(row)
    if row["due"]:
        after = ": ".join(filter(None, (row["code"], row["error"])))
        return f"its next attempt is at {row['due']}{f', after {after}' if after else ''}", _retry(row["id"])
    rate = "the channel's rate" if bot.rate is None else f"{bot.rate:g} messages a second"
    return f"for its turn: its bot sends at {rate}", None


def _behind_first(row: dict[str, Any]) -> Reason:
    first = f"the chat's first message {row['first']}"
    if row["first_in_hand"]:
        return f"for {first}, which a worker has in hand", None
    if row["due"]:
        after = ": ".join(filter(None, (row["first_code"], row["first_error"])))
        return f"for {first}, tried again at {row['due']}{f', after {after}' if after else ''}", _retry(row["first"])
    return f"for {first}", None


def _retry(message_id: str) -> str:
    return f"bisnesctl queue retry {message_id}"
