"""The commands to type for an instance that is not as it should be: first to look, then to end the trouble."""

import re

from bisnesctl.health.probes import Status

#: A command that a reason names; one with an ellipsis is not complete.
_NAMED = re.compile(r"`(bisnesctl [^`…]+)`")


def commands(status: Status, name: str, program: str, reason: str = "") -> list[str]:
    """The commands, in order; none if nothing is to be done. Others that the `reason` names come first."""
    named = _NAMED.findall(reason)
    usual = _usual(status, name, program, bool(named))
    return list(dict.fromkeys([*(each for each in named if each not in usual), *usual]))


def _usual(status: Status, name: str, program: str, is_explained: bool) -> list[str]:
    look, start, restart = (
        f"bisnesctl logs {name} --lines 30",
        f"bisnesctl start {name}",
        f"bisnesctl restart {program}",
    )
    match status:
        case Status.HEALTHY | Status.STARTING | Status.STOPPING:
            return []
        case Status.STOPPED:
            return [start]
        case Status.OUTDATED | Status.EXTRA:
            return [] if is_explained else [restart]
        case Status.DOWN:
            return [look, start]
        case Status.FAILING:  # the guard starts it
            return [look, "bisnesctl doctor"]
        case Status.BLOCKED | Status.FAILED:
            return [look, "bisnesctl doctor", start]
        case _:
            return [look, f"bisnesctl restart {name}"]
