"""The two managers of processes: how each starts, names, restarts and stops the same programs.

Both run every program that `bisnesctl start --multiprocess` runs, but for the guard, which is a part of our manager.
Both stop programs with SIGTERM, and both pause as long before they restart one that was killed.
"""

import contextlib
import itertools
from dataclasses import dataclass
from typing import Protocol

import psutil

from bisnesctl.health.guard_file import GUARD
from bisnesctl.processes import topology
from bisnesctl.processes.shim import __file__ as shim_file
from tests.bench import usage
from tests.bench.managers.pm2_tool import Pm2Tool
from tests.bench.sides import Ours, wait_for
from tests.bench.stage import Stage, free_port

#: The program that is restarted, and waited for until it serves.
SERVING = "api-0"


class Manager(Protocol):
    """A manager that runs the programs. Its commands are those that an operator types."""

    name: str
    port: int

    def start(self) -> None:
        """Start the programs."""

    def status(self) -> None:
        """Show the programs."""

    def restart(self, name: str) -> None:
        """Restart a program."""

    def stop(self) -> None:
        """Stop everything, the manager included."""

    def daemon(self) -> psutil.Process:
        """The process whose children the programs are."""

    def own_processes(self) -> list[psutil.Process]:
        """The processes of the manager itself."""

    def wrappers(self) -> list[psutil.Process]:
        """Its processes that stand between it and a program."""

    def close(self) -> None:
        """End everything that is left."""


def programs(manager: Manager) -> dict[str, psutil.Process]:
    """The children of a manager's daemon that run a program, by the name of the program."""
    found = {}
    for child in manager.daemon().children():
        with contextlib.suppress(psutil.Error):
            name = child.environ().get("BISNES_INSTANCE")
            if name and child.status() != psutil.STATUS_ZOMBIE:
                found[name] = child
    return found


def wait_until_serving(manager: Manager) -> None:
    """Waits until the API serves."""
    wait_for(f"http://127.0.0.1:{manager.port}/health/ready", itertools.repeat(True))


def row_of(name: str) -> topology.Program:
    """The row of the table of programs to which an instance belongs."""
    return topology.program(name if name in {row.name for row in topology.PROGRAMS} else name.rpartition("-")[0])


@dataclass(frozen=True)
class Command:
    """A program as PM2 starts it: what our supervisord runs, on an address instead of a socket of supervisord."""

    words: list[str]
    environment: dict[str, str]


class Bisnesctl:
    """Our supervisord with its guard."""

    name = "bisnesctl"

    def __init__(self, stage: Stage) -> None:
        self._ours = Ours(stage.folder)
        self._stage = stage
        self._url = self._ours.prepare(stage)
        self.port = self._ours.port

    def start(self) -> None:
        self._ours.start(self._stage, self._url)

    def status(self) -> None:
        self._ours.bisnesctl("status")

    def restart(self, name: str) -> None:
        self._ours.bisnesctl("restart", name)

    def stop(self) -> None:
        self._ours.bisnesctl("stop")

    def daemon(self) -> psutil.Process:
        for process in self._ours.processes():
            if self._ours.label(process) == "supervisord":
                return process
        raise RuntimeError("supervisord does not run")

    def own_processes(self) -> list[psutil.Process]:
        return [self.daemon(), *usage.tree([programs(self)[GUARD]])]

    def wrappers(self) -> list[psutil.Process]:
        return [each for each in usage.tree([self.daemon()]) if shim_file in each.cmdline()]

    def close(self) -> None:
        self._ours.stop()

    def commands(self) -> dict[str, Command]:
        """The commands of the programs that run, without the shim: it belongs to our manager."""
        found = {}
        for name, process in programs(self).items():
            if name != GUARD:
                words = process.cmdline()
                after_shim = words.index(shim_file) + 2 if shim_file in words else 0  # its argument is some seconds
                found[name] = Command(words[after_shim:], process.environ())
        return found


class Pm2:
    """PM2's daemon."""

    name = "PM2"

    def __init__(self, tool: Pm2Tool, commands: dict[str, Command]) -> None:
        self._tool, self.port = tool, free_port()
        self._apps = [self._app(name, each) for name, each in commands.items()]

    def _app(self, name: str, command: Command) -> dict[str, object]:
        port, row = self.port if name == SERVING else free_port(), row_of(name)
        program, *arguments = [f"127.0.0.1:{port}" if word == "fd://0" else word for word in command.words]
        return {
            "name": name,
            "script": program,
            "args": arguments,
            "interpreter": "none",
            "exec_mode": "fork",
            "restart_delay": int(row.restart_delay * 1000),
            "kill_timeout": row.kill_timeout * 1000,
            "env": command.environment | {"API_PORT": str(self.port)},
        }

    def start(self) -> None:
        self._tool.start(self._apps)

    def status(self) -> None:
        self._tool.run("status")

    def restart(self, name: str) -> None:
        self._tool.run("restart", name)

    def stop(self) -> None:
        self._tool.run("kill")

    def daemon(self) -> psutil.Process:
        return self._tool.daemon()

    def own_processes(self) -> list[psutil.Process]:
        return [self.daemon()]

    def wrappers(self) -> list[psutil.Process]:
        return []

    def close(self) -> None:
        self._tool.end()
