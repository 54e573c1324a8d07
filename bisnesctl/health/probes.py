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
from typing import Any

from bisnesctl.health import guard_status
from bisnesctl.health.guard_status import GuardStatus
from bisnesctl.host import disk
from bisnesctl.processes.supervisor import Process
from bisnesctl.processes.topology import Instance
from bisnesctl.settings import Settings

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
    BLOCKED = "blocked"
    FAILED = "failed"


@dataclass(frozen=True)
class Health:
    """The status of an instance and, unless it is healthy, why."""

    status: Status
    reason: str = ""
    #: Quick deaths in a row so far, where the guard is about to start it again.
    deaths: int = 0

    @property
    def healthy(self) -> bool:
        """Whether it does its work."""
        return self.status is Status.HEALTHY


_HEALTHY = Health(Status.HEALTHY)
_UNGUARDED = "nothing restarts what ends"

#: What supervisord's state means where nobody needs to be asked.
_UNASKED = {
    "STOPPED": Status.STOPPED,
    "STOPPING": Status.STOPPING,
    "BACKOFF": Status.FAILING,
    "UNKNOWN": Status.FAILED,
}
#: States in which it waits for the guard.
_ENDED = ("EXITED", "FATAL")
#: What the guard's decision means.
_DECIDED = {"restart": Status.FAILING, "block": Status.BLOCKED, "fail": Status.FAILED}


def look(
    instances: Sequence[Instance], processes: Mapping[str, Process], settings: Settings, patience: float = PATIENCE
) -> dict[str, Health]:
    """The health of each instance by name, asked side by side."""
    if not instances:
        return {}
    guard = guard_status.guard(processes, settings)
    with ThreadPoolExecutor(min(len(instances), 16)) as pool:
        found = pool.map(lambda each: check(each, processes.get(each.name), guard, settings, patience), instances)
        return {instance.name: health for instance, health in zip(instances, found, strict=True)}


def check(
    instance: Instance, process: Process | None, guard: GuardStatus, settings: Settings, patience: float = PATIENCE
) -> Health:
    """The health of one instance. `guard`: what restarts the others, and says what becomes of one that ended."""
    if process is None:
        return Health(Status.STOPPED, "supervisord does not run it")
    if process.state in _ENDED:
        return _ended(process, guard)
    status = _UNASKED.get(process.state)
    if status is not None:
        return Health(status, _UNGUARDED if instance.program.is_listener else process.error)
    health = _ask(instance, process, guard, settings, patience)
    if health.status is Status.UNHEALTHY and process.uptime < instance.program.min_uptime:
        return Health(Status.STARTING, health.reason)
    return health


def _ended(process: Process, guard: GuardStatus) -> Health:
    how = process.error if process.state == "FATAL" else f"ended with exit status {process.exit_status}"
    word = guard.word(process.name)
    if guard.off_duty:
        return Health(Status.FAILED, f"{how}; nothing restarts it: {guard.off_duty}")
    if word is None:
        return Health(Status.FAILING, how)
    return Health(_DECIDED[word.decision], word.reason, word.deaths)


def _ask(instance: Instance, process: Process, guard: GuardStatus, settings: Settings, patience: float) -> Health:
    match instance.program.probe:
        case "guard":
            return _guard(guard)
        case "postgres":
            return postgres(settings.database_dsn, patience)
        case "redis":
            return redis(settings.redis_dsn, patience)
        case "http":
            answer = _http(f"{instance.url}{instance.program.health_path}", patience)
            if not answer.healthy:
                return _stuck(instance, process, settings) or answer
            # Where several share a socket, it may have been another one that answered.
            return _heartbeat(instance, process, settings, required=instance.program.shared_socket)
        case "heartbeat":
            return _heartbeat(instance, process, settings, required=True)


def _guard(guard: GuardStatus) -> Health:
    return Health(Status.UNHEALTHY, f"{guard.off_duty}: {_UNGUARDED}") if guard.off_duty else _HEALTHY


def postgres(dsn: str, patience: float = PATIENCE) -> Health:
    """Whether PostgreSQL answers, and can store."""
    import psycopg2

    from bisnesctl.database import statement_deadline
    from bisnesctl.database.postgres import WRITE_TEST

    try:
        connection = statement_deadline.connect(dsn, max(int(patience), 2), max(patience, 2))
        try:
            connection.cursor().execute(WRITE_TEST)
        finally:
            connection.close()
    except psycopg2.Error as error:
        stored = "it cannot store: " if error.pgcode and error.pgcode[:2] in ("25", "53", "58") else ""
        return Health(Status.UNHEALTHY, f"{stored}{_first_line(error)}")
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
    if beat is None or process.pid not in ancestry(beat.pid):
        return _silent("no heartbeat yet", settings) if required else _HEALTHY
    if beat.stuck:
        return Health(Status.UNHEALTHY, beat.stuck)
    if beat.age * 1000 > settings.max_heartbeat_age:
        return _silent(f"no heartbeat for {beat.age:.0f} s", settings)
    return _HEALTHY if beat.status == "healthy" else Health(Status.DEGRADED, beat.reason)


def _silent(what: str, settings: Settings) -> Health:
    """It does not say that it lives; if nobody could write that down, it says nothing about the process."""
    if refusal := disk.write_refusal(settings.heartbeat_dir):
        return Health(Status.DEGRADED, f"{what}, which cannot be written: {refusal}")
    return Health(Status.UNHEALTHY, what)


def _stuck(instance: Instance, process: Process, settings: Settings) -> Health | None:
    """Why it serves nobody, where its heartbeat says so."""
    beat = read_beat(settings.heartbeat_dir / f"{instance.name}.json")
    if beat is None or not beat.stuck or process.pid not in ancestry(beat.pid):
        return None
    return Health(Status.UNHEALTHY, beat.stuck)


def ancestry(pid: int) -> Iterator[int]:
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
    #: Seconds that it had waited for a processor until then, all its threads together.
    waited: float = 0.0
    #: Why the process is alive but serves nobody; empty where it does.
    stuck: str = ""


def read_beat(path: Path) -> Beat | None:
    """The heartbeat in a file; none where there is none, or no good one."""
    try:
        found = json.loads(path.read_text())
        age, waited = time.clock_gettime(time.CLOCK_BOOTTIME) - float(found["beat_boottime"]), _waited(found)
        reason, stuck = str(found.get("reason") or ""), str(found.get("stuck") or "")
        return Beat(int(found["pid"]), str(found["status"]), reason, age, waited, stuck)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _waited(found: dict[str, Any]) -> float:
    return float(found.get("waited") or 0.0)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
