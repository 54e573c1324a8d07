"""PM2, installed by npm into a temporary folder, with a home of its own."""

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from tests.bench.tools import MissingTool

PM2_VERSION = "7"
#: Time limit of one command.
COMMAND_TIMEOUT_SECONDS = 180
#: PM2's own default is SIGINT, on which gunicorn breaks off the requests in hand.
STOP_SIGNAL = "SIGTERM"


class Pm2Tool:
    """PM2 with a daemon of its own."""

    def __init__(self, command: Path, home: Path, **variables: str) -> None:
        """`variables`: further variables of its environment."""
        self._command, self._home = command, home
        self._environment = {
            **os.environ,
            "PM2_HOME": str(home),
            "PM2_DISCRETE_MODE": "true",
            "PM2_KILL_SIGNAL": STOP_SIGNAL,
            **variables,
        }

    def run(self, *words: str) -> str:
        """Runs a command and returns its output. Raises RuntimeError if it fails."""
        done = subprocess.run(
            [self._command, *words], env=self._environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=COMMAND_TIMEOUT_SECONDS,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"pm2 {' '.join(words)} failed:\n{done.stdout}{done.stderr}")
        return done.stdout

    def start(self, apps: Sequence[Mapping[str, object]]) -> None:
        """Starts these apps, and the daemon if it does not run."""
        self._home.mkdir(exist_ok=True)
        ecosystem = self._home / "ecosystem.config.json"
        ecosystem.write_text(json.dumps({"apps": apps}))
        self.run("start", str(ecosystem))

    def daemon(self) -> psutil.Process:
        """Its daemon."""
        return psutil.Process(int((self._home / "pm2.pid").read_text()))

    def end(self) -> None:
        """Ends everything that is left."""
        with contextlib.suppress(RuntimeError, subprocess.TimeoutExpired):
            self.run("kill")


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
