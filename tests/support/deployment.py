"""A deployment as an operator has it: `bisnesctl` in a folder of its own, on free ports, in the sandbox."""

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import psutil
import psycopg2
import requests

from bisnesctl.errors import BisnesError
from bisnesctl.processes.supervisor import Supervisor
from bisnesctl.settings import Settings
from tests.support.processes.servers import settings_in
from tests.support.waiting import HANG_SECONDS

#: Time limit of one command of the tool, on a busy machine too.
COMMAND_TIMEOUT_SECONDS = 900
#: START_TIMEOUT_SECONDS: no test measures with it, and a busy machine may be ten times as slow.
START_TIMEOUT_SECONDS = 300
#: Seconds after which a process that runs was healthy, if its start waited for that.
STEADY_SECONDS = 5.0
_RANDOM = random.SystemRandom()  # hypothesis sets the seed of the usual one
PORTS = ("API_PORT", "META_PORT", "WWEBJS_PORT", "PORT", "SANDBOX_PORT", "DASHBOARD_PORT")


class Deployment:
    """One deployment. `close` stops it and deletes its data."""

    def __init__(self, folder: Path, **variables: str) -> None:
        self.folder = folder
        self.environment = {name: value for name, value in os.environ.items() if name.upper() not in _SETTINGS}
        self.environment |= {"BISNES_ENV": str(folder / ".env"), "COLUMNS": "120"}
        self.run("init")
        ports = dict(zip(PORTS, map(str, free_ports(len(PORTS))), strict=True))
        self.settings = self._configure({"START_TIMEOUT_SECONDS": str(START_TIMEOUT_SECONDS)} | ports | variables)
        self.key = self.settings.operator_key.get_secret_value()

    def _configure(self, variables: dict[str, str]) -> Settings:
        env_file = self.folder / ".env"
        lines = [f"{name}={value}" for name, value in variables.items()]
        kept = [line for line in env_file.read_text().splitlines() if line.partition("=")[0] not in variables]
        env_file.write_text("\n".join([*kept, *lines, ""]))
        secrets = dict(line.split("=", 1) for line in kept if "=" in line and not line.startswith("#"))
        return settings_in(self.folder, **secrets | variables)

    def run(self, *words: str, given: str = "", check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run `bisnesctl` with these words."""
        done = subprocess.run(
            [sys.executable, "-m", "bisnesctl", *words],
            input=given, capture_output=True, text=True, cwd=self.folder, env=self.environment,
            timeout=COMMAND_TIMEOUT_SECONDS,
        )  # fmt: skip
        if check and done.returncode:
            raise AssertionError(
                f"bisnesctl {' '.join(words)} ended with {done.returncode}\n{done.stdout}{done.stderr}"
            )
        return done

    def status(self) -> dict[str, dict[str, Any]]:
        """Each process by its name, as `bisnesctl status --json` has it."""
        done = self.run("status", "--json", check=False)
        return {row["name"]: row for row in json.loads(done.stdout)["processes"]}

    def steady(self) -> set[str]:
        """The names of the processes that have run for a while; none if supervisord does not run."""
        with contextlib.suppress(BisnesError):
            found = Supervisor(self.settings.run_dir).processes()
            return {name for name, each in found.items() if each.uptime > STEADY_SECONDS}
        return set()

    def pid(self, name: str) -> int:
        """A process's pid. Raises `LookupError` if it does not run."""
        found = Supervisor(self.settings.run_dir).processes()[name]
        if not found.pid:
            raise LookupError(f"{name} does not run")
        return found.pid

    def kill(self, name: str) -> bool:
        """SIGKILL the process of this name. Returns whether it was running."""
        with contextlib.suppress(LookupError, ProcessLookupError):
            os.kill(self.pid(name), signal.SIGKILL)
            return True
        return False

    def add_demo_bot(self, company: str = "0100", index: int = 0) -> None:
        """A Meta number in the sandbox."""
        self.run(
            "bots", "add", "--company", company, "--phone", str(index), "--type", "meta_direct",
            "--phone-number-id", f"10{company}{index}", "--token-stdin", given="sandbox-token\n",
        )  # fmt: skip

    def send(self, company: str, chat: str, text: str, **options: Any) -> requests.Response:
        """POST a text."""
        headers = {"X-Api-Key": self.key, **options.pop("headers", {})}
        url = f"{self.api}/api/v2/messages/text/{company}/{chat}"
        return requests.post(url, json={"message": text}, headers=headers, timeout=HANG_SECONDS, **options)

    @property
    def api(self) -> str:
        """Base URL of the API."""
        return f"http://127.0.0.1:{self.settings.api_port}"

    @property
    def sandbox(self) -> str:
        """Base URL of the simulator's own addresses."""
        return f"http://127.0.0.1:{self.settings.sandbox_port}/_sandbox"

    def behave(self, **behaviour: Any) -> None:
        """Add a rule to the simulator."""
        requests.post(f"{self.sandbox}/behaviour", json=behaviour, timeout=HANG_SECONDS).raise_for_status()

    def received(self) -> list[dict[str, Any]]:
        """The messages that the simulator accepted, in order of arrival."""
        return [message for message in self.requested() if message["wamid"]]

    def requested(self) -> list[dict[str, Any]]:
        """All messages that reached the simulator, in order of arrival."""
        found: list[dict[str, Any]] = []
        while True:
            after = found[-1]["seq"] if found else 0
            answer = requests.get(f"{self.sandbox}/messages", params={"after": after}, timeout=HANG_SECONDS)
            answer.raise_for_status()
            page = answer.json()["messages"]
            if not page:
                return found
            found += page

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        """Run a statement in its database and return the rows."""
        connection = psycopg2.connect(self.settings.database_dsn)
        try:
            with connection, connection.cursor() as cursor:
                cursor.execute(statement)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()

    def statuses(self) -> dict[str, int]:
        """How many messages have each status."""
        return {str(status): count for status, count in self.rows("SELECT status, count(*) FROM outbox GROUP BY 1")}

    def once_unknown(self) -> set[str]:
        """The texts of messages whose outcome was unknown at some time.

        Their provider may work on them for longer than their chat waits, so later messages may overtake them there.
        """
        was_unknown = """timeline @> '[{"status": "unknown"}]'"""
        return {text for (text,) in self.rows(f"SELECT payload ->> 'message' FROM outbox WHERE {was_unknown}")}

    def logs(self) -> str:
        """The last lines of every log, for a failing test to show."""
        return "\n".join(
            f"--- {path.name}\n" + "\n".join(path.read_text(errors="replace").splitlines()[-15:])
            for path in sorted(self.settings.log_dir.glob("*.log"))
            if path.stat().st_size
        )

    def close(self) -> None:
        """Stop everything and delete the data. After a test that failed, what a stop leaves is killed."""
        self.run("stop", check=False)
        for left in self._processes():
            with contextlib.suppress(psutil.Error):
                left.kill()
        shutil.rmtree(self.settings.server_home, ignore_errors=True)

    def _processes(self) -> list[psutil.Process]:
        """Everything that runs with this deployment's settings."""
        found = []
        for each in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if each.environ().get("BISNES_ENV") == self.environment["BISNES_ENV"]:
                    found.append(each)
        return found


_SETTINGS = {name.upper() for name in Settings.model_fields} | {"BISNES_ENV", "BISNES_PROCESS", "BISNES_INSTANCE"}


def overtaken(texts: Iterable[str]) -> set[str]:
    """The texts of a chat that arrived after a later one. The names of the texts are in the chat's order."""
    late, last = set(), ""
    for text in texts:
        if text < last:
            late.add(text)
        last = max(last, text)
    return late


def free_ports(count: int) -> list[int]:
    """Ports that no process uses now, outside of the range from which the kernel takes ports of connections."""
    found: set[int] = set()
    while len(found) < count:
        port = _RANDOM.randrange(15_000, 32_000)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            found.add(port)
    return list(found)


def alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def descendants(pid: int) -> set[int]:
    """All processes below this one."""
    try:
        return {each.pid for each in psutil.Process(pid).children(recursive=True)}
    except psutil.NoSuchProcess:
        return set()
