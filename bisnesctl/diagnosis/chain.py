"""A chain of links from what is wanted to what prevents it."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """The effect of a link on the target, worst first."""

    #: It prevents what is wanted, until its cause is gone.
    BLOCKS = "blocks"
    #: It delays what is wanted, on purpose or for a known time.
    DELAYS = "delays"
    #: It prevents nothing now, but an operator should know it.
    WARNS = "warns"
    #: It could not be seen.
    UNSEEN = "unseen"
    OK = "ok"


_ORDER = list(State)


@dataclass(frozen=True)
class Link:
    """One part that the target needs. Its texts are for people."""

    #: The part: supervisord, a process, the session, the number …
    about: str
    state: State
    #: How it is, as a sentence without a full stop.
    text: str
    #: The next step that happens without an operator; empty if there is none.
    next: str = ""
    #: The command to type; empty if nothing has to be done.
    command: str = ""
    #: The commands to type after it.
    then: tuple[str, ...] = ()


@dataclass(frozen=True)
class Diagnosis:
    """Why a target is as it is. A link comes before those that need it."""

    target: str
    wanted: str
    actual: str
    links: Sequence[Link]

    @property
    def cause(self) -> Link | None:
        """The first of the worst links; None if every link is as it should be."""
        bad = [link for link in self.links if link.state is not State.OK]
        return min(bad, key=lambda link: _ORDER.index(link.state), default=None)

    @property
    def unseen(self) -> list[Link]:
        """The links that could not be seen."""
        return [link for link in self.links if link.state is State.UNSEEN]

    @property
    def steps(self) -> list[str]:
        """The commands to type, in order: those of the links that block, or else of those that delay or warn."""
        cause = self.cause
        if cause is None:
            return []
        bad = [each for each in self.links if each.state is cause.state]
        return list(dict.fromkeys(step for each in bad for step in (each.command, *each.then) if step))
