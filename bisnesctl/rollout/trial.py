"""Copies a share of the accepted messages into simulators, and compares what became of copies and originals.

The copies are made from rows that were accepted earlier, so accepting a message costs nothing more. The process that
sends them (`services.trial`) can reach no provider; it gets no setting, no credential and no database.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from bisnesctl.database.postgres import Connection, query
from bisnesctl.errors import StartFailed, Unhealthy
from bisnesctl.rollout.outcomes import CLOCK_SLACK_SECONDS

#: Seconds until the simulators must be ready, on a busy machine too.
READY_TIMEOUT_SECONDS = 300.0
#: Seconds for the outcome of one copy.
COPY_TIMEOUT_SECONDS = 30.0
#: Messages that are copied at a time, at most.
BATCH_MESSAGES = 500
#: Variables of the environment that the process of the simulators gets.
_INHERITED = ("PATH", "PYTHONPATH", "LANG", "LC_ALL", "TZ")

# The share is chosen by the last digits of the id, so that a message is always in it or never.
_FIND = """
SELECT o.message_id::text, o.company_id, o.chat_id, o.kind, o.payload, c.connection_type
FROM outbox o JOIN phone_configs c ON c.id = o.bot_id
WHERE o.message_id >= %(first)s::uuid AND o.accepted_at >= %(since)s AND c.process_name = 'meta' AND NOT o.is_probe
    AND o.kind <> 'read' AND (%(bots)s IS NULL OR o.bot_id = ANY(%(bots)s))
    AND ('x' || right(replace(o.message_id::text, '-', ''), 7))::bit(28)::int %% 10000 < %(percent)s * 100
    AND NOT EXISTS (SELECT FROM trial_copy t WHERE t.message_id = o.message_id)
ORDER BY o.message_id LIMIT %(limit)s"""
_STORE = """
INSERT INTO trial_copy (message_id, company_id, kind, outcome, code, reason)
SELECT * FROM json_to_recordset(%s::json)
    AS r (message_id uuid, company_id text, kind text, outcome text, code text, reason text)
ON CONFLICT (message_id) DO NOTHING"""
_COMPARE = """
SELECT t.message_id::text, t.kind, t.outcome, t.code, t.reason, CASE
        WHEN o.status IN ('sent', 'delivered', 'read') THEN 'sent' WHEN o.status = 'failed' THEN 'failed'
        WHEN o.status = 'unknown' THEN 'unknown' WHEN o.message_id IS NULL THEN 'deleted' ELSE 'waiting' END,
    COALESCE(o.error_code, ''), COALESCE(o.error, '')
FROM trial_copy t LEFT JOIN outbox o USING (message_id)
WHERE t.copied_at >= %(since)s ORDER BY t.message_id"""


@dataclass(frozen=True, slots=True)
class Pair:
    """An original and its copy whose outcomes differ."""

    message_id: str
    kind: str
    original: str  # sent, failed, unknown
    original_code: str
    copy: str
    copy_code: str
    reason: str  # of the one that failed


@dataclass(frozen=True, slots=True)
class Comparison:
    """The outcomes of copies and their originals."""

    copied: int = 0
    both_sent: int = 0
    both_failed: int = 0
    waiting: int = 0  # copies whose originals have no outcome yet
    not_copied: dict[str, int] = field(default_factory=dict)  # by the reason
    copy_failed: list[Pair] = field(default_factory=list)  # and the original did not
    original_failed: list[Pair] = field(default_factory=list)  # and the copy did not

    def as_json(self) -> dict[str, Any]:
        """The comparison as JSON values."""

        def plain(pair: Pair) -> dict[str, str]:
            return {
                "id": pair.message_id, "kind": pair.kind, "original": pair.original, "originalCode": pair.original_code,
                "copy": pair.copy, "copyCode": pair.copy_code, "reason": pair.reason,
            }  # fmt: skip

        return {
            "copied": self.copied, "bothSent": self.both_sent, "bothFailed": self.both_failed,
            "waiting": self.waiting, "notCopied": self.not_copied,
            "copyFailed": [plain(each) for each in self.copy_failed],
            "originalFailed": [plain(each) for each in self.original_failed],
        }  # fmt: skip


class Simulators:
    """The process that sends copies. It lives within a `with` and in a folder of its own, which is deleted."""

    def __init__(self, process: "subprocess.Popen[str]", log: Path) -> None:
        self._process, self._log = process, log

    def ready(self) -> None:
        """Waits for the simulators. Raises `StartFailed`."""
        if not self._answer(READY_TIMEOUT_SECONDS).get("ready"):
            raise StartFailed(f"the simulators for copies did not start, so nothing was copied: {self._last_line()}")

    def send(self, copy: dict[str, Any]) -> dict[str, Any]:
        """The outcome of a copy. Raises `Unhealthy` if the simulators have ended."""
        with contextlib.suppress(OSError):
            self._process.stdin.write(json.dumps(copy) + "\n")  # type: ignore[union-attr]
            self._process.stdin.flush()  # type: ignore[union-attr]
        found = self._answer(COPY_TIMEOUT_SECONDS)
        if not found:
            raise Unhealthy(f"the simulators for copies ended, so nothing more is copied: {self._last_line()}")
        return found

    def _answer(self, seconds: float) -> dict[str, Any]:
        """The next line of its output; empty if it ended, or gave none in time and was ended."""
        timer = threading.Timer(seconds, self._process.kill)
        timer.start()
        try:
            line = self._process.stdout.readline()  # type: ignore[union-attr]
        finally:
            timer.cancel()
        try:
            found = json.loads(line)
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    def _last_line(self) -> str:
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"it ended with exit status {self._process.poll()}"


@contextlib.contextmanager
def simulators() -> Iterator[Simulators]:
    """Starts the process that sends copies, and ends it. Raises `StartFailed` if it does not become ready."""
    with tempfile.TemporaryDirectory(prefix="bisnesctl-trial-") as name:
        folder = Path(name)
        environment = {each: os.environ[each] for each in _INHERITED if each in os.environ}
        log = folder / "trial.log"
        with log.open("w") as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", "services.trial", str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=errors, text=True, cwd=folder, env={**environment, "BISNES_ENV": str(folder / ".env")},
            )  # fmt: skip
            try:
                found = Simulators(process, log)
                found.ready()
                yield found
            finally:
                process.kill()
                process.communicate(timeout=COPY_TIMEOUT_SECONDS)


def copy_messages(
    connection: Connection, sender: Simulators, since: datetime, percent: float, limit: int,
    bots: Sequence[int] | None = None, report: Callable[[int], None] = lambda _: None,
) -> int:  # fmt: skip
    """Copies a share of the messages that were accepted since then and not copied before. Returns how many."""
    first = max(int((since.timestamp() - CLOCK_SLACK_SECONDS) * 1000), 0)
    done = 0
    while done < limit:
        values = {
            "first": f"{first:012x}" + "0" * 20, "since": since, "percent": percent,
            "bots": None if bots is None else list(bots), "limit": min(BATCH_MESSAGES, limit - done),
        }  # fmt: skip
        rows = query(connection, _FIND, values)
        if not rows:
            break
        query(connection, _STORE, (json.dumps([_copy(sender, *row) for row in rows]),))
        done += len(rows)
        report(done)
    return done


def _copy(
    sender: Simulators, message_id: str, company: str, chat: str, kind: str, payload: Any, connection_type: str
) -> dict[str, Any]:
    copy = {"id": message_id, "chat": chat, "kind": kind, "payload": payload, "connection": connection_type}
    found = sender.send(copy)
    return {
        "message_id": message_id, "company_id": company, "kind": kind, "outcome": found["outcome"],
        "code": found.get("code", ""), "reason": found.get("reason", ""),
    }  # fmt: skip


def compare(connection: Connection, since: datetime) -> Comparison:
    """The outcomes of the copies that were made since then, and those of their originals."""
    counts: Counter[str] = Counter()
    not_copied: Counter[str] = Counter()
    copy_failed: list[Pair] = []
    original_failed: list[Pair] = []
    for message_id, kind, copy, code, reason, original, original_code, error in query(
        connection, _COMPARE, {"since": since}
    ):
        if copy == "not_copied":
            not_copied[reason] += 1
            continue
        counts["copied"] += 1
        if original in ("waiting", "deleted"):
            counts["waiting"] += 1
        elif copy == original == "sent":
            counts["both_sent"] += 1
        elif copy != "sent" and original != "sent":
            counts["both_failed"] += 1
        else:
            chosen, why = (copy_failed, reason) if original == "sent" else (original_failed, error)
            chosen.append(Pair(message_id, kind, original, original_code, copy, code, why))
    return Comparison(
        counts["copied"], counts["both_sent"], counts["both_failed"], counts["waiting"], dict(not_copied), copy_failed,
        original_failed,
    )  # fmt: skip
