"""One rollout, as the table `rollout` has it. Changes are conditional, so that two processes cannot undo each other's.

At most one rollout is under way. The process that drives it renews a lease; if it ends, another one continues.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from bisnesctl.bots.ownership import Side
from bisnesctl.database.postgres import Connection, query
from bisnesctl.errors import Conflict
from bisnesctl.rollout.plan import Step, count

#: Seconds for which a process drives a rollout without renewing its lease.
LEASE_SECONDS = 30.0


class Phase(StrEnum):
    """The direction of a rollout, or its end."""

    FORWARD = "forward"
    BACK = "back"
    DONE = "done"  # all bots are on the new side
    UNDONE = "undone"  # all bots are on the old side again

    @property
    def is_end(self) -> bool:
        """Whether nothing is left to do."""
        return self in (Phase.DONE, Phase.UNDONE)


@dataclass(frozen=True, slots=True)
class Rollout:
    """A rollout."""

    id: int
    #: None: bots of every channel.
    channel: str | None
    from_side: Side
    to_side: Side
    #: In the order in which they move.
    bots: tuple[int, ...]
    steps: tuple[Step, ...]
    step: int
    phase: Phase
    paused: bool
    #: Whether it advances by itself.
    automatic: bool
    began_at: datetime
    #: When all bots of the step had moved; None: not yet.
    step_at: datetime | None
    ended_at: datetime | None
    by: str
    #: Why it goes back, waits, or ended as it did.
    reason: str
    #: The last verdict: pass, fail or hold.
    ruling: str | None
    reasons: tuple[str, ...]
    judged_at: datetime | None
    #: Failed starts of a side in a row.
    failures: int
    driver: str | None
    #: Seconds until the lease of its driver ends; at most 0: it has none.
    driver_seconds: float
    #: Seconds since all bots of the step had moved, by the database's clock; None: not yet.
    step_seconds: float | None

    @property
    def current(self) -> Step:
        """The current step."""
        return self.steps[self.step]

    @property
    def is_last(self) -> bool:
        """Whether no step comes after the current one."""
        return self.step == len(self.steps) - 1

    @property
    def wanted(self) -> tuple[int, ...]:
        """The bots that the new side should serve now."""
        if self.phase in (Phase.BACK, Phase.UNDONE):
            return ()
        return self.bots[: count(len(self.bots), self.current.percent)]


_COLUMNS = """
id, channel, from_side, to_side, bots, steps, step, phase, paused, automatic, began_at, step_at, ended_at, by, reason,
ruling, reasons, judged_at, failures, driver, extract(epoch FROM NULLIF(driver_until, '-infinity') - now())::float,
extract(epoch FROM now() - step_at)::float"""
_LATEST = f"SELECT {_COLUMNS} FROM rollout ORDER BY id DESC LIMIT %(limit)s"
_ONE = f"SELECT {_COLUMNS} FROM rollout WHERE id = %(id)s"
_ACTIVE = f"SELECT {_COLUMNS} FROM rollout WHERE ended_at IS NULL"
_CREATE = """
INSERT INTO rollout (channel, from_side, to_side, bots, steps, automatic, by)
VALUES (%(channel)s, %(from_side)s, %(to_side)s, %(bots)s, %(steps)s, %(automatic)s, %(by)s)
ON CONFLICT DO NOTHING RETURNING id"""
# Of the same machine, another process may continue at once if the driver has ended.
_LEASE = """
UPDATE rollout SET driver = %(driver)s, driver_until = now() + %(lease)s * interval '1 second'
WHERE id = %(id)s AND ended_at IS NULL AND (driver = %(driver)s OR driver_until <= now() OR driver = ANY(%(ended)s))
RETURNING id"""
_RELEASE = "UPDATE rollout SET driver = NULL, driver_until = '-infinity' WHERE id = %(id)s AND driver = %(driver)s"
_CHANGE = """
UPDATE rollout SET {changes} WHERE id = %(id)s AND step = %(step)s AND phase = %(phase)s AND paused = %(paused)s
RETURNING id"""


def active(connection: Connection) -> Rollout | None:
    """The rollout that is under way; None if there is none."""
    return next(map(_rollout, query(connection, _ACTIVE)), None)


def latest(connection: Connection, limit: int = 1) -> list[Rollout]:
    """The last rollouts, the newest first."""
    return [_rollout(row) for row in query(connection, _LATEST, {"limit": limit})]


def find(connection: Connection, number: int) -> Rollout | None:
    """One rollout."""
    return next(map(_rollout, query(connection, _ONE, {"id": number})), None)


def create(
    connection: Connection, channel: str | None, to_side: Side, bots: Sequence[int], steps: Sequence[Step],
    automatic: bool, by: str,
) -> Rollout:  # fmt: skip
    """Begins a rollout. Raises `Conflict` if one is under way."""
    values = {
        "channel": channel, "from_side": to_side.other, "to_side": to_side, "bots": list(bots), "by": by,
        "steps": _written(steps), "automatic": automatic,
    }  # fmt: skip
    created = query(connection, _CREATE, values)
    found = find(connection, created[0][0]) if created else None
    if found is None:
        raise Conflict("a rollout is under way: `bisnesctl rollout status` shows it, `bisnesctl rollout abort` ends it")
    return found


def lease(connection: Connection, rollout: Rollout, driver: str, ended: Sequence[str]) -> bool:
    """Whether this process drives the rollout for the next seconds. `ended`: drivers that are known to have ended."""
    values = {"id": rollout.id, "driver": driver, "lease": LEASE_SECONDS, "ended": list(ended)}
    return bool(query(connection, _LEASE, values))


def release(connection: Connection, rollout: Rollout, driver: str) -> None:
    """Ends the lease of this process."""
    query(connection, _RELEASE, {"id": rollout.id, "driver": driver})


def change(connection: Connection, rollout: Rollout, **values: Any) -> bool:
    """Changes columns, unless the step, the phase or the pause is another one by now. Returns whether it did.

    `now` as a value means the time of the database.
    """
    if "steps" in values:
        values["steps"] = _written(values["steps"])
    if "reasons" in values:
        values["reasons"] = json.dumps(list(values["reasons"]))
    changes = ", ".join(f"{name} = {'now()' if each == 'now' else f'%(new_{name})s'}" for name, each in values.items())
    new = {f"new_{name}": each for name, each in values.items()}
    before = {"id": rollout.id, "step": rollout.step, "phase": rollout.phase, "paused": rollout.paused}
    return bool(query(connection, _CHANGE.format(changes=changes), before | new))


def _written(steps: Sequence[Step]) -> str:
    return json.dumps([{"percent": each.percent, "seconds": each.seconds} for each in steps])


def _rollout(row: tuple[Any, ...]) -> Rollout:
    (number, channel, from_side, to_side, bots, steps, step, phase, paused, automatic, began_at, step_at, ended_at, by,
     reason, ruling, reasons, judged_at, failures, driver, driver_seconds, step_seconds) = row  # fmt: skip
    return Rollout(
        number, channel, Side(from_side), Side(to_side), tuple(bots),
        tuple(Step(float(each["percent"]), each["seconds"]) for each in steps), step, Phase(phase), paused, automatic,
        began_at, step_at, ended_at, by, reason, ruling, tuple(reasons), judged_at, failures, driver,
        driver_seconds or 0.0, step_seconds,
    )  # fmt: skip
