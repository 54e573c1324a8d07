"""The record of the last run, in `retention_run` and `process_events`."""

import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bisnesctl.database.postgres import Connection, query
from bisnesctl.formatting import duration

#: Seconds between two runs.
RUN_INTERVAL_SECONDS = 3600.0
#: Seconds until the next run if one failed, and if one left something to do.
RETRY_SECONDS, CONTINUE_SECONDS = 600.0, 60.0
#: Seconds after which the retention is late, and critically so.
LATE_SECONDS, VERY_LATE_SECONDS = 3 * 3600.0, 86400.0

# `at` stays if a rule failed: the old rows of that rule were not deleted.
_RECORD = """
INSERT INTO retention_run AS r (at, tried_at, seconds, deleted, failed, unfinished, host)
VALUES (now(), now(), %(seconds)s, %(deleted)s::jsonb, %(failed)s::jsonb, %(unfinished)s, %(host)s)
ON CONFLICT (one) DO UPDATE SET at = CASE WHEN excluded.failed = '{}' THEN excluded.at ELSE r.at END,
    tried_at = excluded.tried_at, seconds = excluded.seconds, deleted = excluded.deleted, failed = excluded.failed,
    unfinished = excluded.unfinished, host = excluded.host"""
_EVENT = """
INSERT INTO process_events (process_name, event_type, event_data, severity)
VALUES ('retention', %(event)s, jsonb_strip_nulls(jsonb_build_object('deleted', %(deleted)s::jsonb,
    'failed', NULLIF(%(failed)s::jsonb, '{}'), 'seconds', %(seconds)s::float, 'host', %(host)s::text)), %(severity)s)"""
_FAILED_BEFORE = "SELECT failed FROM retention_run"
_LAST = """
SELECT GREATEST(extract(epoch FROM now() - at), 0)::float, extract(epoch FROM now() - tried_at)::float, seconds::float,
    deleted, failed, unfinished, host
FROM retention_run"""


@dataclass(frozen=True, slots=True)
class LastRun:
    """The last run of the retention."""

    #: Since the last run without a failure; before the first, since the record exists.
    age_seconds: float
    #: Since the last run, however it ended; None: there was none. Negative if the clock was set back.
    tried_seconds: float | None
    #: It took so long.
    seconds: float
    #: Rows and files by kind.
    deleted: Mapping[str, int]
    #: Reasons by kind.
    failed: Mapping[str, str]
    unfinished: bool
    host: str

    @property
    def is_due(self) -> bool:
        """Whether another run is due."""
        if self.tried_seconds is None or self.tried_seconds < 0:
            return True
        pause = RETRY_SECONDS if self.failed else CONTINUE_SECONDS if self.unfinished else RUN_INTERVAL_SECONDS
        return self.tried_seconds >= pause

    @property
    def removed(self) -> str:
        """The numbers of removed rows by kind."""
        return ", ".join(f"{number} {kind}" for kind, number in self.deleted.items()) or "nothing"

    @property
    def summary(self) -> str:
        """When it ran, what it removed, and what failed, for people."""
        if self.tried_seconds is None:
            return "it never ran"
        text = f"{duration(self.tried_seconds)} ago it removed {self.removed}"
        return f"{text}; it failed for {self.reasons}" if self.failed else text

    def as_json(self) -> dict[str, Any]:
        """It as `clean-up --json` shows it."""
        return {"age_seconds": self.age_seconds, "tried_seconds": self.tried_seconds, "seconds": self.seconds,
                "deleted": dict(self.deleted), "failed": dict(self.failed), "unfinished": self.unfinished,
                "host": self.host}  # fmt: skip

    @property
    def reasons(self) -> str:
        """Why it failed, by kind."""
        return explain(self.failed)


def explain(failed: Mapping[str, str]) -> str:
    """The reasons by kind, for people."""
    return "; ".join(f"{kind}: {reason}" for kind, reason in failed.items())


def last(connection: Connection) -> LastRun | None:
    """The last run; None in a database that was never migrated so far."""
    rows = query(connection, _LAST)
    return LastRun(*rows[0]) if rows else None


def record(
    connection: Connection, deleted: Mapping[str, int], failed: Mapping[str, str], unfinished: bool, seconds: float
) -> None:
    """Records a run; as an event if it deleted anything, or if it fails and the one before did not."""
    values: dict[str, Any] = {
        "deleted": json.dumps(deleted), "failed": json.dumps(failed), "unfinished": unfinished,
        "seconds": round(seconds, 3), "host": socket.gethostname(),
    }  # fmt: skip
    before = query(connection, _FAILED_BEFORE)
    query(connection, _RECORD, values)
    if failed and not (before and before[0][0]):
        query(connection, _EVENT, values | {"event": "retention_failed", "severity": "warning"})
    elif deleted:
        query(connection, _EVENT, values | {"event": "rows_deleted", "severity": "info"})
