"""The place of an arrival: its bot and its chat, as columns of the rows that the statements of the inbox read."""

from dataclasses import asdict, dataclass
from typing import Any

from services.message import Call, Edit, Incoming, Reaction, Renaming, Revocation


@dataclass(frozen=True, slots=True)
class Place:
    """The bot and number to which an arrival belongs."""

    n: int  # its place in the batch
    bot_id: int
    company_id: str
    phone_index: int
    process: str
    own_number: str | None  # our number as customers know it, in digits


Arrival = Incoming | Reaction | Edit | Revocation | Call | Renaming
Row = dict[str, Any]

# The chat is the one that the number belonged to when the arrival was sent. A user with a hidden number belongs to the
# chat of the number that we know of them, or else has a chat of their own.
_CHAT_ID = """COALESCE(chat_of(g.company_id, g.chat_id, to_timestamp(g.at)), (
        SELECT c.chat_id FROM chat c WHERE c.bot_id = g.bot_id AND c.user_id = g.user_id
        ORDER BY c.chat_id = g.user_id, c.last_inbound_at DESC NULLS LAST LIMIT 1
    ), chat_of(g.company_id, g.user_id))"""


def input_rows(columns: str) -> str:
    """SQL of the CTE `input_rows`: the parameter `rows` as a table, with the chat of each row in `chat`.

    `columns`: those that only these arrivals have.
    """
    return f"""
input_rows AS (
    SELECT g.*, {_CHAT_ID} AS chat FROM json_to_recordset(%(rows)s::json) AS g (
        n int, bot_id int, company_id varchar, phone_index int, process text, own_number text,
        chat_id text, user_id text, name text, at float, from_me bool, {columns})
)"""


def common(place: Place, arrival: Incoming | Reaction | Edit | Revocation | Call) -> Row:
    """The columns of a row that all arrivals have."""
    sender = arrival.sender
    return asdict(place) | {
        "chat_id": sender.chat_id,
        "user_id": sender.user_id,
        "name": sender.name,
        "at": arrival.at,
        "from_me": getattr(arrival, "from_me", False),
    }
