"""The quickstart in a copy of the checkout, as a newcomer runs it; the virtual environment is that of the tests."""

import contextlib
import hashlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import requests

from bisnesctl import paths
from bisnesctl.errors import ExitCode
from bisnesctl.settings import Settings
from tests.support.deployment import PORTS, free_ports
from tests.support.waiting import HANG_SECONDS

ROOT = Path(__file__).parents[2]
#: Seconds for one command.
TIMEOUT_SECONDS = 280


class Checkout:
    """A copy of what belongs to the project, on ports of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = dict(zip(PORTS, map(str, free_ports(len(PORTS))), strict=True))
        ours = {name.upper() for name in Settings.model_fields} | {"BISNES_ENV"}
        self.environment = {name: value for name, value in os.environ.items() if name.upper() not in ours}
        self.environment |= self.ports | {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
        for name in ("bisnesctl", "services", "conf", "sql", "scripts"):
            shutil.copytree(ROOT / name, folder / name)  # with the bytecode, as a provisioned checkout has it
        shutil.copy(ROOT / "setup.cfg", folder)
        self._borrow_venv()

    def _borrow_venv(self) -> None:
        """A .venv that is set up already, as `scripts/provision` knows by its stamp."""
        programs = self.folder / ".venv" / "bin"
        programs.mkdir(parents=True)
        self._write_program(programs / "python", f'exec {sys.executable} "$@"')
        self._write_program(programs / "bisnesctl", f'exec {sys.executable} -m bisnesctl "$@"')
        digest = hashlib.sha256((self.folder / "setup.cfg").read_bytes()).hexdigest()
        (self.folder / ".venv" / ".embedded").write_text(f"{digest} {self.folder}\n")

    def _write_program(self, path: Path, line: str) -> None:
        path.write_text(f"#!/bin/sh\n{line}\n")
        path.chmod(0o755)

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Runs a command of the README."""
        return subprocess.run(
            command, cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=TIMEOUT_SECONDS,
        )  # fmt: skip

    def processes(self) -> list[psutil.Process]:
        """Everything that was started from here and still runs."""
        return [each for each in psutil.process_iter() if self._is_ours(each)]

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            said = process.cmdline()
            with contextlib.suppress(psutil.AccessDenied):
                said.append(process.environ().get("BISNES_ENV", ""))
            return any(f"{self.folder}/" in word for word in said) and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False


@pytest.fixture
def checkout() -> Iterator[Checkout]:
    folder = Path(tempfile.mkdtemp(prefix="bisnes-quickstart-"))
    folder.chmod(0o755)  # so that root's servers, who are another user, keep their data here
    copy = Checkout(folder)
    yield copy
    copy.run(".venv/bin/bisnesctl", "stop")
    shutil.rmtree(paths.server_home(folder / "var"), ignore_errors=True)
    shutil.rmtree(folder)


def test_the_quickstart_delivers_a_message_and_can_be_removed(checkout: Checkout) -> None:
    first = checkout.run("scripts/quickstart")
    assert first.returncode == 0, first.stdout + first.stderr
    assert "delivered" in first.stdout
    running = {each.pid for each in checkout.processes()}

    again = checkout.run("scripts/quickstart")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "delivered" in again.stdout
    assert {each.pid for each in checkout.processes()} == running
    page = requests.get(f"http://127.0.0.1:{checkout.ports['SANDBOX_PORT']}/_sandbox/messages", timeout=HANG_SECONDS)
    assert page.json()["count"] == 2

    stopped = checkout.run(".venv/bin/bisnesctl", "stop")
    assert stopped.returncode == 0, stopped.stderr
    assert checkout.processes() == []
    assert checkout.run(".venv/bin/bisnesctl", "stop").returncode == 0


def test_a_port_in_use_is_named_and_nothing_is_left_running(checkout: Checkout) -> None:
    port = int(checkout.ports["API_PORT"])
    with socket.create_server(("127.0.0.1", port)):
        refused = checkout.run("scripts/quickstart")
    assert refused.returncode == ExitCode.CONFLICT
    assert f"port {port} of api is in use" in refused.stderr
    assert checkout.processes() == []


def test_the_demo_leaves_another_number_alone(checkout: Checkout) -> None:
    assert checkout.run("scripts/start-multiprocess.sh", "--sandbox").returncode == 0
    assert checkout.run(".venv/bin/bisnesctl", "bots", "add", "--company", "0100", "--type", "wwebjs").returncode == 0
    refused = checkout.run("scripts/quickstart")
    assert refused.returncode == 1
    assert "company 0100 has a number already that is not the demo's" in refused.stderr
