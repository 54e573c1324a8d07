"""`python -m bisnesctl.alerts.sender TOKEN`: delivers one message, in a process of its own.

It reads the address from the standard input, so that no process list shows it. It writes the outcome to a file, so that
an evaluator that was killed meanwhile does not send the message again.
"""

import contextlib
import json
import logging
import os
import re
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from bisnesctl.host import disk

#: Seconds that a delivery may take.
DEADLINE_SECONDS = 45.0
#: Seconds that ALERT_COMMAND may take.
COMMAND_SECONDS = 30.0
#: Characters of the reason of a failure, at most.
MAX_ERROR = 300
#: Characters of a part of an address from which on it is hidden in what others say.
SECRET_LENGTH = 4
#: The text in place of a secret.
MASK = "***"
#: The types of Apprise by our severities.
_TYPES = {"critical": "failure", "warning": "warning", "info": "success"}


@dataclass(frozen=True)
class Job:
    """One delivery."""

    outcome: Path
    url: str
    command: list[str]
    title: str
    body: str
    severity: str
    event: dict[str, Any]


def main() -> int:
    """Delivers the job in the standard input; returns 0 if the target accepted it."""
    job = _read(sys.stdin.read())
    threading.Thread(target=_end_late, args=(job,), name="deadline", daemon=True).start()
    try:
        error = run_command(job) if job.command else send(job)
    except Exception as failure:
        error = redact(f"{type(failure).__name__}: {failure}", job.url)
    return _finish(job, error)


def _read(text: str) -> Job:
    found = json.loads(text)
    return Job(**{**found, "outcome": Path(found["outcome"])})


def _end_late(job: Job) -> None:
    threading.Event().wait(DEADLINE_SECONDS)
    os._exit(_finish(job, f"no answer within {DEADLINE_SECONDS:g} s"))


def _finish(job: Job, error: str) -> int:
    text = " ".join(error.split())[:MAX_ERROR]
    outcome = json.dumps({"error": text})
    with contextlib.suppress(OSError):
        disk.replace(job.outcome, outcome.encode())
    with contextlib.suppress(OSError):  # the evaluator may be gone
        sys.stdout.write(outcome)
        sys.stdout.flush()
    return 1 if text else 0


def send(job: Job) -> str:
    """Sends a message to an address of Apprise; returns why it failed, without secrets, or an empty text."""
    import apprise  # slow to import

    words = _Words()
    logging.getLogger("apprise").addHandler(words)
    target = apprise.Apprise()
    if not target.add(job.url):
        return "Apprise does not understand this address: https://appriseit.com lists its services"
    accepted = target.notify(
        body=job.body,
        title=job.title,
        notify_type=apprise.NotifyType(_TYPES.get(job.severity, "info")),
        body_format=apprise.NotifyFormat.TEXT,
    )
    return "" if accepted else redact(words.said[-1] if words.said else "the service refused it", job.url)


class _Words(logging.Handler):
    """Collects what Apprise says about a failure."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keeps a line."""
        self.said.append(record.getMessage())


def run_command(job: Job) -> str:
    """Runs ALERT_COMMAND with the event as JSON in its input; returns why it failed, or an empty text."""
    try:
        process = subprocess.Popen(
            job.command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        return f"{job.command[0]} cannot be run: {(error.strerror or str(error)).lower()}"
    try:
        _, said = process.communicate(f"{json.dumps(job.event)}\n".encode(), timeout=COMMAND_SECONDS)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        return f"{job.command[0]} did not end within {COMMAND_SECONDS:g} s"
    if not process.returncode:
        return ""
    last = said.decode(errors="replace").strip().splitlines()[-1:]
    return f"{job.command[0]} ended with exit status {process.returncode}{''.join(f': {each}' for each in last)}"


def redact(text: str, url: str) -> str:
    """The text without the parts of an address that may be secrets: all of its parts but the scheme."""
    _, _, rest = url.partition("://")
    parts = {part for each in (rest, unquote(rest)) for part in (each, *re.split(r"[/:@?&=,\s]+", each))}
    for part in sorted(parts, key=len, reverse=True):
        if len(part) >= SECRET_LENGTH:
            text = text.replace(part, MASK)
    return text


if __name__ == "__main__":
    sys.exit(main())
