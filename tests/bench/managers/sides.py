"""The two managers of processes: how each starts, names, restarts and stops the same programs."""

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import psutil

from bisnesctl.processes.shim import __file__ as shim_file
from tests.bench import usage
from tests.bench.sides import Ours, wait_for
from tests.bench.stage import Stage, free_port
from tests.bench.tools import MissingTool

#: Time limit of one command of a manager.
COMMAND_TIMEOUT_SECONDS = 180
#: Our programs that PM2 runs too. Each is an instance → the milliseconds of its restart delay.
RESTART_DELAYS_MS = {"api-0": 2000, "meta-worker-1": 1000, "events": 1000}
SERVING = "api-0"
PM2_VERSION = "7"


class Manager(Protocol):
    """A manager that runs the programs."""

    name: str

    def start(self) -> None:
        """Start the programs and wait until the API serves."""

    def status(self) -> None:
        """Show the programs, as an operator types it."""

    def restart(self, name: str) -> None:
        """Restart a program and wait until it serves, if it is the API."""

    def stop(self) -> None:
        """Stop everything, the manager included."""

    def daemon(self) -> psutil.Process:
        """The process whose children the programs are."""

    def memory_mib(self) -> float:
        """The memory (PSS) of the manager's own processes."""


def program(manager: Manager, name: str) -> psutil.Process | None:
    """The child of the manager that runs this program; None while there is none."""
    for child in manager.daemon().children():
        try:
            if child.status() != psutil.STATUS_ZOMBIE and child.environ().get("BISNES_INSTANCE") == name:
                return child
        except psutil.Error:
            continue
    return None


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

    @property
    def port(self) -> int:
        return self._ours.port

    def start(self) -> None:
        self._ours.start(self._stage, self._url)
        wait_for(f"http://127.0.0.1:{self.port}/health/ready", _always())

    def status(self) -> None:
        self._ours.bisnesctl("status")

    def restart(self, name: str) -> None:
        self._ours.bisnesctl("restart", name)
        if name == SERVING:
            wait_for(f"http://127.0.0.1:{self.port}/health/ready", _always())

    def stop(self) -> None:
        self._ours.bisnesctl("stop")

    def close(self) -> None:
        """End everything that is left."""
        self._ours.stop()

    def daemon(self) -> psutil.Process:
        for process in self._ours.processes():
            if self._ours.label(process) == "supervisord":
                return process
        raise RuntimeError("supervisord does not run")

    def memory_mib(self) -> float:
        guard = program(self, "guard")
        own = [self.daemon(), *(usage.tree([guard]) if guard else [])]
        return sum(usage.pss_mib(each) for each in own)

    def commands(self) -> dict[str, Command]:
        """The commands of the programs that run, without the shim: it belongs to our manager."""
        found = {}
        for name in RESTART_DELAYS_MS:
            process = program(self, name)
            if process is None:
                raise RuntimeError(f"{name} does not run")
            words = process.cmdline()
            after_shim = words.index(shim_file) + 2 if shim_file in words else 0  # its argument is a number of seconds
            found[name] = Command(words[after_shim:], process.environ())
        return found


class Pm2:
    """PM2, installed by npm into a temporary folder, with a home of its own."""

    name = "PM2"

    def __init__(self, folder: Path, commands: dict[str, Command]) -> None:
        """Raises `MissingTool`."""
        self._home, self.port = folder / "pm2-home", free_port()
        self._tool = install(folder / "pm2")
        self._ecosystem = folder / "ecosystem.config.json"
        self._ecosystem.write_text(json.dumps({"apps": [self._app(name, each) for name, each in commands.items()]}))

    def _app(self, name: str, command: Command) -> dict[str, object]:
        program, *arguments = [f"127.0.0.1:{self.port}" if word == "fd://0" else word for word in command.words]
        return {
            "name": name,
            "script": program,
            "args": arguments,
            "interpreter": "none",
            "exec_mode": "fork",
            "restart_delay": RESTART_DELAYS_MS[name],
            "kill_timeout": 10_000,
            "env": command.environment | {"API_PORT": str(self.port)},
        }

    def start(self) -> None:
        self._pm2("start", str(self._ecosystem))
        wait_for(f"http://127.0.0.1:{self.port}/health/ready", _always())

    def status(self) -> None:
        self._pm2("status")

    def restart(self, name: str) -> None:
        self._pm2("restart", name)
        if name == SERVING:
            wait_for(f"http://127.0.0.1:{self.port}/health/ready", _always())

    def stop(self) -> None:
        self._pm2("kill")

    def close(self) -> None:
        """End everything that is left."""
        with contextlib.suppress(RuntimeError, subprocess.TimeoutExpired):
            self.stop()

    def daemon(self) -> psutil.Process:
        return psutil.Process(int((self._home / "pm2.pid").read_text()))

    def memory_mib(self) -> float:
        return usage.pss_mib(self.daemon())

    def _pm2(self, *words: str) -> None:
        environment = {**os.environ, "PM2_HOME": str(self._home), "PM2_DISCRETE_MODE": "true"}
        done = subprocess.run(
            [self._tool, *words], env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=COMMAND_TIMEOUT_SECONDS,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"pm2 {' '.join(words)} failed:\n{done.stdout}{done.stderr}")


def find_npm() -> str:
    """The command of npm. Raises `MissingTool`."""
    npm = shutil.which("npm")
    if not (npm and shutil.which("node")):
        raise MissingTool("no Node.js: install node (18 or newer) and npm to compare with PM2")
    return npm


def install(folder: Path) -> Path:
    """Installs PM2 into a folder and returns its command. Raises `MissingTool`."""
    folder.mkdir()
    words = [find_npm(), "install", "--prefix", str(folder), "--no-audit", "--no-fund", "--loglevel=error"]
    done = subprocess.run([*words, f"pm2@{PM2_VERSION}"], capture_output=True, text=True, timeout=600)
    if done.returncode:
        raise MissingTool(f"npm cannot install PM2:\n{done.stderr.strip()}")
    return folder / "node_modules" / ".bin" / "pm2"


def _always() -> Iterator[bool]:
    while True:
        yield True
