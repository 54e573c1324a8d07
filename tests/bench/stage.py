"""The servers that both sides use: one PostgreSQL, one Redis, one Graph mock, and a folder for logs."""

import contextlib
import shutil
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg2
import psycopg2.extensions
import redis

from tests.bench import tools
from tests.bench.graph import GraphMock
from tests.support.processes import servers


@dataclass(frozen=True, slots=True)
class Stage:
    """The servers, and where a side may put its files."""

    database: servers.Postgres
    redis_url: str
    postgres: psutil.Process
    redis: psutil.Process
    graph: GraphMock
    folder: Path

    @property
    def servers(self) -> list[psutil.Process]:
        return [self.postgres, self.redis]

    def fresh_database(self, name: str) -> str:
        """An empty database of that name on a server that has caught up with its writes; returns its URL."""
        for statement in (f"DROP DATABASE IF EXISTS {name} WITH (FORCE)", f"CREATE DATABASE {name}", "CHECKPOINT"):
            self.database.run(statement)
        redis.Redis.from_url(self.redis_url).flushall()
        return self.database.dsn(name)

    @contextlib.contextmanager
    def connect(self, url: str) -> Iterator[psycopg2.extensions.connection]:
        """A connection in autocommit."""
        connection = psycopg2.connect(url)
        connection.autocommit = True
        try:
            yield connection
        finally:
            connection.close()

    def describe(self) -> dict[str, str]:
        """Versions, what makes a commit durable, and how busy the machine was before, for the report."""
        with self.connect(self.database.dsn()) as connection, connection.cursor() as cursor:
            cursor.execute(
                "SELECT current_setting('server_version'), current_setting('fsync'), "
                "current_setting('synchronous_commit')"
            )
            version, fsync, synchronous = cursor.fetchone() or ("?", "?", "?")
        info = redis.Redis.from_url(self.redis_url).info("server")
        return {
            "PostgreSQL": f"{version}, fsync {fsync}, synchronous_commit {synchronous}",
            "Redis": str(info.get("valkey_version") or info["redis_version"]),
            "machine": f"{psutil.cpu_count()} cores, load {psutil.getloadavg()[0]:.1f} before the start",
        }


def free_port() -> int:
    """A TCP port of loopback that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def stage() -> Iterator[Stage]:
    """Start everything, and end everything in any case."""
    with contextlib.ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="bisnes-bench-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        settings = servers.settings_in(folder)
        postgres, redis_server = servers.Postgres(settings, durable=True), servers.Redis(settings)
        for server in (postgres, redis_server):
            stack.callback(server.remove)
            server.start()
        graph = GraphMock(tools.build("graphmock"), free_port())
        stack.callback(graph.stop)
        processes = psutil.Process(postgres.pid), psutil.Process(redis_server.pid)
        yield Stage(postgres, redis_server.url, *processes, graph, folder)
