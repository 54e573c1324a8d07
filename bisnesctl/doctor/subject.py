"""The deployment that is examined, with facts about its servers that several checks need and that are read once."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from bisnesctl.database import postgres
from bisnesctl.errors import BisnesError
from bisnesctl.processes.deployment import open_deployment
from bisnesctl.processes.supervisor import Process
from bisnesctl.settings import Settings

#: Seconds to connect to a server, and for each statement.
SERVER_TIMEOUT_SECONDS = 4

Fact = TypeVar("Fact")

_POSTGRES = """
SELECT current_setting('server_version_num')::int, current_setting('server_version'),
    pg_encoding_to_char(encoding), current_setting('max_connections')::int,
    current_setting('superuser_reserved_connections')::int,
    (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'
        AND COALESCE(application_name, '') !~ '^(bisnesctl|api|meta|wwebjs|events|legacy)([- ]|$)')::int,
    pg_is_in_recovery(), current_setting('default_transaction_read_only') = 'on',
    has_schema_privilege(current_schema(), 'CREATE'), has_database_privilege(current_database(), 'TEMP'),
    extract(epoch FROM clock_timestamp())::float, current_user::text, current_database()::text
FROM pg_database WHERE datname = current_database()"""


@dataclass(frozen=True)
class PostgresFacts:
    """PostgreSQL as it answered."""

    version: int
    version_text: str
    encoding: str
    max_connections: int
    reserved_connections: int
    #: Connections of other programs at this moment.
    other_connections: int
    in_recovery: bool
    read_only: bool
    may_create: bool
    may_create_temporary: bool
    #: Its clock, in seconds since the epoch.
    clock: float
    user: str
    database: str


class Once(Generic[Fact]):
    """A fact that is read by the first check that needs it; the others wait for it."""

    def __init__(self, read: Callable[[], Fact]) -> None:
        self._read = read
        self._lock = threading.Lock()
        self._found: tuple[Fact | None, Exception | None] | None = None

    def value(self) -> Fact:
        """The fact. Raises what its reading raised."""
        with self._lock:
            if self._found is None:
                try:
                    self._found = self._read(), None
                except Exception as problem:
                    self._found = None, problem
        fact, failure = self._found
        if failure is not None:
            raise failure
        return fact  # type: ignore[return-value]


class Subject:
    """One deployment under examination."""

    def __init__(self, settings: Settings, refused: dict[str, str] | None = None) -> None:
        """`settings`: with defaults in place of refused values; `refused`: those, with the reasons."""
        self.settings = settings
        self.refused = refused or {}
        self.deployment = open_deployment(settings)
        self._processes = Once(self._read_processes)
        self.postgres: Once[PostgresFacts] = Once(self._read_postgres)
        self.redis: Once[dict[str, Any]] = Once(self._read_redis)

    @property
    def processes(self) -> dict[str, Process]:
        """supervisord's processes by name; empty if nothing runs."""
        return self._processes.value()

    @property
    def runs(self) -> bool:
        """Whether this deployment runs."""
        return any(each.active for each in self.processes.values())

    def runs_program(self, name: str) -> bool:
        """Whether an instance of this program runs."""
        return any(each.active and each.name.partition("-")[0] == name for each in self.processes.values())

    def _read_processes(self) -> dict[str, Process]:
        try:
            return self.deployment.processes()
        except BisnesError:
            return {}

    def _read_postgres(self) -> PostgresFacts:
        settings = self.settings
        with (
            postgres.translated(f"See {settings.where('database_url')}", settings.database_dsn),
            postgres.connected(settings.database_dsn, timeout=SERVER_TIMEOUT_SECONDS) as connection,
        ):
            return PostgresFacts(*postgres.query(connection, _POSTGRES, {})[0])

    def _read_redis(self) -> dict[str, Any]:
        """The answer to INFO, with `config`, the answer to CONFIG GET; None if that is forbidden."""
        import redis

        timeouts = {"socket_timeout": SERVER_TIMEOUT_SECONDS, "socket_connect_timeout": SERVER_TIMEOUT_SECONDS}
        with redis.Redis.from_url(self.settings.redis_dsn, decode_responses=True, **timeouts) as client:
            found: dict[str, Any] = dict(client.info())
            try:
                found["config"] = dict(client.config_get("*"))
            except redis.ResponseError:  # a managed server
                found["config"] = None
        return found
