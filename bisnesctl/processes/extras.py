"""Extra instances: supervisord has them, but the settings do not, because a setting was lowered since they started."""

import re
from collections.abc import Iterable, Mapping, Sequence

from bisnesctl.processes.supervisor import Process
from bisnesctl.processes.topology import PROGRAMS, Instance, Program, instance_of
from bisnesctl.settings import Settings


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


def program_of(name: str) -> Program | None:
    """The program of an instance of this name."""
    for row in PROGRAMS:
        own = rf"{re.escape(row.name)}-\d+" if row.instances else re.escape(row.name)
        if re.fullmatch(rf"{re.escape(row.name)}-.+" if row.dynamic else own, name):
            return row
    return None
