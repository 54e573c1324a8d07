"""Hands bots over from one side to the other: begins, waits, completes, and records each change.

A call that is repeated after it was interrupted continues where it was.
"""

import time
from collections.abc import Collection
from dataclasses import dataclass, field

from bisnesctl.audit import trail
from bisnesctl.audit.record import Source
from bisnesctl.bots import ownership, web_sessions
from bisnesctl.bots.ownership import Ownership, Side
from bisnesctl.database import postgres
from bisnesctl.database.postgres import Connection
from bisnesctl.errors import DatabaseUnavailable, MigrationsPending
from bisnesctl.formatting import listed
from bisnesctl.settings import Settings

#: Seconds that the owner of a bot gets to finish what it has in hand.
PATIENCE_SECONDS = 10.0
#: Seconds beyond that after which a hand-over that nobody completes lapses.
LAPSE_SECONDS = 10.0
#: Seconds between two looks whether a bot is drained.
POLL_SECONDS = 0.05


@dataclass
class HandedOver:
    """The result of a hand-over."""

    #: Bots that have another owner now.
    moved: list[Ownership] = field(default_factory=list)
    #: Those of them whose former owner did not finish in time: bot → messages that it still had in hand.
    left_in_hand: dict[str, int] = field(default_factory=dict)

    def sentence(self, to: Side) -> str:
        """The result for people."""
        text = f"{to} serves {listed([each.name for each in self.moved])} now"
        if waiting := sum(each.waiting for each in self.moved):
            text += f"; {waiting} messages waited and are being delivered"
        if self.left_in_hand:
            text += f"; {sum(self.left_in_hand.values())} messages are left to the leases of their workers"
        return text


def hand_over(
    settings: Settings, connection: Connection, bots: Collection[int], to: Side, by: str,
    patience: float = PATIENCE_SECONDS,
) -> HandedOver:  # fmt: skip
    """Hands those of these bots over to a side that it does not own yet.

    Messages that a former owner has in hand after `patience` seconds are left to its lease; their chats wait. If `to`
    is the former server, which knows nothing of our queue, messages that wait are sent before, within the same time.
    """
    before = {each.bot_id: each for each in ownership.find(connection, bots) if each.owner is not to}
    is_former = to is Side.LEGACY and bool(settings.legacy_command)
    if is_former:
        _wait_for_queues(connection, before, patience)
    deadline = time.monotonic() + patience
    ownership.drain(connection, before, to, patience + LAPSE_SECONDS)
    left, result = set(before), HandedOver()
    while left:
        done = ownership.complete(connection, left, to, by)
        if not done and time.monotonic() >= deadline:
            found = {each.bot_id: each.in_hand for each in ownership.find(connection, left)}
            done, left = ownership.complete(connection, left, to, by, force=True), set()
            result.left_in_hand = {before[bot].name: found.get(bot, 0) for bot in done if found.get(bot)}
        left -= done
        for bot in sorted(done):
            result.moved.append(before[bot])
            reason = f"{by}: {before[bot].owner or 'no side'} before"
            _move_session(connection, before[bot], settings, to)
            trail.add_decision(settings.home, Source.ROLLOUT, f"handed_over_to_{to}", before[bot].name, reason)
        if left and not done:
            time.sleep(POLL_SECONDS)
    return result


def _wait_for_queues(connection: Connection, bots: Collection[int], patience: float) -> None:
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline and any(each.waiting for each in ownership.find(connection, bots)):
        time.sleep(POLL_SECONDS)


def _move_session(connection: Connection, bot: Ownership, settings: Settings, to: Side) -> None:
    """The former server has browsers of its own: our session of a bot ends when it gets the bot, and starts again."""
    if bot.channel != "wwebjs" or not settings.legacy_command:
        return
    session = web_sessions.find_one(connection, bot.company, bot.phone)
    (web_sessions.move_back if to is Side.LEGACY else web_sessions.move)(connection, session)


def take_all(
    settings: Settings, to: Side, by: str, introduce: bool = False, patience: float = PATIENCE_SECONDS
) -> HandedOver:  # fmt: skip
    """Hands every bot that has an owner over to a side, and so those that are added from now on.

    `introduce`: bots without an owner belong to the other side until then. Does nothing without PostgreSQL.
    """
    try:
        with postgres.command_connection(settings) as connection:
            if introduce:
                ownership.introduce(connection, to.other, by)
            elif not ownership.is_in_use(connection):
                return HandedOver()
            ownership.introduce(connection, to, by)
            ownership.set_new_bots(connection, ownership.CHANNELS, to)
            bots = [each.bot_id for each in ownership.find(connection)]
            return hand_over(settings, connection, bots, to, by, patience)
    except (DatabaseUnavailable, MigrationsPending):
        return HandedOver()
