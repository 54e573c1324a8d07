"""Health of processes: each instance is probed, all in parallel, within a bounded time.

`wait_healthy` probes until all are healthy, and explains why one is not.
"""

import contextlib
import http.client
import json
import time
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from bisnesctl import addresses, paths
from bisnesctl.errors import StartFailed
from bisnesctl.health import heartbeats
from bisnesctl.health.guard_file import GuardStatus, guard_status
from bisnesctl.health.heartbeats import Heartbeat
from bisnesctl.host import disk, process_stat
from bisnesctl.naming import ALERTS
from bisnesctl.processes.supervisor import Process
from bisnesctl.processes.topology import Instance
from bisnesctl.settings import Settings

if TYPE_CHECKING:
    from bisnesctl.database.kept_connection import KeptConnection
    from bisnesctl.processes.deployment import Deployment

Report = Callable[[str], None]

#: Seconds in which a process must answer a probe.
PROBE_TIMEOUT_SECONDS = 2.0
#: Instances that are probed at the same time, at most.
MAX_PARALLEL_PROBES = 16
#: Deaths in a row after which a start fails.
MAX_ATTEMPTS = 3
#: The same for an embedded server, which may have to wait for its predecessor's lock.
MAX_SERVER_ATTEMPTS = 6
#: Seconds between probes of instances that are not healthy yet.
_PROBE_INTERVAL_SECONDS = 0.05
#: Lines of a log that an error shows.
_LOG_LINES = 12


class Status(StrEnum):
    """The health of an instance, best first."""

    HEALTHY = "healthy"
    #: It works with settings that have changed since it started.
    OUTDATED = "outdated"
    #: It works, but the settings do not have it.
    EXTRA = "extra"
    DEGRADED = "degraded"
    STARTING = "starting"
    STOPPING = "stopping"
    #: An operator stopped it.
    STOPPED = "stopped"
    #: It does not run, although no operator stopped it.
    DOWN = "down"
    UNHEALTHY = "unhealthy"
    FAILING = "failing"
    BLOCKED = "blocked"
    FAILED = "failed"


@dataclass(frozen=True)
class Health:
    """The status of an instance and, unless it is healthy, the reason."""

    status: Status
    reason: str = ""
    #: Quick deaths in a row, if the guard is about to start it again.
    deaths: int = 0

    @property
    def healthy(self) -> bool:
        """Whether it does its work."""
        return self.status is Status.HEALTHY


_HEALTHY = Health(Status.HEALTHY)
_NO_RESTARTS = "processes that end are not restarted"
#: The effect of the absence of the program that evaluates the signals.
_NO_ALERTS = "nothing sends alerts"
_AT_WORK = (Status.HEALTHY, Status.DEGRADED, Status.STARTING)

#: States of supervisord that need no probe.
_NOT_PROBED = {
    "STOPPED": Status.STOPPED,
    "STOPPING": Status.STOPPING,
    "BACKOFF": Status.FAILING,
    "UNKNOWN": Status.FAILED,
}
#: States in which a process waits for the guard.
_ENDED = ("EXITED", "FATAL")
_STATUS_OF_DECISION = {"restart": Status.FAILING, "block": Status.BLOCKED, "fail": Status.FAILED}


def probe_all(
    instances: Sequence[Instance],
    processes: Mapping[str, Process],
    settings: Settings,
    timeout: float = PROBE_TIMEOUT_SECONDS,
    kept: "KeptConnection | None" = None,
) -> dict[str, Health]:
    """The health of each instance by name, probed in parallel. `kept`: a connection to PostgreSQL that can be used."""
    if not instances:
        return {}
    guard = guard_status(processes, settings)
    with ThreadPoolExecutor(min(len(instances), MAX_PARALLEL_PROBES)) as pool:
        found = pool.map(lambda each: probe(each, processes.get(each.name), guard, settings, timeout, kept), instances)
        return {instance.name: health for instance, health in zip(instances, found, strict=True)}


def probe(
    instance: Instance,
    process: Process | None,
    guard: GuardStatus,
    settings: Settings,
    timeout: float = PROBE_TIMEOUT_SECONDS,
    kept: "KeptConnection | None" = None,
) -> Health:
    """The health of one instance. `guard`: has decided about an instance that ended; `kept`: as above."""
    health = _probe(instance, process, guard, settings, timeout, kept)
    if instance.program.name != ALERTS or health.status in _AT_WORK:
        return health
    return Health(health.status, "; ".join(each for each in (health.reason, _NO_ALERTS) if each), health.deaths)


def _probe(
    instance: Instance, process: Process | None, guard: GuardStatus, settings: Settings, timeout: float,
    kept: "KeptConnection | None",
) -> Health:  # fmt: skip
    if process is None:
        return Health(Status.STOPPED, "supervisord does not know it")
    if process.state in _ENDED:
        return _ended(process, guard)
    if process.state == "STOPPED" and (decided := guard.decisions.get(process.name)):  # the guard stopped it
        return Health(_STATUS_OF_DECISION[decided.decision], decided.reason)
    status = _NOT_PROBED.get(process.state)
    if status is not None:
        return Health(status, _NO_RESTARTS if instance.program.is_listener else process.error)
    health = _probe_running(instance, process, guard, settings, timeout, kept)
    if health.status is Status.UNHEALTHY and process.uptime < instance.program.min_uptime:
        return Health(Status.STARTING, health.reason)
    return health


def _ended(process: Process, guard: GuardStatus) -> Health:
    how = process.error if process.state == "FATAL" else f"ended with exit status {process.exit_status}"
    decided = guard.decisions.get(process.name)
    if guard.off_duty:
        return Health(Status.FAILED, f"{how}; it is not restarted: {guard.off_duty}")
    if decided is None:
        return Health(Status.FAILING, how)
    return Health(_STATUS_OF_DECISION[decided.decision], decided.reason, decided.deaths)


def _probe_running(
    instance: Instance, process: Process, guard: GuardStatus, settings: Settings, timeout: float,
    kept: "KeptConnection | None",
) -> Health:  # fmt: skip
    match instance.program.probe:
        case "guard":
            return Health(Status.UNHEALTHY, f"{guard.off_duty}: {_NO_RESTARTS}") if guard.off_duty else _HEALTHY
        case "postgres":
            return postgres(settings.database_dsn, timeout, kept=kept)
        case "redis":
            if not settings.embedded_redis:
                return redis(settings.redis_dsn, timeout)
            return embedded_redis(paths.redis_socket(settings.server_home), timeout)
        case "http":
            row = instance.program
            path = row.health_path
            url = path if path.startswith("http") else f"{instance.running_url(process.pid)}{path}"
            answer = _http(url, timeout, "" if row.is_foreign else row.process or row.name)
            beat = _heartbeat_of(instance, process, settings)
            if not answer.healthy:
                return Health(Status.UNHEALTHY, beat.stuck) if beat and beat.stuck else answer
            # If several instances share a socket, another one may have answered: this one must have a heartbeat.
            return _judge(beat, settings) if beat or instance.program.is_shared else _HEALTHY
        case "heartbeat":
            return _judge(_heartbeat_of(instance, process, settings), settings)


def postgres(
    dsn: str, timeout: float = PROBE_TIMEOUT_SECONDS, embedded: bool = True, kept: "KeptConnection | None" = None
) -> Health:
    """Whether PostgreSQL answers and can store. Unless it is `embedded`, a pooler in front of it is checked too.

    `kept`: a connection that can be used; without it, one is opened.
    """
    import psycopg2

    from bisnesctl.database import pooler, statement_deadline
    from bisnesctl.database.postgres import WRITE_TEST, misread_url

    seconds = max(int(timeout), 2)
    try:
        with (
            kept.connected(dsn, seconds)
            if kept
            else contextlib.closing(statement_deadline.connect(dsn, seconds, seconds)) as connection
        ):
            connection.cursor().execute(WRITE_TEST)
            is_direct = embedded or pooler.is_absent(connection)
        if not is_direct:
            pooler.check(dsn, seconds)
    except psycopg2.Error as error:
        if error.pgcode is None and (mistake := misread_url(dsn)):
            return Health(Status.UNHEALTHY, mistake)
        stored = "it cannot store: " if error.pgcode and error.pgcode[:2] in ("25", "53", "58") else ""
        return Health(Status.UNHEALTHY, f"{stored}{_first_line(error)}")
    return _HEALTHY


def redis(dsn: str, timeout: float = PROBE_TIMEOUT_SECONDS) -> Health:
    """Whether Redis answers and can be written to."""
    import redis as client

    from bisnesctl.health import redis_errors

    if addresses.ends_early(dsn):
        return Health(Status.UNHEALTHY, f"its user or password has characters that end it: {addresses.ENCODE}")
    try:
        with client.Redis.from_url(dsn, socket_timeout=timeout, socket_connect_timeout=timeout) as connection:
            connection.ping()
            role, loading = connection.info("replication").get("role"), connection.info("persistence").get("loading")
    except (client.RedisError, OSError, ValueError) as error:
        return Health(Status.UNHEALTHY, redis_errors.explain(error, timeout))
    if loading:
        return Health(Status.UNHEALTHY, "it is still loading its data")
    return _HEALTHY if role == "master" else Health(Status.UNHEALTHY, "it is a read-only replica")


def embedded_redis(path: Path, timeout: float = PROBE_TIMEOUT_SECONDS) -> Health:
    """The same of the embedded Redis. `path`: its socket."""
    from bisnesctl.health import redis_errors
    from bisnesctl.health.embedded_redis import Refused, ask

    try:
        _, replication, persistence = ask(path, ("PING", "INFO replication", "INFO persistence"), timeout)
    except (Refused, OSError) as error:
        reason = getattr(error, "strerror", None)
        known = f"it cannot be reached: {reason.lower()}" if reason else redis_errors.explain(error, timeout)
        return Health(Status.UNHEALTHY, known)
    if "loading:1" in persistence.split():
        return Health(Status.UNHEALTHY, "it is still loading its data")
    is_master = "role:master" in replication.split()
    return _HEALTHY if is_master else Health(Status.UNHEALTHY, "it is a read-only replica")


def endpoint(url: str, timeout: float = PROBE_TIMEOUT_SECONDS) -> Health:
    """Whether a health address, which may be on another machine, answers with success."""
    health = _http(url, timeout)
    return health if health.healthy else Health(health.status, f"{url}: {health.reason}")


def _http(url: str, timeout: float, process: str = "") -> Health:
    """`process`: the name that the answer must have, because another program may listen on the port; empty: any."""
    parts = urllib.parse.urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    port = parts.port or kind.default_port
    connection = kind(parts.hostname or "", port, timeout=timeout)
    try:
        connection.request("GET", urllib.parse.urlunsplit(("", "", parts.path or "/", parts.query, "")))
        answer = connection.getresponse()
        body = answer.read(10_000)
    except TimeoutError:
        return Health(Status.UNHEALTHY, f"no answer on port {port} within {timeout:g} s")
    except (OSError, http.client.HTTPException) as error:
        return Health(Status.UNHEALTHY, f"no answer on port {port}: {_first_line(error)}")
    finally:
        connection.close()
    reason = _reason_in(body, answer.status, process, port)
    return Health(Status.UNHEALTHY, reason) if reason else _HEALTHY


def _reason_in(body: bytes, status: int, process: str, port: int | None) -> str:
    """Why an answer is not that of a healthy process; empty if it is."""
    try:
        found = json.loads(body)
        named, error = found.get("process"), found.get("error")
    except (ValueError, AttributeError):
        named = error = None
    success = 200 <= status < 300
    if success and (not process or named == process):
        return ""
    if not success and (not process or named == process or (named is None and error)):
        return str(error or f"answers with HTTP status {status}")
    other = f"{named} of bisnesctl" if isinstance(named, str) else "another program"
    return f"{other} answers on port {port} (HTTP status {status}): see `ss -ltnp`"


# --- Heartbeats ----------------------------------------------------------------------------------------------------


def _heartbeat_of(instance: Instance, process: Process, settings: Settings) -> Heartbeat | None:
    """The heartbeat of this very process, not of its predecessor. A shim may be its parent."""
    beat = heartbeats.current(settings, instance.name)
    return beat if beat and process.pid in process_stat.ancestors(beat.pid) else None


def _judge(beat: Heartbeat | None, settings: Settings) -> Health:
    if beat is None:
        return _no_heartbeat("no heartbeat yet", settings)
    if beat.stuck:
        return Health(Status.UNHEALTHY, beat.stuck)
    if beat.age_seconds * 1000 > settings.max_heartbeat_age:
        return _no_heartbeat(f"no heartbeat for {beat.age_seconds:.0f} s", settings)
    return _HEALTHY if beat.status == "healthy" else Health(Status.DEGRADED, beat.reason)


def _no_heartbeat(reason: str, settings: Settings) -> Health:
    """A missing heartbeat means nothing if no heartbeat can be written."""
    if refusal := disk.write_refusal(settings.heartbeat_dir):
        return Health(Status.DEGRADED, f"{reason}; heartbeats cannot be written: {refusal}")
    return Health(Status.UNHEALTHY, reason)


def _first_line(error: Exception) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return (text.strip() or type(error).__name__).splitlines()[0]


def wait_healthy(
    deployment: "Deployment", instances: Sequence[Instance], report: Report, reported: Sequence[Instance] | None = None,
    degraded: bool = False,
) -> None:  # fmt: skip
    """Waits until all are healthy, and reports each of them, or only those in `reported`.

    The setting START_TIMEOUT_SECONDS limits it. `degraded`: those that live without doing all of their work are enough.

    Raises `StartFailed` with the reason and the last log lines.
    """
    waiting, began, limit = list(instances), time.monotonic(), deployment.settings.start_timeout_seconds
    pids: dict[str, set[int]] = {each.name: set() for each in waiting}
    while waiting:
        processes = deployment.supervisor.processes()
        health = probe_all(waiting, processes, deployment.settings)
        enough = (Status.HEALTHY, Status.DEGRADED) if degraded else (Status.HEALTHY,)
        for instance in [each for each in waiting if health[each.name].status in enough]:
            waiting.remove(instance)
            if reported is None or instance in reported:
                report(f"[green]✓[/] {instance.name} is healthy ({time.monotonic() - began:.1f} s)")
        for instance in waiting:
            process = processes.get(instance.name)
            pids[instance.name].add(process.pid if process else 0)
            late = time.monotonic() - began > limit
            if late or _has_failed(instance, health[instance.name], len(pids[instance.name] - {0})):
                raise StartFailed(_explain(deployment, instance, health[instance.name], limit if late else None))
        time.sleep(_PROBE_INTERVAL_SECONDS if waiting else 0)


def _has_failed(instance: Instance, health: Health, attempts: int) -> bool:
    limit = MAX_SERVER_ATTEMPTS if instance.program.is_server else MAX_ATTEMPTS
    too_many = health.status is Status.FAILING and max(attempts, health.deaths) >= limit
    return too_many or health.status in (Status.FAILED, Status.BLOCKED)


def _explain(deployment: "Deployment", instance: Instance, health: Health, limit: float | None) -> str:
    """`limit`: the seconds that are over, if they are."""
    from bisnesctl.logs import files
    from bisnesctl.logs.exits import read_exits

    folder = deployment.settings.log_dir
    exits = read_exits(folder / "supervisord.log").get(instance.name)
    reasons = [health.reason or health.status.value]
    if exits and exits.last not in health.reason:
        reasons.append(exits.last)
    if limit is not None:
        reasons.append(f"it had START_TIMEOUT_SECONDS={limit:g}")
    lines = [f"{instance.name} did not become healthy: {'; '.join(reasons)}"]
    for file in files.files_of(folder, instance.name):
        last = files.tail(file.path, _LOG_LINES)
        lines += [f"last lines of {file.path}:", *(f"  {line}" for line in last)] if last else []
    return "\n".join(lines)
