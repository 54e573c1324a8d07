"""Starts the process that delivers a message, and learns what became of it, also after a restart of the evaluator."""

import contextlib
import json
import os
import queue
import secrets
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from bisnesctl.alerts.messages import Message
from bisnesctl.alerts.sender import DEADLINE_SECONDS
from bisnesctl.alerts.targets import Target

#: Folder of the outcomes, below `run_dir`.
FOLDER = "alerts"
#: Seconds beyond its own deadline after which a sender is killed.
MARGIN_SECONDS = 15.0
_SENDER = "bisnesctl.alerts.sender"


@dataclass(frozen=True)
class Outcome:
    """The result of a delivery. `error`: empty if the target accepted the message."""

    token: str
    error: str


class Dispatch:
    """Deliveries of one evaluator, each in a process of its own. `outcomes` receives their results."""

    def __init__(self, run_dir: Path, outcomes: "queue.SimpleQueue[Outcome]") -> None:
        self._folder = run_dir / FOLDER
        self._outcomes = outcomes

    def begin(self, target: Target, message: Message) -> tuple[str, int]:
        """Begins a delivery; returns its token and the pid of its process. Raises `OSError`."""
        token = secrets.token_hex(8)
        job = self._job(target, message, token)
        process = start(token, self._folder)
        waiting = threading.Thread(target=self._wait, args=(process, job, token), name=f"send-{token}", daemon=True)
        waiting.start()
        return token, process.pid

    def _job(self, target: Target, message: Message, token: str) -> bytes:
        return describe(target, message, self._folder / f"{token}.json")

    def _wait(self, process: "subprocess.Popen[bytes]", job: bytes, token: str) -> None:
        self._outcomes.put(Outcome(token, wait(process, job)))

    def recall(self, token: str, pid: int) -> Outcome | None:
        """The outcome of a delivery that an earlier evaluator began; None while it is under way."""
        alive = _is_sender(pid, token)  # first: it writes the outcome before it ends
        with contextlib.suppress(OSError, ValueError, KeyError):
            return Outcome(token, str(json.loads((self._folder / f"{token}.json").read_text())["error"]))
        return None if alive else Outcome(token, "its sender was killed")

    def forget(self, token: str) -> None:
        """Removes the file of a delivery whose outcome is stored."""
        with contextlib.suppress(OSError):
            (self._folder / f"{token}.json").unlink(missing_ok=True)


def start(token: str, folder: Path) -> "subprocess.Popen[bytes]":
    """Starts a sender, which survives this process. It gets its job with `wait`. Raises `OSError`."""
    with contextlib.suppress(OSError):  # without the file the outcome is known to this process alone
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    # supervisord's variables would make a sender that outlives the deployment its orphan.
    own = {name: text for name, text in os.environ.items() if not name.startswith(("SUPERVISOR_", "BISNES_"))}
    return subprocess.Popen(
        [sys.executable, "-m", _SENDER, token], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, start_new_session=True, env=own,
    )  # fmt: skip


def describe(target: Target, message: Message, outcome: Path) -> bytes:
    """The job of a sender."""
    return json.dumps({
        "outcome": str(outcome), "url": target.url, "command": list(target.command),
        **{name: value for name, value in asdict(message).items() if name in ("title", "body", "severity", "event")},
    }).encode()  # fmt: skip


def wait(process: "subprocess.Popen[bytes]", job: bytes) -> str:
    """Gives a sender its job and waits for its end; returns why the delivery failed, or an empty text."""
    try:
        output, _ = process.communicate(job, timeout=DEADLINE_SECONDS + MARGIN_SECONDS)
        return str(json.loads(output)["error"])
    except subprocess.TimeoutExpired:
        process.kill()
        return f"no answer within {DEADLINE_SECONDS + MARGIN_SECONDS:g} s"
    except (OSError, ValueError, KeyError):
        return f"its sender ended with exit status {process.poll()}"


def send_now(targets: Sequence[Target], message: Message, run_dir: Path) -> Iterator[tuple[Target, str]]:
    """Sends a message to all targets at the same time; yields each with the reason why it failed, or an empty text."""
    with ThreadPoolExecutor(len(targets)) as pool:
        yield from zip(targets, pool.map(lambda each: _send_now(each, message, run_dir), targets), strict=True)


def _send_now(target: Target, message: Message, run_dir: Path) -> str:
    token = secrets.token_hex(8)
    outcome = run_dir / FOLDER / f"{token}.json"
    try:
        return wait(start(token, outcome.parent), describe(target, message, outcome))
    except OSError as error:
        return f"the sender cannot be started: {(error.strerror or str(error)).lower()}"
    finally:
        with contextlib.suppress(OSError):
            outcome.unlink(missing_ok=True)


def _is_sender(pid: int, token: str) -> bool:
    """Whether the process is the sender with this token, and not a later process with the same pid."""
    try:
        return token.encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
