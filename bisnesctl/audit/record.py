"""One record of the audit trail."""

import json
import os
import socket
import time
import uuid
from dataclasses import asdict, dataclass, field, fields, replace
from enum import StrEnum
from typing import Any, Self

from bisnesctl.host import process_stat

#: Characters of an error's message, at most.
MAX_MESSAGE = 500
#: Characters of an actor, an origin or an action, at most.
MAX_NAME = 200
#: Bytes of the arguments as JSON, at most.
MAX_ARGUMENTS_BYTES = 4096


class Source(StrEnum):
    """The part of the product through which something was done."""

    CLI = "cli"
    API = "api"
    DASHBOARD = "dashboard"
    GUARD = "guard"
    MANAGER = "manager"
    ROLLOUT = "rollout"


class Outcome(StrEnum):
    """The end of what was done."""

    OK = "ok"
    FAILED = "failed"
    INTERRUPTED = "interrupted"  # by a signal, or the process was killed
    UNFINISHED = "unfinished"  # it is still under way; such a record is only in the spool


@dataclass(frozen=True)
class AuditRecord:
    """One action. Its `id` makes it unique, however often it is delivered."""

    source: str
    #: A user, the first characters of an API key, or the program that acted by itself.
    actor: str
    #: A terminal with the address of its ssh client, or the address of a client of the API.
    origin: str
    #: The command, the route, or the decision.
    action: str
    #: The words of a command, or the fields of a request; secrets are masked.
    arguments: Any = None
    company: str | None = None
    outcome: str = Outcome.OK
    #: The code of the error; empty if there was none.
    code: str = ""
    #: The message of the error, or the reason of a decision.
    message: str = ""
    #: Seconds since the epoch.
    at: float = field(default_factory=time.time)
    seconds: float = 0.0
    host: str = field(default_factory=socket.gethostname)
    pid: int = field(default_factory=os.getpid)
    #: Seconds between the boot and the start of the process, which tells processes with one pid apart.
    started: float = field(default_factory=lambda: process_stat.read(os.getpid()).started_at)
    id: str = field(default_factory=lambda: str(uuid.uuid4()))

    def ended(self, outcome: Outcome, code: str = "", message: str = "") -> Self:
        """The record with its outcome, and the time that it took until now."""
        seconds = round(max(time.time() - self.at, 0), 3)
        return replace(self, outcome=outcome, code=code, message=message, seconds=seconds)

    def content(self) -> bytes:
        """The record as JSON that PostgreSQL accepts."""
        values = asdict(self)
        for name, limit in {"actor": MAX_NAME, "origin": MAX_NAME, "action": MAX_NAME, "message": MAX_MESSAGE}.items():
            values[name] = _shortened(values[name], limit)
        if len(json.dumps(values["arguments"], default=str)) > MAX_ARGUMENTS_BYTES:
            values["arguments"] = {"shortened": _shortened(json.dumps(values["arguments"], default=str), 1000)}
        return json.dumps(_storable(values), default=str).encode()

    @classmethod
    def read(cls, content: bytes | str) -> Self:
        """The record of JSON. Raises `ValueError`."""
        try:
            found = json.loads(content)
            return cls(**{each.name: found[each.name] for each in fields(cls)})
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a record: {error}") from error

    @property
    def is_under_way(self) -> bool:
        """Whether the process that acts still runs."""
        if self.outcome != Outcome.UNFINISHED:
            return False
        try:
            found = process_stat.read(self.pid)
        except OSError:
            return False
        return found.state != "Z" and abs(found.started_at - self.started) < 1


def _shortened(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _storable(value: Any) -> Any:
    """The value without what `jsonb` refuses: NUL, halves of surrogate pairs, and numbers that are none."""
    if isinstance(value, str):
        return value.replace("\0", "\N{REPLACEMENT CHARACTER}").encode(errors="replace").decode()
    if isinstance(value, dict):
        return {_storable(str(name)): _storable(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_storable(each) for each in value]
    if isinstance(value, float) and not abs(value) < float("inf"):
        return str(value)
    return value
