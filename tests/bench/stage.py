"""What both sides run on: one PostgreSQL, one Redis, one Graph mock, and a folder for logs."""

import contextlib
import shutil
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psutil
import psycopg2
import psycopg2.extensions
import redis

from tests import servers
from tests.bench import tools
from tests.bench.graph import GraphMock


@dataclass(frozen=True, slots=True)
class Stage:
    """The servers, and where a side may put its files."""

    postgres_url: str  # of the server; its path names the database to connect to for making others
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
        with self.connect() as connection, connection.cursor() as cursor:
            cursor.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
            cursor.execute(f"CREATE DATABASE {name}")
            cursor.execute("CHECKPOINT")
        redis.Redis.from_url(self.redis_url).flushall()
        return self.database_url(name)

    def database_url(self, name: str) -> str:
        return urlunsplit(urlsplit(self.postgres_url)._replace(path=f"/{name}"))

    @contextlib.contextmanager
    def connect(self, url: str | None = None) -> Iterator[psycopg2.extensions.connection]:
        """A connection in autocommit to the server or to one of its databases."""
        connection = psycopg2.connect(url or self.postgres_url)
        connection.autocommit = True
        try:
            yield connection
        finally:
            connection.close()

    def describe(self) -> dict[str, str]:
        """Versions and what makes a commit durable, for the report."""
        with self.connect() as connection, connection.cursor() as cursor:
            cursor.execute(
                "SELECT current_setting('server_version'), current_setting('fsync'), "
                "current_setting('synchronous_commit')"
            )
            version, fsync, synchronous = cursor.fetchone() or ("?", "?", "?")
        info = redis.Redis.from_url(self.redis_url).info("server")
        return {
            "PostgreSQL": f"{version}, fsync {fsync}, synchronous_commit {synchronous}",
            "Redis": str(info.get("valkey_version") or info["redis_version"]),
        }


def free_port() -> int:
    """A TCP port of loopback that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def stage() -> Iterator[Stage]:
    """Start everything; end everything, whatever happens."""
    with contextlib.ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="bisnes-bench-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        postgres_url, postgres = stack.enter_context(servers.postgres())
        redis_url, redis_server = stack.enter_context(servers.redis())
        graph = GraphMock(tools.build("graphmock"), free_port())
        stack.callback(graph.stop)
        yield Stage(postgres_url, redis_url, postgres, redis_server, graph, folder)
