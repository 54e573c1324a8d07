"""Runs the shell blocks of a document in bash, with other ports."""

import contextlib
import os
import re
import signal
import subprocess
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from tests.support.waiting import wait_until

COMMAND_TIMEOUT_SECONDS = 300
#: How long a program may take to print an expected line.
LINE_SECONDS = 100

_BLOCK = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
_SECTION = re.compile(r"^## (.*)\n", re.MULTILINE)


def blocks_by_section(document: str) -> dict[str, list[str]]:
    """The shell blocks below each heading of the second level that has any; '' stands for the introduction."""
    introduction, *rest = _SECTION.split(document)
    sections = {"": introduction, **dict(zip(rest[::2], rest[1::2], strict=True))}
    found = {heading: _BLOCK.findall(text) for heading, text in sections.items()}
    return {heading: blocks for heading, blocks in found.items() if blocks}


class Terminal:
    """A folder and an environment in which blocks run."""

    def __init__(self, folder: Path, environment: Mapping[str, str], ports: Mapping[int, int]) -> None:
        """`ports`: the ports to use in place of the documented ones."""
        self.folder = folder
        self.environment = dict(environment)
        self._ports = ports

    def run(self, block: str, *, check: bool = True, **variables: str) -> subprocess.CompletedProcess[str]:
        """Runs a block until its end. Fails unless `check` is false or the exit code is 0."""
        done = subprocess.run(
            self._bash(block), cwd=self.folder, env=self.environment | variables, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=COMMAND_TIMEOUT_SECONDS,
        )  # fmt: skip
        assert not check or done.returncode == 0, f"{block}\n{done.stdout}{done.stderr}"
        return done

    def start(self, block: str, **variables: str) -> "Running":
        """Starts a block that does not end by itself."""
        return Running(self._bash(block), self.folder, self.environment | variables)

    def _bash(self, block: str) -> list[str]:
        for documented, port in self._ports.items():
            block = re.sub(rf":{documented}\b", f":{port}", block)
        return ["bash", "-euo", "pipefail", "-c", block]


class Running:
    """A program in a terminal, and what it has printed."""

    def __init__(self, command: list[str], folder: Path, environment: Mapping[str, str]) -> None:
        # A shell's background jobs, and their children, ignore SIGINT.
        command = ["env", "--default-signal=INT", *command]
        self._process = subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        self._printed: list[str] = []
        self._logged: list[str] = []
        streams = ((self._process.stdout, self._printed), (self._process.stderr, self._logged))
        self._readers = [threading.Thread(target=self._read, args=each, daemon=True) for each in streams]
        for reader in self._readers:
            reader.start()

    def _read(self, stream: IO[str], lines: list[str]) -> None:
        lines.extend(stream)

    def output(self) -> str:
        """The standard output so far."""
        return "".join(self._printed)

    def everything(self) -> str:
        """Both outputs so far, for a failing test to show."""
        return self.output() + "".join(self._logged)

    def expect(self, text: str) -> None:
        """Waits until the program has printed the text. Fails if it ends before."""
        wait_until(lambda: text in self.output() or self._process.poll() is not None, LINE_SECONDS, self.everything)
        assert text in self.output(), self.everything()

    def interrupt(self) -> int:
        """Presses Ctrl-C and returns the exit code."""
        os.killpg(self._process.pid, signal.SIGINT)
        return self._wait()

    def kill(self) -> None:
        """Ends the program and all its children with SIGKILL, if they still run."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._wait()

    def _wait(self) -> int:
        code = self._process.wait(COMMAND_TIMEOUT_SECONDS)
        for reader in self._readers:
            reader.join(COMMAND_TIMEOUT_SECONDS)
        return code
