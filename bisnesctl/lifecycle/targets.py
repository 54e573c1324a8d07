"""The instances that a command acts on: those that a selection means, without those that it should leave alone."""

from collections.abc import Sequence
from dataclasses import dataclass

from bisnesctl.errors import UsageError
from bisnesctl.processes.deployment import Deployment
from bisnesctl.processes.extras import why_extra
from bisnesctl.processes.selection import EVERYTHING, Selection, resolve
from bisnesctl.processes.topology import Instance, Kind


@dataclass(frozen=True)
class Targets:
    """The meaning of a selection."""

    chosen: list[Instance]
    #: The guard, the embedded servers and the sandbox, which `all` and selectors leave out.
    left_out: list[Instance]


def find_targets(
    deployment: Deployment, selection: Selection, found: Sequence[Instance], known: Sequence[Instance]
) -> Targets:
    """The instances among those that were `found` for the selection.

    `all` and selectors leave out the programs that all others need, unless their names or their kind are typed, and
    the programs of the other mode. Raises `UsageError` if nothing is left, or if a name that was typed cannot run in
    this mode.
    """
    typed = [name for name in selection.names if name != EVERYTHING]
    named = {each.name for each in resolve(typed, known)}
    in_mode = [each for each in found if deployment.modes & each.program.modes]
    foreign = ", ".join(each.name for each in found if each not in in_mode and each.name in named)
    if foreign:
        raise UsageError(f"{foreign} does not run in mode {deployment.mode}: `bisnesctl start` changes the mode")
    left_out = [
        each
        for each in in_mode
        if each.program.is_base and each.name not in named and Kind.INFRASTRUCTURE not in selection.kinds
    ]
    chosen = [each for each in in_mode if each not in left_out]
    if not chosen:
        raise UsageError(f"nothing matches {selection}: `bisnesctl status` shows what there is")
    return Targets(chosen, left_out)


def check_own(deployment: Deployment, selection: Selection, chosen: Sequence[Instance]) -> None:
    """Raises `UsageError` for an extra instance that was named, because a restart would only stop it."""
    own = {each.name for each in deployment.instances}
    for each in chosen:
        if each.name in selection.names and each.name not in own:
            raise UsageError(f"{each.name} cannot be restarted: {why_extra(each, deployment.settings)}")
