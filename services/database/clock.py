"""The database's clock: the repair of stored times if it is set back or forward.

Every time that is stored and compared is PostgreSQL's own. If its clock is set back, everything that is due soon would
happen far too late: `repair_clock` (sql/008_clock.sql) moves those times back as well, once for all processes. If it is
set forward, everything is due early. That harms nothing but leases: those of living workers seem to have expired.
"""

import structlog

from bisnesctl.host.process_times import boottime
from bisnesctl.settings import Settings
from services.database.connection import Connection, query, query_one, transaction

#: Seconds between two recorded times of the clock: the repair is exact to this.
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
    """Notices that another clock is set forward, by ours, which never is."""

    def __init__(self) -> None:
        self._last: tuple[float, float] | None = None  # its time, and ours before it was asked for

    def set_forward(self, reading: float, asked: float, answered: float) -> float:
        """The seconds by which it was set forward since the last look, at least: an answer may take long.

        `reading`: its time; `asked` and `answered`: ours, before and after.
        """
        last, self._last = self._last, (reading, asked)
        return 0.0 if last is None else max(0.0, (reading - last[0]) - (answered - last[1]))


class DatabaseClock:
    """Looks at the database's clock for one process."""

    def __init__(self, settings: Settings) -> None:
        self._longest_lease = max(settings.lease_seconds, settings.webhook_lease_seconds)
        self._watch = ClockWatch()

    def look(self, connection: Connection) -> bool:
        """Repair the times that a clock set back would delay; returns whether it was set forward meanwhile."""
        asked = boottime()
        reading, seen = query_one(connection, _LOOK) or (0.0, None)
        forward = self._watch.set_forward(reading, asked, boottime())
        if seen is None or reading - seen > SEEN_INTERVAL_SECONDS:
            query(connection, _SEEN)
        if seen is not None and seen - reading > SLACK_SECONDS:
            self._repair(connection)
        if forward > SLACK_SECONDS:
            log.warning("database_clock.set_forward", seconds=round(forward), advice="check its time service")
        return forward > SLACK_SECONDS

    def _repair(self, connection: Connection) -> None:
        with transaction(connection) as cursor:
            cursor.execute("SET LOCAL statement_timeout = %s", (REPAIR_TIMEOUT_MS,))
            cursor.execute("SELECT repair_clock(%s * interval '1 second')", (self._longest_lease,))
            back = float((cursor.fetchone() or (0.0,))[0])
        if back:
            log.warning("database_clock.set_back", seconds=round(back), advice="check its time service")
