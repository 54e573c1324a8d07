"""A deployment with WhatsApp Web numbers that a simulated phone links, and the processes to kill."""

import contextlib
import os
import signal
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Any

import requests

from bisnesctl.naming import session_name
from bisnesctl.processes.supervisor import Supervisor
from tests.support.deployment import Deployment, descendants
from tests.support.waiting import HANG_SECONDS, wait_until

COMPANY = "0100"
#: How long a session may take to show its QR code, or to work again, on a machine that is not busy.
SESSION_SECONDS = 180
#: The processes of a session.
PARTS = ("browser", "driver", "session")


class WebDeployment(Deployment):
    """WhatsApp Web numbers have the indexes from 1 on; Meta's has 0.

    `numbers`: the number of the phone that each index was last linked with.
    """

    def __init__(self, folder: Path, **variables: str) -> None:
        super().__init__(folder, **variables)
        self.numbers: dict[int, str] = {}

    def add_web_bot(self, index: int, company: str = COMPANY) -> None:
        """Add a WhatsApp Web number, which the manager starts by itself."""
        self.run("bots", "add", "--company", company, "--phone", str(index), "--wwebjs")

    def link(self, index: int, company: str = COMPANY) -> str:
        """Scan its QR code with a phone of its own and wait until it works; returns the phone's number."""
        self.wait_for("SCAN_QR_CODE", index, company)
        number = own_number(index)

        def scanned() -> bool:
            code = self.sessions_call("GET", f"{company}/{index}/qr")
            return code.ok and self.wa_post("scan", number=number, qr=code.json()["qr"]).ok

        wait_until(scanned, SESSION_SECONDS, lambda: f"{self.session(index, company)}\n{self.logs()}")
        self.wait_for("WORKING", index, company)
        self.numbers[index] = number
        return number

    def wait_for(self, status: str, index: int, company: str = COMPANY, seconds: float = SESSION_SECONDS) -> None:
        """Wait until a session has that status."""
        wait_until(
            lambda: self.session(index, company).get("status") == status,
            seconds, lambda: f"not {status} but {self.session(index, company)}\n{self.logs()}",
        )  # fmt: skip

    def session(self, index: int, company: str = COMPANY) -> dict[str, Any]:
        """A session as the API has it."""
        answer = self.sessions_call("GET", f"{company}/{index}")
        return answer.json().get("session", {}) if answer.ok else {}

    def sessions_call(self, method: str, path: str, **options: Any) -> requests.Response:
        """A call of the sessions' API."""
        headers = {"X-Api-Key": self.key}
        return requests.request(
            method, f"{self.api}/api/sessions/{path}", headers=headers, timeout=HANG_SECONDS, **options
        )

    def wa_post(self, path: str, **fields: Any) -> requests.Response:
        """Call a control of the simulated WhatsApp Web."""
        return requests.post(f"{self.sandbox}/wa/{path}", json=fields, timeout=HANG_SECONDS)

    def arrived(self, number: str) -> list[dict[str, Any]]:
        """The messages that a number's page sent, in order, each with the number of its `arrivals`."""
        answer = requests.get(f"{self.sandbox}/wa/messages", params={"number": number}, timeout=HANG_SECONDS)
        return [each for each in answer.json()["messages"] if each["arrivals"]]

    def program(self, index: int, company: str = COMPANY) -> str:
        """The name of a session's program."""
        return session_name(company, index)

    def part(self, part: str, index: int, company: str = COMPANY) -> int | None:
        """The pid of a session's browser, driver or own process, if it runs just now."""
        supervisor = Supervisor(self.settings.run_dir)
        found = supervisor.processes().get(self.program(index, company))
        return parts_below(found.pid).get(part) if found and found.pid else None

    def kill_part(self, part: str, index: int, company: str = COMPANY) -> bool:
        """SIGKILL one of them; returns whether there was one."""
        pid = self.part(part, index, company)
        if pid is None:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            return True
        return False

    def duplicates(self, numbers: Collection[str]) -> Counter[str]:
        """The texts that arrived more than once from these numbers."""
        counts = Counter(each["body"] for number in numbers for each in self.arrived(number))
        repeated = Counter(each["body"] for number in numbers for each in self.arrived(number) if each["arrivals"] > 1)
        return Counter({text: count for text, count in counts.items() if count > 1}) + repeated


def own_number(index: int) -> str:
    """The number that an index is linked to."""
    return f"6017000{index:04}"


def parts_below(pid: int) -> dict[str, int]:
    """The pids of a session's parts below its program's process."""
    found: dict[str, int] = {}
    for each in sorted(descendants(pid)):
        words = command_of(each)
        if any("services.connectors.wwebjs" in word for word in words) and not any("shim" in word for word in words):
            found.setdefault("session", each)
        elif words and Path(words[0]).name.startswith("chromedriver"):
            found.setdefault("driver", each)
        elif any(word.startswith("--user-data-dir") for word in words) and not any("--type=" in w for w in words):
            found.setdefault("browser", each)
    return found


def command_of(pid: int) -> list[str]:
    """The words of a process's command line; none if the process is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").rstrip("\0").split("\0")
    except OSError:
        return []
