"""A real PostgreSQL and Redis for tests, on Unix sockets. They end with the process that starts them."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import psycopg2
import redis

from bisnesctl import paths
from bisnesctl.processes import embedded_servers
from bisnesctl.settings import Settings, load
from tests.support.waiting import HANG_SECONDS, Patience

#: How long a server may take to start or to stop, on a machine that is not busy.
START_SECONDS = 60
#: A folder in memory, on Linux.
MEMORY_FOLDER = Path("/dev/shm")
#: Free bytes that the databases of tests need in it.
TABLESPACE_BYTES = 2 << 30


class Server:
    """A server process that can be stopped, killed and started again on the same data and address."""

    def __init__(
        self, settings: Settings, command: list[str], answers: Callable[[], bool], stop_signal: signal.Signals
    ) -> None:
        self._home, log = settings.server_home, settings.env_file.with_name(f"{Path(command[0]).name}.log")
        self._command = command
        self._log = log
        self._answers = answers
        self._stop_signal = stop_signal
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The server's process."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start, and wait until it answers."""
        user = embedded_servers.server_user()
        die_with_us = ["setpriv", "--pdeathsig", self._stop_signal.name.removeprefix("SIG")]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*die_with_us, *self._command], stdout=log, stderr=log, user=user, group=user,
                extra_groups=None if user is None else [], cwd="/", start_new_session=True,
            )  # fmt: skip
        patience = Patience(START_SECONDS)
        while not self._answers():
            if self._process.poll() is not None or patience.is_over():
                raise RuntimeError(f"{self._command[0]} did not start:\n{self._log.read_text()}")
            time.sleep(0.02)

    def stop(self) -> None:
        """Stop it gracefully."""
        self._end(self._stop_signal)

    def kill(self) -> None:
        """SIGKILL."""
        self._end(signal.SIGKILL)

    def _end(self, signum: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signum)
            self._process.wait(2 * START_SECONDS)

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Suspend all its processes within the context."""
        family = [psutil.Process(self.pid)]
        family[0].suspend()
        family += family[0].children(recursive=True)
        for process in family[1:]:
            process.suspend()
        try:
            yield
        finally:
            for process in reversed(family):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.resume()

    def remove(self) -> None:
        """End it and delete its data."""
        self.stop()
        shutil.rmtree(self._home, ignore_errors=True)

    def restart(self) -> None:
        """Stop and start."""
        self.stop()
        self.start()


def settings_in(folder: Path, **variables: str) -> Settings:
    """Settings with `folder` as their home and nothing else but `variables`, independent of the environment."""
    env_file = folder / ".env"
    env_file.write_text("".join(f"{name}={value}\n" for name, value in variables.items()))
    names = {name.upper() for name in Settings.model_fields}
    kept = {name: os.environ.pop(name) for name in list(os.environ) if name in names}
    try:
        return load(env_file)
    finally:
        os.environ.update(kept)


class Postgres(Server):
    """PostgreSQL as `bisnesctl start` runs the embedded one."""

    def __init__(self, settings: Settings, *, durable: bool = False) -> None:
        """`durable`: wait for the disk. Tests do without, as they kill processes and never the machine."""
        embedded_servers.prepare(settings, lambda line: print(line, file=sys.stderr))
        self._sockets = paths.postgres_sockets(settings.server_home)
        data = paths.postgres_data(settings.server_home)
        command = [str(embedded_servers.postgres_bin(settings) / "postgres"), "-D", str(data), "-k", str(self._sockets),
                   "-c", "listen_addresses=", "-c", "max_connections=200",
                   "-c", f"fsync={'on' if durable else 'off'}"]  # fmt: skip
        super().__init__(settings, command, self._answering, signal.SIGINT)
        self._connection: psycopg2.extensions.connection | None = None

    def dsn(self, database: str = "bisnes") -> str:
        """The URL of one of its databases."""
        return f"postgresql:///{database}?host={self._sockets}&user=bisnes"

    def run(self, statement: str) -> None:
        """Run a statement outside of a transaction, on a connection that stays open: every test creates a database."""
        if self._connection is None or self._connection.closed:
            self._connection = psycopg2.connect(self.dsn("postgres"))
            self._connection.autocommit = True
        try:
            with self._connection.cursor() as cursor:
                cursor.execute(statement)
        except (psycopg2.OperationalError, psycopg2.InterfaceError):
            if not self._connection.closed:
                raise
            self.run(statement)  # the server was stopped meanwhile, or has ended the connection

    @contextlib.contextmanager
    def tablespace(self) -> Iterator[str]:
        """A tablespace in memory, if the machine has room for it; it is deleted at the end.

        Every test creates and drops hundreds of files. On ext4, that takes ever longer: a new file does not get the
        place of one that was deleted a moment ago.
        """
        try:
            free = shutil.disk_usage(MEMORY_FOLDER).free
        except OSError:
            free = 0
        if free < TABLESPACE_BYTES:
            yield "pg_default"
            return
        user = embedded_servers.server_user()
        with tempfile.TemporaryDirectory(prefix="bisnes-tests-", dir=MEMORY_FOLDER) as folder:
            if user is not None:
                shutil.chown(folder, user, user)
            self.run(f"CREATE TABLESPACE memory LOCATION '{folder}'")
            yield "memory"

    def _answering(self) -> bool:
        try:
            psycopg2.connect(self.dsn(), connect_timeout=int(HANG_SECONDS)).close()
        except psycopg2.OperationalError:
            return False
        return True


class Redis(Server):
    """Redis as `bisnesctl start` runs the embedded one."""

    def __init__(self, settings: Settings) -> None:
        embedded_servers.prepare(settings, lambda line: print(line, file=sys.stderr))
        socket = paths.redis_socket(settings.server_home)
        data = paths.redis_data(settings.server_home)
        command = [str(embedded_servers.redis_server(settings)), "--port", "0", "--unixsocket", str(socket),
                   "--unixsocketperm", "700", "--dir", str(data), "--appendonly", "yes"]  # fmt: skip
        self.url = settings.redis_dsn
        super().__init__(settings, command, self._answering, signal.SIGTERM)

    def _answering(self) -> bool:
        try:
            with redis.Redis.from_url(self.url, socket_timeout=HANG_SECONDS) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False
