"""How the processes are: each is asked, all at once, within a bounded time."""

import http.client
import json
import time
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from bisnesctl.settings import Settings
from bisnesctl.supervisor import Process
from bisnesctl.topology import Instance

#: Seconds that a process has to say how it is.
PATIENCE = 2.0


class Status(StrEnum):
    """How an instance is, the best first."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    STARTING = "starting"
    STOPPING = "stopping"
    STOPPED = "stopped"
    UNHEALTHY = "unhealthy"
    FAILING = "failing"
    FAILED = "failed"


@dataclass(frozen=True)
class Health:
    """The status of an instance and, unless it is healthy, why."""

    status: Status
    reason: str = ""

    @property
    def healthy(self) -> bool:
        """Whether it does its work."""
        return self.status is Status.HEALTHY


_HEALTHY = Health(Status.HEALTHY)

#: What supervisord's state means where nobody needs to be asked.
_UNASKED = {
    "STOPPED": Status.STOPPED,
    "STOPPING": Status.STOPPING,
    "EXITED": Status.FAILED,
    "FATAL": Status.FAILED,
    "BACKOFF": Status.FAILING,
    "UNKNOWN": Status.FAILED,
}


def look(
    instances: Sequence[Instance], processes: Mapping[str, Process], settings: Settings, patience: float = PATIENCE
) -> dict[str, Health]:
    """The health of each instance by name, asked side by side."""
    if not instances:
        return {}
    with ThreadPoolExecutor(min(len(instances), 16)) as pool:
        found = pool.map(lambda each: check(each, processes.get(each.name), settings, patience), instances)
        return {instance.name: health for instance, health in zip(instances, found, strict=True)}


def check(instance: Instance, process: Process | None, settings: Settings, patience: float = PATIENCE) -> Health:
    """The health of one instance. A process that answers is healthy before supervisord calls it RUNNING."""
    if process is None:
        return Health(Status.STOPPED, "supervisord does not run it")
    status = _UNASKED.get(process.state)
    if status is not None:
        return Health(status, _explain(process))
    health = _ask(instance, process, settings, patience)
    if process.state == "STARTING" and health.status is Status.UNHEALTHY:
        return Health(Status.STARTING, health.reason)
    return health


def _explain(process: Process) -> str:
    if process.state == "EXITED":
        return f"ended with exit status {process.exit_status}"
    # supervisord's words are "Exited too quickly (process log may have details)".
    return "it ends soon after its start" if process.error.startswith("Exited too quickly") else process.error


def _ask(instance: Instance, process: Process, settings: Settings, patience: float) -> Health:
    match instance.program.probe:
        case "postgres":
            return postgres(settings.database_dsn, patience)
        case "redis":
            return redis(settings.redis_dsn, patience)
        case "http":
            answer = _http(f"{instance.url}{instance.program.health_path}", patience)
            if not answer.healthy:
                return answer
            # Where several share a socket, it may have been another one that answered.
            return _heartbeat(instance, process, settings, required=instance.program.shared_socket)
        case "heartbeat":
            return _heartbeat(instance, process, settings, required=True)


def postgres(dsn: str, patience: float = PATIENCE) -> Health:
    """Whether PostgreSQL answers a query."""
    import psycopg2

    try:
        connection = psycopg2.connect(dsn, connect_timeout=max(int(patience), 2), options="-c statement_timeout=2000")
        try:
            connection.cursor().execute("SELECT 1")
        finally:
            connection.close()
    except psycopg2.Error as error:
        return Health(Status.UNHEALTHY, _first_line(error))
    return _HEALTHY


def redis(dsn: str, patience: float = PATIENCE) -> Health:
    """Whether Redis answers and can be written to."""
    import redis as client

    try:
        with client.Redis.from_url(dsn, socket_timeout=patience, socket_connect_timeout=patience) as connection:
            connection.ping()
            role, loading = connection.info("replication").get("role"), connection.info("persistence").get("loading")
    except (client.RedisError, OSError, ValueError) as error:
        return Health(Status.UNHEALTHY, _first_line(error))
    if loading:
        return Health(Status.UNHEALTHY, "it is still loading its data")
    return _HEALTHY if role == "master" else Health(Status.UNHEALTHY, "it is a read-only replica")


def _http(url: str, patience: float) -> Health:
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=patience)
    try:
        connection.request("GET", parts.path)
        answer = connection.getresponse()
        body = answer.read(10_000)
    except TimeoutError:
        return Health(Status.UNHEALTHY, f"no answer on port {parts.port} within {patience:g} s")
    except (OSError, http.client.HTTPException) as error:
        return Health(Status.UNHEALTHY, f"no answer on port {parts.port}: {_first_line(error)}")
    finally:
        connection.close()
    return _HEALTHY if answer.status == 200 else Health(Status.UNHEALTHY, _error_in(body, answer.status))


def _error_in(body: bytes, status: int) -> str:
    try:
        return str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return f"answers with HTTP status {status}"


def _heartbeat(instance: Instance, process: Process, settings: Settings, required: bool) -> Health:
    """How it says that it is. `required`: without a beat of this very process it is not healthy."""
    beat = read_beat(settings.heartbeat_dir / f"{instance.name}.json")
    if beat is None or process.pid not in _ancestry(beat.pid):
        return Health(Status.UNHEALTHY, "no heartbeat yet") if required else _HEALTHY
    if beat.age * 1000 > settings.max_heartbeat_age:
        return Health(Status.UNHEALTHY, f"no heartbeat for {beat.age:.0f} s")
    return _HEALTHY if beat.status == "healthy" else Health(Status.DEGRADED, beat.reason)


def _ancestry(pid: int) -> Iterator[int]:
    """The process, its parent, and so on: a shim may stand between supervisord and what beats."""
    while pid > 1:
        yield pid
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            return


@dataclass(frozen=True)
class Beat:
    """The last sign of life of a process."""

    pid: int
    status: str
    reason: str
    #: Seconds.
    age: float


def read_beat(path: Path) -> Beat | None:
    """The heartbeat in a file; none where there is none, or no good one."""
    try:
        found = json.loads(path.read_text())
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - float(found["beat_boottime"])
        return Beat(int(found["pid"]), str(found["status"]), str(found.get("reason") or ""), age)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
