"""What a young WhatsApp Web number may send, so that it does not look like one that was made to send."""

from dataclasses import dataclass, fields

from bisnesctl.database.postgres import Connection, query


@dataclass(frozen=True, slots=True)
class WarmupLimits:
    """Messages, and chats with strangers; None: as many as the rate allows."""

    per_hour: int | None = None
    per_day: int | None = None
    new_chats_per_day: int | None = None

    def changed(self, **given: int | None) -> "WarmupLimits":
        """The same with what is given; None leaves a limit as it is."""
        named = {each.name: getattr(self, each.name) for each in fields(self)}
        return WarmupLimits(**named | {name: value for name, value in given.items() if value is not None})

    def __str__(self) -> str:
        told = [
            f"{number} {what}"
            for number, what in (
                (self.per_hour, "messages an hour"),
                (self.per_day, "messages a day"),
                (self.new_chats_per_day, "new chats a day"),
            )
            if number is not None
        ]
        return ", ".join(told) or "no limit"


_SAVE = """
INSERT INTO wa_limit (bot_id, per_hour, per_day, new_chats_per_day) VALUES (%s, %s, %s, %s)
ON CONFLICT (bot_id) DO UPDATE SET per_hour = excluded.per_hour, per_day = excluded.per_day,
    new_chats_per_day = excluded.new_chats_per_day"""


def of(connection: Connection, bot_id: int) -> WarmupLimits:
    """A bot's limits."""
    rows = query(connection, "SELECT per_hour, per_day, new_chats_per_day FROM wa_limit WHERE bot_id = %s", (bot_id,))
    return WarmupLimits(*rows[0]) if rows else WarmupLimits()


def save(connection: Connection, bot_id: int, limits: WarmupLimits) -> None:
    """These are a bot's limits from the next message on."""
    query(connection, _SAVE, (bot_id, limits.per_hour, limits.per_day, limits.new_chats_per_day))
