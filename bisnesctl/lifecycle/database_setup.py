"""The little that the tool itself asks of PostgreSQL before the services start."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from urllib.parse import urlsplit

from bisnesctl.database import api_keys, migrations, postgres
from bisnesctl.database.postgres import Connection
from bisnesctl.errors import MigrationsPending, RedisUnavailable
from bisnesctl.health import probes
from bisnesctl.settings import Settings

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
    check_reachable(settings)
    pending = migrations.pending(settings.database_dsn)
    if pending:
        raise MigrationsPending(f"the database lacks {', '.join(pending)}: run `bisnesctl migrate`, then start again")


def check_reachable(settings: Settings) -> None:
    """Raises `DatabaseUnavailable` with the next step."""
    with connected(settings):
        return


def register_operator_key(settings: Settings) -> None:
    """Lets the operator's key of `.env` in; one that was revoked stays so."""
    key = settings.operator_key.get_secret_value()
    if not key:
        return
    with connected(settings) as connection:
        api_keys.register(connection, key, None, OPERATOR_LABEL)


def check_redis(settings: Settings) -> None:
    """Raises `RedisUnavailable` naming the address, without its password."""
    health = probes.redis(settings.redis_dsn)
    if not health.healthy:
        raise RedisUnavailable(
            f"Redis at {_place(settings.redis_dsn)} does not answer: {health.reason}. "
            f"See REDIS_URL or REDIS_HOST in {settings.env_file}"
        )


def connected(settings: Settings) -> AbstractContextManager[Connection]:
    """A connection to the database in autocommit; see `postgres.connected` for what it raises."""
    return postgres.connected(settings.database_dsn, _hint(settings))


def _hint(settings: Settings) -> str:
    if settings.embedded_postgres:
        return "It runs with the rest: `bisnesctl start --multiprocess`; its log: `bisnesctl logs postgres`"
    return f"See DATABASE_URL in {settings.env_file}"


def _place(url: str) -> str:
    parts = urlsplit(url)
    return parts.path if parts.scheme == "unix" else f"{parts.hostname}:{parts.port or 6379}"
