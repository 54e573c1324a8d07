"""The links of a message: its place in its chat, its own state, and the wait of its chat's first message."""

from bisnesctl.database.postgres import Connection
from bisnesctl.diagnosis.chain import Link, State
from bisnesctl.queue import reasons
from bisnesctl.queue.messages import ahead_of
from bisnesctl.queue.reasons import Place


def links(connection: Connection, place: Place) -> list[Link]:
    """The links of a message, after those of its bot."""
    return of_place(place, ahead_of(connection, place))


def of_place(place: Place, ahead: int) -> list[Link]:
    """The same. `ahead`: messages of its chat that leave before it."""
    text, command = reasons.of_message(place)
    state = _state(place)
    if not ahead:
        return [Link("message", state, _sentence(text), command=command or "")]
    first = str(place.row["first"])
    before = "1 message of its chat leaves" if ahead == 1 else f"{ahead} messages of its chat leave"
    return [Link("chat", State.DELAYS, f"{_sentence(text)}; {before} before it", command=f"bisnesctl why {first}")]


def _state(place: Place) -> State:
    if place.row["status"] in ("unknown", "failed") or place.bot is None:
        return State.BLOCKS
    waits = place.unfinished and (place.row["in_hand"] or place.is_delayed or not place.is_first)
    return State.DELAYS if waits else State.OK


def _sentence(reason: str) -> str:
    return f"it waits {reason}" if reason.startswith("for ") else reason
