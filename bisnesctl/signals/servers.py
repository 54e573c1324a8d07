"""Signals of PostgreSQL and Redis."""

import math
import time
from collections.abc import Iterator

from bisnesctl.database.postgres import Connection, query
from bisnesctl.retention import records
from bisnesctl.signals.ranges import Range
from bisnesctl.signals.signal import Place, Reading, Runbook, Signal, Unit

POSTGRES_HEALTH = Signal(
    "postgres_health",
    "Whether PostgreSQL answers and can store.",
    Unit.SEVERITY,
    Place.POSTGRESQL,
    Runbook(
        "All state is in PostgreSQL. Without it nothing is accepted, sent or received; what was accepted is safe.",
        ("bisnesctl status", "bisnesctl logs postgres --lines 50", "psql \"$DATABASE_URL\" -c 'SELECT 1'"),
        (
            "bisnesctl restart postgres  # the embedded one",
            "Otherwise: look at its machine, its disk and DATABASE_URL.",
        ),
    ),
    warning=Range(-math.inf, 0),
    critical=Range(-math.inf, 1),
    hold_seconds=10,
    explained_by=("supervisord_health", "disk_health"),
    summary="PostgreSQL {value}: {reason}",
)
REDIS_HEALTH = Signal(
    "redis_health",
    "Whether Redis answers and can be written to.",
    Unit.SEVERITY,
    Place.REDIS,
    Runbook(
        "Redis carries wake-ups only. Without it WhatsApp Web messages leave, and webhooks are applied, up to a second "
        "later, so it is never critical.",
        ("bisnesctl status", "bisnesctl logs redis --lines 50"),
        ("bisnesctl restart redis  # the embedded one", "Otherwise: look at its machine and REDIS_URL."),
    ),
    warning=Range(-math.inf, 0),
    hold_seconds=30,
    explained_by=("supervisord_health", "disk_health"),
    summary="Redis {value}: {reason}",
)
CLOCK_OFFSET = Signal(
    "clock_offset",
    "PostgreSQL's clock minus that of this machine.",
    Unit.SECONDS,
    Place.POSTGRESQL,
    Runbook(
        "Due times and leases are PostgreSQL's own and do not suffer. Times in logs and alerts differ from those in "
        "the database, and tokens and certificates may seem expired. From 2 s on a step of the clock is repaired.",
        ("timedatectl", "psql \"$DATABASE_URL\" -c 'SELECT now()'; date -u"),
        ("sudo systemctl restart systemd-timesyncd  # or chrony, on the machine that is wrong",),
    ),
    warning=Range(-2, 2),
    critical=Range(-30, 30),
    hold_seconds=60,
    summary="the clock of PostgreSQL differs by {value}",
)
CONNECTIONS_USED = Signal(
    "postgres_connections_used",
    "Connections to PostgreSQL, of all its clients, as a share of those that it allows.",
    Unit.RATIO,
    Place.POSTGRESQL,
    Runbook(
        "At 100 % new connections are refused: restarts fail first. At 80 % one more instance may be too many.",
        (
            'psql "$DATABASE_URL" -c \'SELECT application_name, count(*) FROM pg_stat_activity GROUP BY 1 ORDER BY '
            "2 DESC'",
        ),
        ("Raise max_connections, or lower DATABASE_POOL_API_MAX or the numbers of instances.",),
    ),
    warning=Range(0, 0.8),
    critical=Range(0, 0.95),
    hold_seconds=60,
    summary="{value} of PostgreSQL's connections are in use: {reason}",
)
CONNECTIONS_OPEN = Signal(
    "postgres_connections",
    "Connections to PostgreSQL, of all its clients.",
    Unit.COUNT,
    Place.POSTGRESQL,
    Runbook("postgres_connections_used judges it."),
)
RETENTION_AGE = Signal(
    "retention_age",
    "Time since all old rows were last deleted.",
    Unit.SECONDS,
    Place.POSTGRESQL,
    Runbook(
        "The process `events` deletes old rows every hour, or the legacy process. `bisnesctl help retention` lists "
        "what is deleted when. Three missed runs are a reason to look; after a day tables grow noticeably. The reason "
        "names the failures of the last run.",
        ("bisnesctl clean-up --dry-run", "bisnesctl logs events --grep retention --lines 50"),
        (
            "bisnesctl clean-up  # deletes now and names what fails",
            "bisnesctl restart events  # if nothing runs the retention",
        ),
    ),
    warning=Range(0, records.LATE_SECONDS),
    critical=Range(0, records.VERY_LATE_SECONDS),
    hold_seconds=900,  # after a stop of everything, the first run comes first
    explained_by=("postgres_health", "supervisord_health"),
    summary="old rows were last deleted {value} ago: {reason}",
)
RETENTION_DELETED = Signal(
    "retention_deleted",
    "Rows that the last run of the retention deleted.",
    Unit.COUNT,
    Place.POSTGRESQL,
    Runbook("`bisnesctl clean-up --dry-run` shows the last run, and how many rows of each kind are old now."),
)
#: Those that are read from the database.
DATABASE_SIGNALS = (CLOCK_OFFSET, CONNECTIONS_USED, CONNECTIONS_OPEN, RETENTION_AGE, RETENTION_DELETED)
SIGNALS = (POSTGRES_HEALTH, REDIS_HEALTH, *DATABASE_SIGNALS)

_CLOCK = "SELECT extract(epoch FROM clock_timestamp())::float"
_CONNECTIONS = """
SELECT (SELECT sum(numbackends)::int FROM pg_stat_database),
    current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int"""


def read_clock(connection: Connection) -> Iterator[Reading]:
    """The difference to PostgreSQL's clock, exact to half the time of the answer."""
    asked = time.time()
    theirs = float(query(connection, _CLOCK)[0][0])
    yield Reading(CLOCK_OFFSET, theirs - (asked + time.time()) / 2)


def read_connections(connection: Connection) -> Iterator[Reading]:
    """The connections of the whole server."""
    used, allowed = query(connection, _CONNECTIONS)[0]
    yield Reading(CONNECTIONS_USED, used / max(allowed, 1), {}, f"{used} of {allowed}")
    yield Reading(CONNECTIONS_OPEN, float(used))


def read_retention(connection: Connection) -> Iterator[Reading]:
    """The last run of the retention."""
    last = records.last(connection)
    if last is not None:
        yield Reading(RETENTION_AGE, last.age_seconds, {}, last.summary)
        yield Reading(RETENTION_DELETED, float(sum(last.deleted.values())), {}, last.removed)
