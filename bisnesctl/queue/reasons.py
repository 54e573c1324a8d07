"""Why a message waits: decided from its row, its place in its chat, and the situation of its bot.

`queue list`, `queue show`, `why`, `describe` and `monit` take their words from here, and from `bots.causes`.
"""

from dataclasses import dataclass
from typing import Any

from bisnesctl.bots.causes import Situation, causes_of
from bisnesctl.database.retries import refusal

#: A reason, and the command that changes it; None: nothing is to be done.
Reason = tuple[str, str | None]

_NO_REASON = "no reason is stored"
_UNFINISHED = ("queued", "waiting", "sending")


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
    def is_delayed(self) -> bool:
        """Whether its chat waits for a time: an attempt failed, or its number has a limit."""
        return self.unfinished and not self.row["in_hand"] and bool(self.row["due"])

    @property
    def is_first(self) -> bool:
        """Whether it is the next message of its chat."""
        return self.row["first"] is None

    @property
    def next_attempt_at(self) -> str | None:
        """When it is tried again; None: as soon as it is its turn."""
        due: str | None = self.row["due"]
        return due if self.unfinished and self.is_first else None


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
    if not place.unfinished or place.row["in_hand"] or place.bot is None:
        return of_message(place)
    if causes := list(causes_of(place.bot)):
        return "; ".join(each.text for each in causes), next((each.command for each in causes if each.command), None)
    return of_message(place)


def of_message(place: Place) -> Reason:
    """The same, without the causes that keep its whole bot from sending."""
    if not place.unfinished:
        return _outcome(place)
    if place.row["in_hand"]:
        return _in_hand(place.row)
    if place.bot is None:
        return "its bot was removed", None
    return _turn(place, place.bot)


def _outcome(place: Place) -> Reason:
    row = place.row
    error = ": ".join(filter(None, (row["code"], row["error"])))
    if row["status"] == "unknown":
        said = f": {error}" if error else ""
        return f"it may have been sent{said}", f"bisnesctl dead-letters resolve --as sent|failed|again {row['id']}"
    if row["status"] != "failed":
        report = "" if row["status"] == "sent" else f"; its last report is {row['status']}"
        return f"it was sent{report}", None
    if why := refusal(row["code"], row["error"], row["provider_id"] is not None, place.bot is None):
        return f"it failed: {error or _NO_REASON}; {why}", None
    return f"it failed: {error or _NO_REASON}", f"bisnesctl queue retry {row['id']}"


def _in_hand(row: dict[str, Any]) -> Reason:
    worker = worker_of(row["claim"])
    if row["lease_over"]:
        return f"{worker} has it in hand and does not answer; another takes it over", "bisnesctl status"
    return f"{worker} has it in hand and waits for the provider's answer", None


def worker_of(claim: str | None) -> str:
    """The worker with a claim, which is <host>/<instance>/<boot>."""
    parts = (claim or "").split("/")
    return f"{parts[1]} on {parts[0]}" if len(parts) == 3 else "a worker"


def _turn(place: Place, bot: Situation) -> Reason:
    row = place.row
    if not place.is_first:
        return _behind_first(row)
    if row["due"]:
        after = ": ".join(filter(None, (row["code"], row["error"])))
        return f"its next attempt is at {row['due']}{f', after {after}' if after else ''}", _retry(row["id"])
    if any(causes_of(bot)):
        return "it is the next one of its chat", None
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
