"""Limits on sending during the warm-up of a new WhatsApp Web number, so that WhatsApp does not ban it."""

from dataclasses import dataclass, fields

from bisnesctl.database.postgres import Connection, query


@dataclass(frozen=True, slots=True)
class WarmupLimits:
    """Numbers of messages and of new chats; None: no limit beyond the rate."""

    per_hour: int | None = None
    per_day: int | None = None
    new_chats_per_day: int | None = None

    def changed(self, **given: int | None) -> "WarmupLimits":
        """These limits with some replaced; None leaves a limit unchanged."""
        named = {each.name: getattr(self, each.name) for each in fields(self)}
        return WarmupLimits(**named | {name: value for name, value in given.items() if value is not None})

    def __str__(self) -> str:
        limits = [
            f"{number} {what}"
            for number, what in (
                (self.per_hour, "messages an hour"),
                (self.per_day, "messages a day"),
                (self.new_chats_per_day, "new chats a day"),
            )
            if number is not None
        ]
        return ", ".join(limits) or "no limit"


_SAVE = """
INSERT INTO wa_limit (bot_id, per_hour, per_day, new_chats_per_day) VALUES (%s, %s, %s, %s)
ON CONFLICT (bot_id) DO UPDATE SET per_hour = excluded.per_hour, per_day = excluded.per_day,
    new_chats_per_day = excluded.new_chats_per_day"""


def of(connection: Connection, bot_id: int) -> WarmupLimits:
    """The limits of a bot."""
    rows = query(connection, "SELECT per_hour, per_day, new_chats_per_day FROM wa_limit WHERE bot_id = %s", (bot_id,))
    return WarmupLimits(*rows[0]) if rows else WarmupLimits()


def save(connection: Connection, bot_id: int, limits: WarmupLimits) -> None:
    """Stores the limits of a bot; they apply from the next message on."""
    query(connection, _SAVE, (bot_id, limits.per_hour, limits.per_day, limits.new_chats_per_day))
