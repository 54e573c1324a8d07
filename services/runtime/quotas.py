"""Quotas in one process: the limits of companies, and how much of them is used, without a query of the caller.

The limits are read when they change. The use of stored things (waiting messages, keys) is measured by a thread, more
often near a limit; between two measurements each process adds what it lets pass itself.
"""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import structlog

from bisnesctl.database import quotas
from bisnesctl.database.quotas import OwnLimits, Quota
from bisnesctl.settings import Settings
from services.database.connection import Connection, Database, DatabaseError, DatabaseUnavailable
from services.runtime.account_cache import AccountCache

#: Seconds between two measurements if a company is near its limit, and if none is.
TIGHT_SECONDS, IDLE_SECONDS = 1.0, 60.0
#: The same for quotas whose statement reads a whole table.
TIGHT_TABLE_SECONDS, IDLE_TABLE_SECONDS = 10.0, 600.0
#: The least pause between two measurements, in multiples of the duration of the last one; at most in multiples of the
#: pause near a limit.
PAUSE_FACTOR, MAX_PAUSE_FACTOR = 20.0, 5.0
#: The share of its limit from which a company counts as near it.
TIGHT_SHARE = 0.5

log = structlog.get_logger()


@dataclass(slots=True)
class _Measurement:
    tight_seconds: float
    idle_seconds: float
    used: Mapping[str, int] = field(default_factory=dict)  # by company, at the last measurement
    added: dict[str, int] = field(default_factory=dict)  # since then, by this process
    measured_at: float = float("-inf")
    earliest: float = float("-inf")  # of the next measurement
    tight: bool = True


class Quotas:
    """The limits of companies, and the use of those that are stored."""

    def __init__(self, settings: Settings, database: Database, accounts: AccountCache, *measured: Quota) -> None:
        """`measured`: the quotas that `room` and `add` are asked about. Starts to follow changes of the limits."""
        self._database = database
        self._defaults: dict[Quota, int | None] = {quota: getattr(settings, quota.setting) for quota in Quota}
        self._own: OwnLimits = {}
        self._measurements = {
            quota: _Measurement(TIGHT_SECONDS, IDLE_SECONDS)
            if quota is Quota.WAITING_MESSAGES
            else _Measurement(TIGHT_TABLE_SECONDS, IDLE_TABLE_SECONDS)
            for quota in measured
        }
        self._stopped = threading.Event()
        self._changed = threading.Event()  # something may be due earlier than it was
        accounts.read_with(self._read_limits)
        if measured:
            threading.Thread(target=self._measure_until_stopped, name="quotas", daemon=True).start()

    def stop(self) -> None:
        """Measure nothing more."""
        self._stopped.set()
        self._changed.set()

    def limit(self, company: str, quota: Quota) -> int | None:
        """The limit of a company; None: unlimited."""
        default = self._defaults[quota]
        return self._own.get((company, quota), default) if self._own else default

    def used(self, company: str, quota: Quota) -> int:
        """How much a company uses of a measured quota, as far as it is known."""
        found = self._measurements[quota]
        return found.used.get(company, 0) + found.added.get(company, 0)

    def has_room(self, company: str, quota: Quota) -> bool:
        """Whether a company has not used up a measured quota."""
        limit = self.limit(company, quota)
        if limit is None:
            return True
        used, found = self.used(company, quota), self._measurements[quota]
        if used >= limit * TIGHT_SHARE and not found.tight:
            found.tight = True
            self._changed.set()
        return used < limit

    def add(self, company: str, quota: Quota, amount: int = 1) -> None:
        """Count what a company uses from now on."""
        added = self._measurements[quota].added
        added[company] = added.get(company, 0) + amount

    def _read_limits(self, connection: Connection) -> None:
        self._own = quotas.own_limits(connection)
        for each in self._measurements.values():
            each.tight = True
        self._changed.set()

    def _measure_until_stopped(self) -> None:
        while not self._stopped.is_set():
            self._changed.clear()
            pauses: list[float] = []
            for quota, measurement in self._measurements.items():
                if self._is_limited(quota):
                    if self._due(measurement) <= time.monotonic():
                        self._measure(quota, measurement)
                    pauses.append(self._due(measurement) - time.monotonic())
            self._changed.wait(max(min(pauses, default=IDLE_SECONDS), 0.0))

    def _due(self, found: _Measurement) -> float:
        """When the next measurement is due, by the monotonic clock."""
        pause = found.tight_seconds if found.tight else found.idle_seconds
        return max(found.measured_at + pause, found.earliest)

    def _is_limited(self, quota: Quota) -> bool:
        return self._defaults[quota] is not None or any(name is quota for _, name in self._own)

    def _measure(self, quota: Quota, found: _Measurement) -> None:
        began = time.monotonic()
        before, found.added = found.added, {}
        try:
            with self._database.connection() as connection:
                found.used = quotas.measure(connection, quota)
            found.tight = False
        except (DatabaseUnavailable, DatabaseError) as error:
            found.added = before
            log.warning("quotas.not_measured", quota=quota.value, reason=str(error).strip())
        found.measured_at = time.monotonic()
        longest = found.tight_seconds * MAX_PAUSE_FACTOR
        found.earliest = found.measured_at + min((found.measured_at - began) * PAUSE_FACTOR, longest)
