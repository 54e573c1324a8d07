"""The other programs of a channel: those that a start leaves stopped, and those that a stop leaves running."""

from collections.abc import Sequence

from bisnesctl.formatting import listed
from bisnesctl.lifecycle.rolling_restart import is_active
from bisnesctl.processes import stop_records
from bisnesctl.processes.deployment import Deployment
from bisnesctl.processes.topology import Instance, Kind

#: The kinds of programs that serve one channel together, or one API.
_CHANNELS = ({Kind.API}, {Kind.META}, {Kind.WWEBJS, Kind.SESSIONS})


def still_stopped(deployment: Deployment, started: Sequence[Instance]) -> str:
    """The programs beside those started that an operator stopped, as a sentence with the command; empty if none."""
    records, processes = stop_records.read(deployment.settings.run_dir), deployment.processes()
    beside = _beside(deployment, started)
    left = [each for each in beside if each.name in records and not is_active(each, processes)]
    if not left:
        return ""
    latest = max((records[each.name] for each in left), key=lambda each: each.at)
    verb = "is" if len(left) == 1 else "are"
    names = listed([each.name for each in left])
    return f"{names} {verb} still stopped ({latest.brief}): bisnesctl start {_shortest(left, beside)}"


def still_running(deployment: Deployment, stopped: Sequence[Instance]) -> str:
    """The other programs of the channels of those stopped that run on, as a sentence with the command; empty if none.

    A session ends without its manager, which serves other bots.
    """
    processes, programs = deployment.processes(), {each.program.name for each in stopped}
    beside = _beside(deployment, [each for each in stopped if not each.program.dynamic])
    left = [each for each in beside if each.program.name not in programs and is_active(each, processes)]
    if not left:
        return ""
    abouts = "; ".join(dict.fromkeys(f"{each.program.name}: {each.program.about}" for each in left))
    verb = "runs" if len(left) == 1 else "run"
    names = listed([each.name for each in left])
    return f"{names} still {verb} ({abouts}): bisnesctl stop {_shortest(left, beside)}"


def _beside(deployment: Deployment, chosen: Sequence[Instance]) -> list[Instance]:
    """The instances of the channels of these. Sessions serve different bots, so they do not belong together."""
    kinds = {kind for each in chosen for channel in _CHANNELS if each.program.kind in channel for kind in channel}
    if all(each.program.dynamic for each in chosen):
        kinds.discard(Kind.SESSIONS)
    known = deployment.known(deployment.processes())
    return [each for each in known if each.program.kind in kinds and deployment.modes & each.program.modes]


def _shortest(chosen: Sequence[Instance], known: Sequence[Instance]) -> str:
    """The names to type for these instances: of programs if all their instances are meant."""
    names = []
    for each in chosen:
        whole = all(other in chosen for other in known if other.program.name == each.program.name)
        names.append(each.program.name if whole else each.name)
    return " ".join(dict.fromkeys(names))
