"""When an instance that ended is started again: pure functions of its program and its history."""

from dataclasses import dataclass, replace
from typing import Literal

from bisnesctl.backoff import Backoff
from bisnesctl.health.exit_reasons import manner
from bisnesctl.processes.topology import Program

#: The longest pause before a restart, in seconds.
MAX_PAUSE_SECONDS = 60.0
#: Seconds for which a quick death or a hang counts.
COUNTED_SECONDS = 3600.0
#: Failed starts in a row after which an instance is blocked.
MAX_FAILED_STARTS = 3
#: Seconds for which an instance is blocked after too many failed starts or hangs.
BLOCK_SECONDS = 3600.0
#: Hangs of a session within `COUNTED_SECONDS` after which it is still restarted; one more blocks it. Other programs
#: serve many bots and are always restarted after a hang.
MAX_HANGS = 5


@dataclass(frozen=True)
class Decision:
    """The decision about an instance that ended: `restart` or `block` until `at`, or `fail`."""

    decision: Literal["restart", "block", "fail"]
    reason: str
    #: On CLOCK_BOOTTIME; None: until an operator starts it.
    at: float | None = None


@dataclass(frozen=True)
class History:
    """The past of one instance."""

    #: Times of quick deaths, on CLOCK_BOOTTIME; a life of `min_uptime` clears them.
    deaths: tuple[float, ...] = ()
    #: Starts in a row that failed, as the program's exit status reports.
    failed_starts: int = 0
    #: The decision when it ended; None while it runs.
    decision: Decision | None = None
    #: Times of hangs, on CLOCK_BOOTTIME. A long life does not clear them.
    hangs: tuple[float, ...] = ()
    #: The reason of the last hang.
    hung: str = ""
    #: Times of stops by the guard because of too much memory, on CLOCK_BOOTTIME. A long life does not clear them.
    renewals: tuple[float, ...] = ()
    #: The reason of the last one.
    renewed: str = ""


def ended(
    history: History, program: Program, status: int, lived: float, now: float, hang: str = "", said: str = ""
) -> History:
    """The history after the instance ended by itself with this exit status (-1: by a signal) after `lived` seconds.

    `hang`: the reason if it was ended because it hung, which counts as a hang and not as a quick death. `said`: the
    reason that it gave itself, or the name of the signal.
    """
    how = hang or manner(status, said)
    if status in program.final_exits:
        return replace(history, decision=Decision("block", f"{how}; a restart would not help"))
    if program.max_restarts == 0 and not hang:
        return replace(history, decision=Decision("fail", f"{how}; it is not restarted automatically"))
    failed_starts = history.failed_starts + 1 if status in program.failed_starts else 0
    quick = lived < program.min_uptime and not hang
    deaths = (*_recent(history.deaths, now), now) if quick else ()
    hangs = (*_recent(history.hangs, now), now) if hang else _recent(history.hangs, now)
    decision = _after_hang(program, how, hangs, now) if hang else _after_death(program, how, deaths, failed_starts, now)
    return replace(
        history, deaths=deaths, failed_starts=failed_starts, decision=decision, hangs=hangs, hung=hang or history.hung
    )


def renewed(history: History, program: Program, reason: str, now: float) -> History:
    """The history after the guard stopped the instance because of its memory. The pause grows with each time."""
    renewals = (*_recent(history.renewals, now), now)
    pause = _pause(program, len(renewals) - 1) if len(renewals) > 1 else 0.0
    return replace(history, renewals=renewals, renewed=reason, decision=Decision("restart", reason, now + pause))


def _recent(times: tuple[float, ...], now: float) -> tuple[float, ...]:
    return tuple(at for at in times if now - at < COUNTED_SECONDS)


def _after_hang(program: Program, how: str, hangs: tuple[float, ...], now: float) -> Decision:
    if len(hangs) > MAX_HANGS and program.dynamic:
        return Decision(
            "block", f"it hung {len(hangs)} times within an hour, the last time: {how}", now + BLOCK_SECONDS
        )
    return Decision("restart", how, now + _pause(program, len(hangs)))


def _after_death(program: Program, how: str, deaths: tuple[float, ...], failed_starts: int, now: float) -> Decision:
    if failed_starts >= MAX_FAILED_STARTS:
        reason = f"{failed_starts} starts in a row failed; the last time {how}"
        return Decision("block", reason, now + BLOCK_SECONDS)
    if len(deaths) > program.max_restarts:
        return Decision("fail", f"{len(deaths)} quick deaths in a row; the last time {how}")
    attempt = f" (attempt {len(deaths)} of {program.max_restarts})" if deaths else ""
    return Decision("restart", f"{how}{attempt}", now + _pause(program, len(deaths)))


def _pause(program: Program, failures: int) -> float:
    return Backoff(program.restart_delay, 2.0, max(MAX_PAUSE_SECONDS, program.restart_delay)).pause(failures)


def put_off(history: History, reason: str, now: float) -> History:
    """Replaces `fail`, or a block with an end, by a later restart, because something else is the cause: a full disk.

    An instance that a restart would not help stays blocked.
    """
    decision = history.decision
    if decision is None or decision.decision == "restart" or (decision.decision == "block" and decision.at is None):
        return history
    return replace(history, decision=Decision("restart", f"{decision.reason}; {reason}", now + MAX_PAUSE_SECONDS))


def due(history: History, now: float) -> bool:
    """Whether the instance should be started now."""
    decision = history.decision
    return decision is not None and decision.decision != "fail" and decision.at is not None and decision.at <= now


def started(history: History) -> History:
    """The history after a start, by the guard or by an operator. A start after `block` or `fail` clears it."""
    stopped = history.decision is not None and history.decision.decision != "restart"
    return History() if stopped else replace(history, decision=None)


def forgiven(history: History, lived: float, program: Program) -> History:
    """The history after the instance has run for `lived` seconds: a long life clears deaths and failed starts."""
    if lived < program.min_uptime or history.decision is not None:
        return history
    return replace(history, deaths=(), failed_starts=0)
