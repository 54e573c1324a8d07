"""Signals of PostgreSQL and Redis."""

import math
import time
from collections.abc import Iterator

from bisnesctl.database.postgres import Connection, query
from bisnesctl.formatting import duration
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
        "Redis carries wake-ups only. Without it messages leave up to a second later, so it is never critical.",
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
    "Time since old rows were last deleted.",
    Unit.SECONDS,
    Place.POSTGRESQL,
    Runbook(
        "A worker of each channel deletes old rows every hour: metrics after 7 days, events of severity info and "
        "warning after 30, customers' events after EVENTS_KEEP_DAYS. Three missed runs are a reason to look; after "
        "a day tables grow noticeably.",
        ("bisnesctl logs meta-worker --lines 50", "psql \"$DATABASE_URL\" -c 'SELECT * FROM retention_run'"),
        ("bisnesctl restart meta-worker  # the worker that deletes does not run, or its statement takes too long",),
    ),
    warning=Range(0, 3 * 3600),
    critical=Range(0, 86400),
    explained_by=("postgres_health", "supervisord_health"),
    summary="old rows were last deleted {value} ago",
)
RETENTION_DELETED = Signal(
    "retention_deleted",
    "Rows that the last run of the retention deleted.",
    Unit.COUNT,
    Place.POSTGRESQL,
    Runbook("`SELECT * FROM retention_run` has the numbers by kind."),
)
SIGNALS = (
    POSTGRES_HEALTH, REDIS_HEALTH, CLOCK_OFFSET, CONNECTIONS_USED, CONNECTIONS_OPEN, RETENTION_AGE, RETENTION_DELETED,
)  # fmt: skip

_CLOCK = "SELECT extract(epoch FROM clock_timestamp())::float"
_CONNECTIONS = """
SELECT (SELECT sum(numbackends)::int FROM pg_stat_database),
    current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int"""
_RETENTION = """
SELECT GREATEST(extract(epoch FROM now() - at), 0)::float, (SELECT COALESCE(sum(value::bigint), 0)
    FROM jsonb_each_text(deleted))::float, deleted FROM retention_run"""


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
    """The last run of the retention; nothing before the first."""
    for age, count, deleted in query(connection, _RETENTION):
        removed = ", ".join(f"{number} {kind}" for kind, number in deleted.items()) or "nothing"
        yield Reading(RETENTION_AGE, age, {}, f"{duration(age)} ago it removed {removed}")
        yield Reading(RETENTION_DELETED, count, {}, removed)
