"""The manager's plan for the sessions' programs: a pure function of the wanted and the existing ones."""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from bisnesctl.bots.web_sessions import WebSession
from bisnesctl.naming import session_name

#: How long a session counts as starting, and hence needs a CPU for itself.
STARTING_SECONDS = 60.0


class Program(Enum):
    """The state of a session's program in supervisord."""

    FRESH = "fresh"  # not started yet
    ACTIVE = "active"
    ENDED = "ended"  # by itself or by an operator: the guard, or the operator, decides about a restart


@dataclass(frozen=True, slots=True)
class Idle:
    """A session that is not to run, and the state to publish."""

    session: WebSession
    state: str
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """The steps, in this order."""

    remove: list[str] = field(default_factory=list)  # names of programs
    idle: list[Idle] = field(default_factory=list)
    start: list[WebSession] = field(default_factory=list)
    later: bool = False  # more are to be started once the current starts have ended


def plan(
    sessions: Sequence[WebSession], programs: Mapping[str, Program], max_sessions: int, max_starts: int,
    company_limit: Callable[[str], int | None] = lambda _: None,
) -> Plan:  # fmt: skip
    """The steps after which the wanted sessions without a block have programs, the first `max_sessions` of `in_turn`.

    `programs`: by name. `max_starts`: how many may be starting at the same time. `company_limit`: how many a company
    may have; None: any number.
    """
    able = in_turn([each for each in sessions if each.wanted and each.moved and each.block is None], company_limit)
    chosen = {program_name(each): each for each in able[:max_sessions]}
    due = [each for name, each in chosen.items() if _is_due(each, programs.get(name))]
    room = max(max_starts - sum(_is_starting(each, programs.get(name)) for name, each in chosen.items()), 0)
    return Plan(
        remove=[name for name in programs if name not in chosen],
        idle=[
            idle
            for each in sessions
            if program_name(each) not in chosen and (idle := _idle(each, max_sessions, company_limit(each.company)))
        ],
        start=due[:room],
        later=len(due) > room,
    )


def in_turn(sessions: Sequence[WebSession], company_limit: Callable[[str], int | None]) -> list[WebSession]:
    """The sessions in the order in which they get a place; those beyond the limit of their company get none.

    Numbers with a linked phone come first, so that one that was never linked takes no place of a number in use. Within
    both groups the companies take turns: no company's second number comes before another company's first.
    """
    turns: Counter[str] = Counter()
    order = []
    for session in sorted(sessions, key=lambda each: (not each.linked, each.bot_id)):
        turn, limit = turns[session.company], company_limit(session.company)
        turns[session.company] += 1
        if limit is None or turn < limit:
            order.append((not session.linked, turn, session.bot_id, session))
    return [session for *_, session in sorted(order, key=lambda each: each[:3])]


def is_elsewhere(session: WebSession, here: str, locked: Collection[int], hosts: Collection[str]) -> bool:
    """Whether a session belongs to another machine.

    `locked`: bots whose lock is held by a process; `hosts`: machines that are alive. If the machine of its last run is
    gone, the session may be started here.
    """
    return session.host not in (None, here) and (session.bot_id in locked or session.host in hosts)


def program_name(session: WebSession) -> str:
    """The name of its program in supervisord."""
    return session_name(session.company, session.phone)


def _is_due(session: WebSession, program: Program | None) -> bool:
    """Whether it is to be started. A program that ended is started only if a start was requested since."""
    if program is Program.ENDED:
        return session.started_at is None
    return program is not Program.ACTIVE


def _is_starting(session: WebSession, program: Program | None) -> bool:
    if program is not Program.ACTIVE or session.state not in ("STOPPED", "STARTING"):
        return False
    # A start in the future does not count: the database's clock was set back since.
    return session.ages.start is None or 0 <= session.ages.start < STARTING_SECONDS


def _idle(session: WebSession, max_sessions: int, company_limit: int | None) -> Idle | None:
    """The state to publish of a session that is not to run; None if it is published already, or none is."""
    if not session.moved:
        return None  # the former server may publish its state
    if session.block is not None:
        return None if session.state == "FAILED" else Idle(session, "FAILED", session.block.reason)
    if not session.wanted:
        return None if session.state == "STOPPED" else Idle(session, "STOPPED", "an operator stopped it")
    reason = f"{max_sessions} sessions run already (MAX_SESSIONS): stop another one, or raise it in .env"
    if company_limit is not None and company_limit < max_sessions:
        reason = (
            f"the company may have {company_limit} sessions, and there are {max_sessions} places (web_sessions, "
            "MAX_SESSIONS): stop another one, or have an operator raise the limit"
        )
    published = session.state == "STOPPED" and session.reason == reason
    return None if published else Idle(session, "STOPPED", reason)


def session_to_recycle(
    sessions: Sequence[WebSession], limit: float, recycled: Collection[int], busy: Collection[int]
) -> WebSession | None:
    """The session whose browser is renewed because all sessions together use more than `limit` MB; None if none is.

    Browsers are renewed one at a time, to see whether one is enough: none while a session was just `recycled`. Of the
    sessions with the most memory, one without messages in its queue (`busy`) comes first.
    """
    running = [each for each in sessions if each.runs and each.memory_mb]
    total = sum(each.memory_mb or 0 for each in running)
    if total <= limit or any(each.bot_id in recycled for each in running):
        return None
    return max(running, key=lambda each: (each.bot_id not in busy, each.memory_mb))
