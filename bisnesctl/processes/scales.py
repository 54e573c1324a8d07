"""The numbers of instances that `bisnesctl scale` set: `run/scale.json` overrides `.env` until `scale …=default`.

An environment variable of the same name is stronger, because it belongs to one command or to a unit of systemd.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bisnesctl.errors import UsageError
from bisnesctl.host import disk
from bisnesctl.processes.selection import ALIASES
from bisnesctl.processes.topology import PROGRAMS, Program
from bisnesctl.setting_values import ENVIRONMENT
from bisnesctl.settings import Settings

#: The file, below `run_dir`.
FILE = "scale.json"
#: The origin of a number that `bisnesctl scale` set.
BY_SCALE = "scale"
#: The programs that may have several instances.
SCALABLE = tuple(row for row in PROGRAMS if row.instances is not None)


@dataclass(frozen=True)
class Scale:
    """The number of instances of one program."""

    program: str
    wanted: int
    #: The place that it comes from: `scale`, the environment, or the path of `.env`.
    origin: str
    #: The number of the settings, which `scale …=default` returns to.
    configured: int

    @property
    def drift(self) -> str:
        """How it differs from the settings, with the next step; empty if it does not."""
        if self.wanted == self.configured:
            return ""
        return (
            f"`bisnesctl scale` set {self.wanted} of {self.program}, the settings say {self.configured}: "
            f"`bisnesctl scale {self.program}=default` returns to them"
        )


def find_program(name: str) -> Program:
    """The program that a word such as `meta` means. Raises `UsageError` that lists the programs."""
    meant = ALIASES.get(name, (name,))
    for row in SCALABLE:
        if row.name in meant or row.process == name:
            return row
    known = ", ".join(row.process or row.name for row in SCALABLE)
    exists = any(name in (row.name, row.process) for row in PROGRAMS)
    problem = f"{name} always has one instance" if exists else f"there is no program {name}"
    raise UsageError(f"{problem}. These can be scaled: {known}")


def read(run_dir: Path) -> Mapping[str, int]:
    """The numbers that were set, by program; empty if there are none, or the file is damaged."""
    try:
        found = json.loads((run_dir / FILE).read_text())
        return {row.name: int(found[row.name]) for row in SCALABLE if int(found.get(row.name, 0)) > 0}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def write(run_dir: Path, numbers: Mapping[str, int]) -> None:
    """Sets the numbers of programs, and forgets those of all others. Raises `CannotWrite`."""
    with disk.writing(run_dir / FILE):
        if numbers:
            disk.replace(run_dir / FILE, json.dumps(dict(numbers)).encode())
        else:
            (run_dir / FILE).unlink(missing_ok=True)


def apply(settings: Settings) -> Settings:
    """The settings with the numbers that were set."""
    return with_numbers(settings, settings, read(settings.run_dir))


def with_numbers(settings: Settings, configured: Settings, numbers: Mapping[str, int]) -> Settings:
    """The settings with these numbers; other programs have the number that is `configured`."""
    fields = {}
    for row in SCALABLE:
        field = str(row.instances)
        if field not in settings.problems:
            by_environment = configured.origin(field) == ENVIRONMENT
            fields[field] = (
                getattr(configured, field) if by_environment else numbers.get(row.name, getattr(configured, field))
            )
    return settings.copy_with(**fields)


def find(settings: Settings) -> list[Scale]:
    """The number of each program. `settings`: those before `apply`."""
    numbers = read(settings.run_dir)
    found = []
    for row in SCALABLE:
        field = str(row.instances)
        configured = int(getattr(settings, field))
        if row.name in numbers and settings.origin(field) != ENVIRONMENT:
            found.append(Scale(row.name, numbers[row.name], BY_SCALE, configured))
        else:
            found.append(Scale(row.name, configured, settings.origin(field), configured))
    return found
