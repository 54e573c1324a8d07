"""The bots that a rollout moves, in the order in which they move."""

from collections.abc import Sequence

from bisnesctl.bots import ownership
from bisnesctl.bots.ownership import Ownership, Side
from bisnesctl.database.postgres import Connection, query
from bisnesctl.errors import UsageError
from bisnesctl.queue import targets
from bisnesctl.rollout import plan
from bisnesctl.rollout.plan import Candidate

# Meta's numbers for tests are American ones of fiction.
_ACTIVITY = """
SELECT c.id, regexp_replace(COALESCE(c.display_phone_number, ''), '\\D', '', 'g') LIKE '1555%%',
       COALESCE(sum(l.accepted), 0)::int
FROM phone_configs c LEFT JOIN lane l ON l.bot_id = c.id WHERE c.id = ANY(%(bots)s) GROUP BY c.id"""


def find(
    connection: Connection, to: Side, channel: str | None = None, first: Sequence[str] = ()
) -> tuple[list[Candidate], dict[int, Ownership]]:
    """The bots that another side serves, in the order in which they move, and their owners.

    `first`: names of bots, companies or channels that move before all others. Raises `UsageError` for an unknown one.
    """
    owners = {
        each.bot_id: each
        for each in ownership.find(connection)
        if each.owner is not to and channel in (None, each.channel)
    }
    named: set[int] = set()
    for name in first:
        meant = {bot.id for bot in targets.named(connection, name)} & owners.keys()
        if not meant:
            raise UsageError(f"{name}: {to} serves it already, or it is of another channel")
        named |= meant
    rows = query(connection, _ACTIVITY, {"bots": sorted(owners)})
    found = [Candidate(bot, owners[bot].name, is_test, messages) for bot, is_test, messages in rows]
    return plan.order(found, named), owners


def why_none(connection: Connection, to: Side, channel: str | None = None) -> str:
    """Why `find` found nothing, with the next step if there is one."""
    of_channel = f" of {channel}" if channel else ""
    if any(channel in (None, each.channel) for each in ownership.find(connection)):
        return f"{to} serves all bots{of_channel} already"
    return f"there are no bots{of_channel} to move: `bisnesctl bots add` adds one"
