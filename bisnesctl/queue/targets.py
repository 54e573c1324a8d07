"""The bots that an operator names: one by its name, those of a company or of a channel, or all."""

import re
from dataclasses import dataclass

from bisnesctl.database.postgres import Connection, query
from bisnesctl.errors import UsageError

#: The name of every bot.
ALL = "all"
#: The names of the channels.
CHANNELS = ("meta", "wwebjs")

_BOT = re.compile(r"(?P<company>.+)[/-](?P<phone>[0-9]{1,9})", re.ASCII | re.DOTALL)

_BOTS = """
SELECT id, company_id, phone_index, process_name FROM phone_configs
WHERE (%(company)s IS NULL OR company_id = %(company)s) AND (%(phone)s IS NULL OR phone_index = %(phone)s)
    AND (%(channel)s IS NULL OR process_name = %(channel)s)
ORDER BY company_id, phone_index"""


@dataclass(frozen=True, slots=True)
class BotName:
    """A bot, as operators name it."""

    id: int
    company: str
    phone: int
    channel: str

    def __str__(self) -> str:
        """The name as commands accept it."""
        return f"{self.company}/{self.phone}"


def find(
    connection: Connection, company: str | None = None, phone: int | None = None, channel: str | None = None
) -> list[BotName]:
    """The bots that match, in the order of their names."""
    values = {"company": company, "phone": phone, "channel": channel}
    return [BotName(*row) for row in query(connection, _BOTS, values)]


def named(connection: Connection, name: str) -> list[BotName]:
    """The bots with a name: 0128/0 or 0128-0 (a bot), 0128 (a company), meta or wwebjs (a channel), or all.

    Raises `UsageError` if there are none.
    """
    if name == ALL:
        found = find(connection)
    elif name in CHANNELS:
        found = find(connection, channel=name)
    else:
        found = find(connection, company=name)
        if not found and (parts := _BOT.fullmatch(name)):
            found = find(connection, parts["company"], int(parts["phone"]))
    if not found and name not in (ALL, *CHANNELS):
        raise UsageError(
            f"there is no bot, company or channel {name}: name 0128/0, 0128, meta, wwebjs or all"
            " (`bisnesctl bots list` shows the bots)"
        )
    return found


def one(connection: Connection, name: str) -> BotName:
    """The bot with this name. Raises `UsageError` if it names none or several."""
    found = named(connection, name)
    if len(found) != 1:
        raise UsageError(f"{name} is not one bot: name a bot, such as 0128/0 (`bisnesctl bots list` shows them)")
    return found[0]
