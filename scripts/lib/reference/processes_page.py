"""`docs/reference/processes.md`: the programs of `PROGRAMS`, their instances, ports and limits."""

from markdown_table import table

from bisnesctl.processes.selection import ALIASES
from bisnesctl.processes.topology import PROGRAMS, Mode, Program
from bisnesctl.settings import Settings

INTRODUCTION = """\
# Processes

Every program that supervisord can run, with its instances, ports and limits.

`bisnesctl status` lists the instances that run; [Concepts](../explanation/concepts.md) explains how they work together.
"""

RESTARTS = """\
## Restarts

The guard restarts an instance that ended by itself. The first restart comes after the delay of its program. The \
pause doubles with every quick end, which is an end before the minimum uptime. After too many quick ends in a row the \
instance is `failed`. If a restart would not help, it is `blocked`.

The memory limit counts the whole process tree (PSS). At the limit the guard restarts the instance: it asks first and \
kills afterwards. A session restarts its own browser at its limit; the guard intervenes at 1.5 times the limit.
"""

NAMES = """\
## Former names

Commands accept the process names of the former system as well:
"""


def render() -> str:
    """The page."""
    titles = ("program", "purpose", "instances", "port", "runs in mode")
    limits = ("program", "first delay", "minimum uptime", "quick ends", "memory limit", "time to stop")
    names = [(f"`{name}`", ", ".join(f"`{each}`" for each in meant)) for name, meant in ALIASES.items()]
    return "\n".join([
        INTRODUCTION,
        table(titles, map(_description, PROGRAMS)),
        "",
        RESTARTS,
        table(limits, map(_limits, PROGRAMS)),
        "",
        NAMES,
        table(("name", "programs"), names),
        "",
    ])  # fmt: skip


def _description(row: Program) -> tuple[str, ...]:
    modes = ", ".join(f"`{mode}`" for mode in Mode if mode in row.modes)
    return f"`{row.name}`", row.about, _instances(row), _port(row), modes


def _instances(row: Program) -> str:
    if row.dynamic:
        return "one for each number, at most `MAX_SESSIONS`"
    return f"`{row.instances.upper()}`" if row.instances else "1"


def _port(row: Program) -> str:
    if row.address is None:
        return ""
    name = row.address[1]
    return f"{Settings.model_fields[name].default} (`{name.upper()}`)"


def _limits(row: Program) -> tuple[str, ...]:
    if row.is_listener:
        return f"`{row.name}`", "", "", "restarted by supervisord", "", f"{row.kill_timeout} s"
    quick = str(row.max_restarts) if row.max_restarts else "never restarted"
    return (
        f"`{row.name}`", f"{row.restart_delay:g} s", f"{row.min_uptime} s", quick, _memory(row),
        f"{row.kill_timeout} s",
    )  # fmt: skip


def _memory(row: Program) -> str:
    if row.memory is None:
        return ""
    return f"{row.memory} MB" if isinstance(row.memory, int) else f"`{row.memory.upper()}`"
