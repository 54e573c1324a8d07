"""The database's clock: what it does to stored times if it is set back or forth, and how that is repaired.

Every time that is stored and compared is PostgreSQL's own. If its clock is set back, what was to happen in a moment
would happen far too late: `repair_clock` (sql/008_clock.sql) moves it back as well, once for all processes. If it is
set forth, everything is due early, which harms nothing but leases: those of living workers seem to have run out.
"""

import structlog

from bisnesctl.host.process_times import boottime
from bisnesctl.settings import Settings
from services.database.connection import Connection, transaction

#: Seconds between two looks at the clock that are written down: the repair is exact to this.
SEEN_INTERVAL_SECONDS = 1.0
#: Seconds by which the clock may be off before it counts as set.
SLACK_SECONDS = 2.0
#: Milliseconds for the repair, which rewrites every chat that waits.
REPAIR_TIMEOUT_MS = 300_000

_LOOK = """
SELECT extract(epoch FROM clock_timestamp())::float, (SELECT extract(epoch FROM at)::float FROM clock_seen)"""
_SEEN = f"""
UPDATE clock_seen SET at = clock_timestamp() WHERE one IN (
    SELECT one FROM clock_seen WHERE at < clock_timestamp() - interval '{SEEN_INTERVAL_SECONDS} seconds'
    FOR UPDATE SKIP LOCKED)"""

log = structlog.get_logger()


class ClockWatch:
    """Sees that another clock is set forth, by ours, which never is."""

    def __init__(self) -> None:
        self._last: tuple[float, float] | None = None  # its time, and ours before it was asked for

    def forth(self, told: float, asked: float, answered: float) -> float:
        """The seconds by which it was set forth since the last look, at the least: an answer may be long on its way.

        `told`: its time; `asked` and `answered`: ours, before and after.
        """
        last, self._last = self._last, (told, asked)
        return 0.0 if last is None else max(0.0, (told - last[0]) - (answered - last[1]))


class DatabaseClock:
    """Looks at the database's clock for one process."""

    def __init__(self, settings: Settings) -> None:
        self._longest_lease = max(settings.lease_seconds, settings.webhook_lease_seconds)
        self._watch = ClockWatch()

    def look(self, connection: Connection) -> bool:
        """Repair what a clock that was set back delays; returns whether it was set forth since the last look."""
        asked = boottime()
        with connection.cursor() as cursor:
            cursor.execute(_LOOK)
            told, seen = cursor.fetchone() or (0.0, None)
            forth = self._watch.forth(told, asked, boottime())
            if seen is None or told - seen > SEEN_INTERVAL_SECONDS:
                cursor.execute(_SEEN)
        if seen is not None and seen - told > SLACK_SECONDS:
            self._repair(connection)
        if forth > SLACK_SECONDS:
            log.warning("the database's clock was set forth: check its time service", seconds=round(forth))
        return forth > SLACK_SECONDS

    def _repair(self, connection: Connection) -> None:
        with transaction(connection) as cursor:
            cursor.execute("SET LOCAL statement_timeout = %s", (REPAIR_TIMEOUT_MS,))
            cursor.execute("SELECT repair_clock(%s * interval '1 second')", (self._longest_lease,))
            back = float((cursor.fetchone() or (0.0,))[0])
        if back:
            log.warning("the database's clock was set back: check its time service", seconds=round(back))
