"""The two sides: how each is prepared, started, looked into and stopped."""

import contextlib
import hashlib
import os
import secrets
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

import psutil
import psycopg2.extensions

from bisnesctl.encryption import encrypt_shared
from tests.bench import tools, usage
from tests.bench.figures import COMPANIES, FIRST_PHONE_NUMBER_ID
from tests.bench.stage import Stage, free_port

#: How long a side may take to answer its health check.
START_TIMEOUT_SECONDS = 60


class Side(Protocol):
    """A program that accepts POSTs on a port and sends their messages to the Graph mock."""

    name: str
    port: int
    #: Counts the messages whose outcome is not written down yet.
    waiting_sql: str

    def prepare(self, stage: Stage) -> str:
        """A fresh database with the companies and bots in it; returns its URL."""

    def start(self, stage: Stage, database_url: str) -> None:
        """Start the processes and wait until they serve."""

    def processes(self) -> list[psutil.Process]:
        """The roots of its process trees."""

    def label(self, process: psutil.Process) -> str:
        """A word for one of its processes."""

    def stop(self) -> None:
        """End all its processes; harmless when there are none."""


@contextlib.contextmanager
def running(side: Side, stage: Stage) -> Iterator[str]:
    """Prepare and start a side, and stop it in the end. Yields its database's URL."""
    database_url = side.prepare(stage)
    try:
        side.start(stage, database_url)
        yield database_url
    finally:
        side.stop()


def wait_for(url: str, alive: Iterator[bool]) -> None:
    """Wait until the URL answers 200. Raises RuntimeError if the process ends or takes too long."""
    end = time.monotonic() + START_TIMEOUT_SECONDS
    while next(alive):
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=2):
            return
        if time.monotonic() > end:
            break
        time.sleep(0.1)
    raise RuntimeError(f"{url} did not answer")


class Ours:
    """A checkout of this repository: `bisnesctl start --multiprocess`, with only addresses and the rate changed."""

    waiting_sql = "SELECT COALESCE(sum(pending), 0) FROM lane"

    def __init__(
        self,
        folder: Path,
        api_instances: int = 1,
        meta_instances: int = 1,
        *,
        name: str = "ours",
        python: Path = Path(sys.executable),
        with_web: bool = False,
    ) -> None:
        """`python`: the interpreter of the checkout's virtual environment; `with_web`: WhatsApp Web as well."""
        self.name = name
        self._python = python
        self.home = folder / name
        self.home.mkdir()
        self.env_file = self.home / ".env"
        self.port = free_port()
        self._instances = {"API_INSTANCES": api_instances, "META_INSTANCES": meta_instances}
        self._with_web = with_web
        self._key = secrets.token_hex(32)
        self._started: list[psutil.Process] = []

    def prepare(self, stage: Stage) -> str:
        database_url = stage.fresh_database(f"bench_{self.name}")
        self._write_env(stage, database_url)
        self.bisnesctl("migrate")
        with stage.connect(database_url) as connection:
            add_companies(connection, self._key)
        return database_url

    def _write_env(self, stage: Stage, database_url: str) -> None:
        values = {
            "DATABASE_URL": database_url,
            "REDIS_URL": stage.redis_url,
            "BISNES_HOME": self.home / "var",
            "API_PORT": self.port,
            "META_PORT": free_port(),
            "ENABLE_WWEBJS": str(self._with_web).lower(),
            "WWEBJS_PORT": free_port(),
            "ENCRYPTION_KEY": self._key,
            "META_APP_SECRET": secrets.token_hex(16),
            "META_VERIFY_TOKEN": secrets.token_hex(16),
            "META_GRAPH_URL": stage.graph.url,
            "META_MAX_MESSAGES_PER_SECOND": 100000,
            **self._instances,
        }
        self.env_file.write_text("".join(f"{name}={value}\n" for name, value in values.items()))
        self.env_file.chmod(0o600)

    def bisnesctl(self, *arguments: str) -> None:
        """Runs a command of the tool. Raises RuntimeError if it fails."""
        done = subprocess.run(
            [self._python, "-m", "bisnesctl", *arguments],
            cwd=self.home,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=180,
        )
        if done.returncode:
            raise RuntimeError(f"bisnesctl {' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")

    def _environment(self) -> dict[str, str]:
        """The caller's environment without settings that would override the `.env`."""
        own = {line.partition("=")[0] for line in self.env_file.read_text().splitlines()}
        return {k: v for k, v in os.environ.items() if k not in own} | {"BISNES_ENV": str(self.env_file)}

    def start(self, stage: Stage, database_url: str) -> None:
        self.bisnesctl("start", "--multiprocess")
        self._started = self._marked()

    def _marked(self) -> list[psutil.Process]:
        """All processes with our `.env` in their environment: supervisord and everything below it."""
        return [process for process in psutil.process_iter() if self._is_marked(process)]

    def _is_marked(self, process: psutil.Process) -> bool:
        try:
            return bool(process.environ().get("BISNES_ENV") == str(self.env_file))
        except psutil.Error:
            return False

    def processes(self) -> list[psutil.Process]:
        return self._started

    def label(self, process: psutil.Process) -> str:
        with contextlib.suppress(psutil.Error):
            return process.environ().get("BISNES_INSTANCE") or "supervisord"
        return "gone"

    def stop(self) -> None:
        with contextlib.suppress(RuntimeError, subprocess.TimeoutExpired):
            self.bisnesctl("stop")
        usage.end(self._marked())
        self._started = []


def add_companies(connection: psycopg2.extensions.connection, encryption_key: str) -> None:
    """A key and a bot for each company, as `bisnesctl keys create` and `bots add` would store them."""
    with connection.cursor() as cursor:
        for n in range(COMPANIES):
            company, phone = f"{n + 1:04}", FIRST_PHONE_NUMBER_ID + n
            digest = hashlib.sha256(f"key-company-{company}".encode()).digest()
            cursor.execute(
                "INSERT INTO api_keys (key_hash, prefix, company_id) VALUES (%s, 'key-', %s)",
                (digest, company),
            )
            cursor.execute(
                "INSERT INTO phone_configs (company_id, phone_index, connection_type, meta_phone_number_id,"
                " meta_access_token_encrypted, status) VALUES (%s, 0, 'meta_direct', %s, %s, 'active')",
                (company, str(phone), encrypt_shared(encryption_key, f"token-{phone}")),
            )


class Peer:
    """The original design in Node: one process that serves HTTP, one that sends."""

    name = "peer"
    waiting_sql = "SELECT count(*) FROM messages WHERE status = 'queued'"

    def __init__(self, folder: Path, cluster: int = 1, concurrency: int = 10) -> None:
        self._place = tools.install_peer()
        self._logs = folder / "peer"
        self._logs.mkdir()
        self.port = free_port()
        self._tuning = {"CLUSTER": str(cluster), "CONCURRENCY": str(concurrency)}
        self._started: list[psutil.Popen] = []

    def prepare(self, stage: Stage) -> str:
        database_url = stage.fresh_database("bench_peer")
        with stage.connect(database_url) as connection, connection.cursor() as cursor:
            cursor.execute((self._place / "schema.sql").read_text())
        return database_url

    def start(self, stage: Stage, database_url: str) -> None:
        environment = {
            **os.environ,
            **self._tuning,
            "NODE_ENV": "production",
            "PORT": str(self.port),
            "DATABASE_URL": database_url,
            "REDIS_URL": stage.redis_url,
            "GRAPH_URL": stage.graph.url,
        }
        for script in ("api.js", "worker.js"):
            self._started.append(self._launch(script, environment))
        try:
            wait_for(f"http://127.0.0.1:{self.port}/health", self._alive())
        except RuntimeError as error:
            raise RuntimeError(f"the peer does not start: {error}\n{self._log_tails()}") from error

    def _launch(self, script: str, environment: Mapping[str, str]) -> psutil.Popen:
        with (self._logs / f"{script}.log").open("ab") as log:
            return psutil.Popen(["node", script], cwd=self._place, env=environment, stdout=log, stderr=log)

    def _log_tails(self) -> str:
        return "\n".join(log.read_text(errors="replace")[-2000:] for log in sorted(self._logs.iterdir()))

    def _alive(self) -> Iterator[bool]:
        while True:
            yield all(process.poll() is None for process in self._started)

    def processes(self) -> list[psutil.Process]:
        return list(self._started)

    def label(self, process: psutil.Process) -> str:
        with contextlib.suppress(psutil.Error):
            return Path(process.cmdline()[1]).stem
        return "gone"

    def stop(self) -> None:
        usage.end(self._started)
        self._started = []
