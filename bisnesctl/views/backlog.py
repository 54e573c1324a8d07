"""The backlog: messages by bot and channel, webhooks of providers, and events for customers; and the sessions' states.

One connection with short time limits answers all of it, so that `status` is quick if the database is not.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from bisnesctl.bots import check_records
from bisnesctl.bots.check_records import BotTrouble
from bisnesctl.database import postgres
from bisnesctl.database.postgres import Connection, query
from bisnesctl.errors import BisnesError
from bisnesctl.queue.lane_sql import FINISHED
from bisnesctl.retention import records
from bisnesctl.retention.records import LastRun
from bisnesctl.settings import Settings

#: Seconds to connect, and for each statement.
DATABASE_TIMEOUT_SECONDS = 2

# The oldest message of each chat that is not sent, as a claim finds it.
_BY_BOT = f"""
SELECT c.company_id || '-' || c.phone_index, c.process_name, sum(w.pending)::int,
       max(GREATEST(extract(epoch FROM now() - oldest.accepted_at), 0))::float
FROM (
    SELECT l.bot_id, l.chat_id, l.pending, {FINISHED} AS finished FROM lane l WHERE l.pending > 0
) w JOIN phone_configs c ON c.id = w.bot_id AND (%(company)s IS NULL OR c.company_id = %(company)s
        AND c.phone_index = %(phone)s)
    LEFT JOIN LATERAL (
    SELECT accepted_at FROM outbox o
    WHERE o.bot_id = w.bot_id AND o.chat_id = w.chat_id AND o.id > w.finished
        AND o.status IN ('queued', 'waiting', 'sending')
    ORDER BY o.id LIMIT 1
) oldest ON true
GROUP BY 1, 2"""
_INBOX = """
SELECT count(*)::int, max(GREATEST(extract(epoch FROM now() - received_at), 0))::float
FROM webhook_inbox WHERE processed_at IS NULL"""
_DELIVERIES = """
SELECT count(*)::int, max(GREATEST(extract(epoch FROM now() - created_at), 0))::float
FROM webhook_delivery WHERE status = 'pending'"""
_SESSIONS = """
SELECT c.company_id || '-' || c.phone_index, s.state, s.own_number
FROM wa_session s JOIN phone_configs c ON c.id = s.bot_id WHERE c.process_name = 'wwebjs'"""


@dataclass(frozen=True)
class Backlog:
    """Things that wait."""

    waiting: int = 0
    #: The age of the oldest; None if nothing waits.
    oldest_seconds: float | None = None

    def __add__(self, other: "Backlog") -> "Backlog":
        ages = [each for each in (self.oldest_seconds, other.oldest_seconds) if each is not None]
        return Backlog(self.waiting + other.waiting, max(ages, default=None))


@dataclass(frozen=True)
class Backlogs:
    """The database's part of `status`."""

    #: Why parts of the rest are empty; empty if the database answered everything.
    unavailable: str = ""
    #: Whether the messages that wait are known.
    counted: bool = False
    #: The bots that need an operator.
    troubles: list[BotTrouble] = field(default_factory=list)
    #: Messages of each bot that has any, by `<company>-<phone index>`.
    bots: Mapping[str, Backlog] = field(default_factory=dict)
    #: The same by channel.
    channels: Mapping[str, Backlog] = field(default_factory=dict)
    #: Webhooks of providers that are not applied yet.
    inbox: Backlog | None = None
    #: Events that are not delivered to customers' webhooks yet.
    deliveries: Backlog | None = None
    #: States of WhatsApp Web sessions, by bot.
    sessions: Mapping[str, str] = field(default_factory=dict)
    #: The phone numbers that they are linked to, by bot.
    linked_numbers: Mapping[str, str] = field(default_factory=dict)
    #: The last run of the retention.
    retention: LastRun | None = None


def read(settings: Settings) -> Backlogs:
    """Everything; never raises because of the database. A part that cannot be read does not hide the others."""
    found, refused = Backlogs(), dict[str, None]()
    try:
        with postgres.connected(settings.database_dsn, timeout=DATABASE_TIMEOUT_SECONDS) as connection:
            for part in (_messages, _others, _troubles, _retention):
                try:
                    with postgres.translated("See `bisnesctl status`"):
                        found = replace(found, **part(connection, settings))
                except BisnesError as error:
                    refused[str(error)] = None
    except BisnesError as error:
        refused[str(error)] = None
    return replace(found, unavailable="; ".join(refused))


def _messages(connection: Connection, settings: Settings) -> dict[str, Any]:
    bots: dict[str, Backlog] = {}
    channels: dict[str, Backlog] = {}
    for name, channel, waiting, age in query(connection, _BY_BOT, {"company": None, "phone": None}):
        bots[name] = Backlog(waiting, age)
        channels[channel] = channels.get(channel, Backlog()) + bots[name]
    return {"bots": bots, "channels": channels, "counted": True}


def _others(connection: Connection, settings: Settings) -> dict[str, Any]:
    sessions = query(connection, _SESSIONS)
    return {
        "inbox": Backlog(*query(connection, _INBOX)[0]),
        "deliveries": Backlog(*query(connection, _DELIVERIES)[0]),
        "sessions": {bot: state for bot, state, _ in sessions},
        "linked_numbers": {bot: number for bot, _, number in sessions if number},
    }


def _retention(connection: Connection, settings: Settings) -> dict[str, Any]:
    return {"retention": records.last(connection)}


def _troubles(connection: Connection, settings: Settings) -> dict[str, Any]:
    return {"troubles": check_records.troubled_in(connection, settings.max_heartbeat_age / 1000)}


def of_bot(connection: Connection, company: str, phone: int) -> Backlog:
    """The messages of one bot that wait."""
    rows = query(connection, _BY_BOT, {"company": company, "phone": phone})
    return Backlog(rows[0][2], rows[0][3]) if rows else Backlog()
