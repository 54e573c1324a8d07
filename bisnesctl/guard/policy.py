"""When a program that ended is started again, if it is: pure functions of its row and its past."""

from dataclasses import dataclass, replace
from typing import Literal

from bisnesctl.processes.topology import Program

#: Seconds for the longest pause before a restart.
LONGEST = 60.0
#: Seconds for which a quick death counts.
WINDOW = 3600.0
#: Starts in a row that may fail, and the seconds for which the program is blocked then.
FAILED_STARTS, BLOCK = 3, 3600.0
#: Hangs of a session within `WINDOW` that are followed by another start; after one more it is blocked for `BLOCK`
#: seconds. Other programs serve many numbers: they are started again however often they hang.
MAX_HANGS = 5


@dataclass(frozen=True)
class Decision:
    """What becomes of a program that ended: `restart` or `block` until `at`, or `fail`."""

    decision: Literal["restart", "block", "fail"]
    reason: str
    #: By the guard's clock (`state.clock`); none: until somebody starts it.
    at: float | None = None


@dataclass(frozen=True)
class History:
    """What is known of one instance."""

    #: When it died quickly, by the guard's clock; a life of `min_uptime` wipes them out.
    deaths: tuple[float, ...] = ()
    #: Starts in a row that failed by its own account.
    failed_starts: int = 0
    #: What was decided when it ended; none while it runs.
    decision: Decision | None = None
    #: When it hung, in seconds since the epoch, and why it was ended the last time. No life wipes that out.
    hangs: tuple[float, ...] = ()
    hung: str = ""


def ended(history: History, row: Program, status: int, lived: float, now: float, hang: str = "") -> History:
    """It ended by itself with this exit status (-1: by a signal) after `lived` seconds.

    `hang`: why it was ended, if it hung: that is no quick death, but counts however long it lived.
    """
    how = hang or ("it was killed" if status < 0 else f"it ended with exit status {status}")
    if status in row.final_exits:
        return replace(history, decision=Decision("block", f"{how}, which a restart would not change"))
    if row.max_restarts == 0 and not hang:
        return replace(history, decision=Decision("fail", f"{how}; it is not restarted by itself"))
    failed_starts = history.failed_starts + 1 if status in row.failed_starts else 0
    quick = lived < row.min_uptime and not hang
    deaths = (*_recent(history.deaths, now), now) if quick else ()
    hangs = (*_recent(history.hangs, now), now) if hang else _recent(history.hangs, now)
    decision = _after_hang(row, how, hangs, now) if hang else _decide(row, how, deaths, failed_starts, now)
    return History(deaths, failed_starts, decision, hangs, hang or history.hung)


def _recent(times: tuple[float, ...], now: float) -> tuple[float, ...]:
    return tuple(at for at in times if now - at < WINDOW)


def _after_hang(row: Program, how: str, hangs: tuple[float, ...], now: float) -> Decision:
    if len(hangs) > MAX_HANGS and row.dynamic:
        return Decision("block", f"it hung {len(hangs)} times within an hour, the last time: {how}", now + BLOCK)
    return Decision("restart", how, now + _pause(row, len(hangs)))


def _pause(row: Program, troubles: int) -> float:
    return min(row.restart_delay * 2.0 ** max(troubles - 1, 0), max(LONGEST, row.restart_delay))


def _decide(row: Program, how: str, deaths: tuple[float, ...], failed_starts: int, now: float) -> Decision:
    if failed_starts >= FAILED_STARTS:
        return Decision("block", f"{failed_starts} starts in a row failed", now + BLOCK)
    if len(deaths) > row.max_restarts:
        return Decision("fail", f"{len(deaths)} quick deaths in a row, at the last one {how}")
    attempt = f" (attempt {len(deaths)} of {row.max_restarts})" if deaths else ""
    return Decision("restart", f"{how}{attempt}", now + _pause(row, len(deaths)))


def put_off(history: History, reason: str, now: float) -> History:
    """What would be given up is tried again, since something else than the program is to blame: a full disk, say.

    What a restart would not change stays blocked.
    """
    decision = history.decision
    if decision is None or decision.decision == "restart" or (decision.decision == "block" and decision.at is None):
        return history
    return replace(history, decision=Decision("restart", f"{decision.reason}; {reason}", now + LONGEST))


def due(history: History, now: float) -> bool:
    """Whether it is to be started now."""
    decision = history.decision
    return decision is not None and decision.decision != "fail" and decision.at is not None and decision.at <= now


def runs(history: History) -> History:
    """It was started, by us or by somebody. What had been given up begins anew."""
    given_up = history.decision is not None and history.decision.decision != "restart"
    return History() if given_up else replace(history, decision=None)


def forgiven(history: History, lived: float, row: Program) -> History:
    """It has run for `lived` seconds: that wipes out quick deaths and failed starts, once it is long enough."""
    if lived < row.min_uptime or history.decision is not None:
        return history
    return History(hangs=history.hangs, hung=history.hung)
