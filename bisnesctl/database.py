"""The little that the tool itself asks of PostgreSQL before the services start."""

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import psycopg2
import psycopg2.extensions

from bisnesctl import migrations, probes
from bisnesctl.errors import DatabaseUnavailable, MigrationsPending, RedisUnavailable
from bisnesctl.settings import Settings

#: Seconds to wait for a connection.
CONNECT_TIMEOUT = 5

#: How an operator's key of `.env` is called in `bisnesctl keys list`.
OPERATOR_LABEL = "operator (.env)"


def make_ready(settings: Settings, report: Callable[[str], None]) -> None:
    """Migrates the embedded database, or checks somebody else's; then registers the operator's key.

    Raises `DatabaseUnavailable`, `MigrationsPending` or `MigrationError`.
    """
    if settings.embedded_postgres:
        applied = migrations.apply(settings.database_dsn, report=report)
        if applied:
            report(f"database: {len(applied)} migrations applied")
    else:
        check_migrated(settings)
    register_operator_key(settings)


def check_migrated(settings: Settings) -> None:
    """Raises `DatabaseUnavailable`, or `MigrationsPending` naming what is missing."""
    with connected(settings):
        pending = migrations.pending(settings.database_dsn)
    if pending:
        raise MigrationsPending(f"the database lacks {', '.join(pending)}: run `bisnesctl migrate`, then start again")


def register_operator_key(settings: Settings) -> None:
    """Lets the operator's key of `.env` in; one that was revoked stays so."""
    key = settings.operator_key.get_secret_value()
    if not key:
        return
    with connected(settings) as connection, connection, connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO api_keys (key_hash, prefix, label) VALUES (%s, %s, %s) ON CONFLICT (key_hash) DO NOTHING",
            (hashlib.sha256(key.encode()).digest(), key[:8], OPERATOR_LABEL),
        )


def check_redis(settings: Settings) -> None:
    """Raises `RedisUnavailable` naming the address, without its password."""
    health = probes.redis(settings.redis_dsn)
    if not health.healthy:
        raise RedisUnavailable(
            f"Redis at {_place(settings.redis_dsn)} does not answer: {health.reason}. "
            f"See REDIS_URL or REDIS_HOST in {settings.env_file}"
        )


@contextlib.contextmanager
def connected(settings: Settings) -> Iterator[psycopg2.extensions.connection]:
    """A connection to the database. Raises `DatabaseUnavailable` with the next step."""
    try:
        connection = psycopg2.connect(settings.database_dsn, connect_timeout=CONNECT_TIMEOUT)
    except psycopg2.OperationalError as error:
        reason = str(error).strip().splitlines()[0]
        key = (
            "See `bisnesctl logs postgres`"
            if settings.embedded_postgres
            else f"See DATABASE_URL in {settings.env_file}"
        )
        raise DatabaseUnavailable(f"PostgreSQL cannot be reached: {reason}. {key}") from error
    try:
        yield connection
    finally:
        connection.close()


def _place(url: str) -> str:
    parts = urlsplit(url)
    return parts.path if parts.scheme == "unix" else f"{parts.hostname}:{parts.port or 6379}"
