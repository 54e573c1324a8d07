"""Extra instances: supervisord has them, but the settings do not, because a setting was lowered since they started."""

import contextlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from bisnesctl.errors import UsageError
from bisnesctl.processes.selection import ALIASES, UnknownName
from bisnesctl.processes.supervisor import Process
from bisnesctl.processes.topology import PROGRAMS, Instance, Program, instance_of
from bisnesctl.settings import Settings

#: The condition of an embedded server → the setting that names another server.
_SERVERS = {"embedded_postgres": "database_url", "embedded_redis": "redis_url"}
_REASONS = dict.fromkeys(_SERVERS, "{} in {} names a server of its own")


def find_extras(instances: Sequence[Instance], processes: Mapping[str, Process], settings: Settings) -> list[Instance]:
    """The extra instances among supervisord's processes."""
    names = {each.name for each in instances}
    found = ((process, program_of(name)) for name, process in processes.items() if name not in names)
    return [instance_of(row, process.name, settings) for process, row in found if row is not None]


def in_start_order(instances: Iterable[Instance]) -> list[Instance]:
    """The instances in order of start; those of one program stay together."""
    found = list(instances)
    place: dict[str, int] = {}
    for each in found:
        place.setdefault(each.program.name, len(place))
    return sorted(found, key=lambda each: (each.program.priority, place[each.program.name]))


def why_extra(instance: Instance, settings: Settings) -> str:
    """Why the settings do not have this instance: the setting, and what to do."""
    row = instance.program
    if row.needs is not None and not getattr(settings, row.needs):
        setting = f"{row.needs.upper()} is off" if row.needs.startswith("enable_") else "the settings do not need it"
        return f"it runs, but {setting}: `bisnesctl stop {instance.name}`"
    if row.instances is None:
        return f"it runs, but the settings do not have it: `bisnesctl stop {instance.name}`"
    count = getattr(settings, row.instances)
    return (
        f"it runs, but {row.instances.upper()} is {count}: `bisnesctl restart {row.name}` stops it; raise "
        f"{row.instances.upper()} to keep it"
    )


def why_left_out(name: str, settings: Settings) -> str:
    """Why the settings leave out a program or an instance of this name; empty if they do not, or if there is none."""
    meant = set(ALIASES.get(name, (name,)))
    own = program_of(name)
    for row in PROGRAMS:
        if (row.name in meant or row is own) and row.needs is not None and not getattr(settings, row.needs):
            return f"{name} is left out: {_REASONS.get(row.needs, '{}=false in {}').format(*_switch(row, settings))}"
    return ""


def switched_off(channel: str, settings: Settings) -> str:
    """Why this deployment does not serve a channel, with the next step; empty if the settings have its programs."""
    why = why_left_out(channel, settings)
    return why and f"{why}. Set it to true, then `bisnesctl start`"


def _switch(row: Program, settings: Settings) -> tuple[str, str]:
    """The setting that leaves out a program, and its place."""
    field = _SERVERS.get(str(row.needs), str(row.needs))
    return field.upper(), settings.origin(field)


@contextlib.contextmanager
def left_out_explained(settings: Settings) -> Iterator[None]:
    """Within it, the name of a program that the settings leave out is refused with the setting."""
    try:
        yield
    except UnknownName as error:
        if why := why_left_out(error.name, settings):
            raise UsageError(why) from error
        raise


def program_of(name: str) -> Program | None:
    """The program of an instance of this name."""
    for row in PROGRAMS:
        own = rf"{re.escape(row.name)}-\d+" if row.instances else re.escape(row.name)
        if re.fullmatch(rf"{re.escape(row.name)}-.+" if row.dynamic else own, name):
            return row
    return None
