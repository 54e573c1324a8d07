"""Delivers the records of the spool to the database, in order and each once."""

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg2

from bisnesctl.audit import store, trail
from bisnesctl.audit.record import AuditRecord, Outcome
from bisnesctl.database import postgres
from bisnesctl.errors import BisnesError
from bisnesctl.settings import Settings

#: Seconds between looks at the spool, and after a failed delivery.
DELIVERY_INTERVAL_SECONDS = 2.0
#: Seconds to connect, and for each statement.
DATABASE_TIMEOUT_SECONDS = 2
#: Records in one transaction.
BATCH = 200
#: The code of a record whose process ended without its outcome.
KILLED = "killed"

Waiting = list[tuple[Path, AuditRecord]]


def deliver(settings: Settings) -> int:
    """Delivers what has ended; returns the number of records. Raises `BisnesError` or `psycopg2.Error`."""
    waiting = [(file, _ended(record)) for file, record in trail.waiting(settings.home) if not record.is_under_way]
    if waiting:
        with postgres.connected(settings.database_dsn, timeout=DATABASE_TIMEOUT_SECONDS) as connection:
            for first in range(0, len(waiting), BATCH):
                _deliver_batch(connection, waiting[first : first + BATCH])
    return len(waiting)


def _ended(record: AuditRecord) -> AuditRecord:
    if record.outcome != Outcome.UNFINISHED:
        return record
    return replace(record, outcome=Outcome.INTERRUPTED, code=KILLED, message="its process ended without an outcome")


def _deliver_batch(connection: postgres.Connection, batch: Waiting) -> None:
    try:
        store.insert(connection, [record for _, record in batch])
    except psycopg2.DataError as error:
        if len(batch) > 1:  # the others must not wait for the one that is refused
            for each in batch:
                _deliver_batch(connection, [each])
            return
        log = _logger()
        log.error("audit.record_refused", record=batch[0][1].content().decode(), reason=str(error).strip())
    for file, _ in batch:
        file.unlink(missing_ok=True)


def _logger() -> Any:
    import structlog  # slow, and commands use this module

    return structlog.get_logger()


class AuditDelivery:
    """Delivers on a thread of its own, for as long as the process runs."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._reason = ""

    def start(self) -> None:
        """Starts the thread."""
        threading.Thread(target=self._run, name="audit-delivery", daemon=True).start()

    def _run(self) -> None:
        while True:
            self.deliver_once()
            threading.Event().wait(DELIVERY_INTERVAL_SECONDS)

    def deliver_once(self) -> None:
        """Delivers what waits. A failure is logged when it begins and when it ends. Never raises."""
        try:
            deliver(self._settings)
        except (BisnesError, psycopg2.Error, OSError) as error:
            log = _logger()
            if not self._reason:
                log.warning("audit.delivery_paused", reason=str(error).strip())
            self._reason = str(error)
        else:
            if self._reason:
                log = _logger()
                log.info("audit.delivery_resumed")
            self._reason = ""
