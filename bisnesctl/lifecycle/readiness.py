"""Waits until instances are healthy, and explains why one is not."""

import time
from collections.abc import Sequence

from bisnesctl.errors import StartFailed
from bisnesctl.health import probes
from bisnesctl.health.probes import Health, Status
from bisnesctl.lifecycle.stop import Report
from bisnesctl.logs import files
from bisnesctl.logs.exits import read_exits
from bisnesctl.processes.deployment import Deployment
from bisnesctl.processes.topology import Instance

#: Seconds in which the instances of one step must become healthy.
START_TIMEOUT_SECONDS = 90.0
#: Deaths in a row after which a start fails.
MAX_ATTEMPTS = 3
#: The same for an embedded server, which may have to wait for its predecessor's lock.
MAX_SERVER_ATTEMPTS = 6
#: Seconds between probes of instances that are not healthy yet.
_PROBE_INTERVAL_SECONDS = 0.05
#: Lines of a log that an error shows.
_LOG_LINES = 12


def wait_healthy(
    deployment: Deployment, instances: Sequence[Instance], report: Report, reported: Sequence[Instance] | None = None,
    degraded: bool = False,
) -> None:  # fmt: skip
    """Waits until all are healthy, and reports each of them, or only those in `reported`.

    `degraded`: those that live without doing all of their work are enough.

    Raises `StartFailed` with the reason and the last log lines.
    """
    waiting, began = list(instances), time.monotonic()
    pids: dict[str, set[int]] = {each.name: set() for each in waiting}
    while waiting:
        processes = deployment.supervisor.processes()
        health = probes.probe_all(waiting, processes, deployment.settings)
        enough = (Status.HEALTHY, Status.DEGRADED) if degraded else (Status.HEALTHY,)
        for instance in [each for each in waiting if health[each.name].status in enough]:
            waiting.remove(instance)
            if reported is None or instance in reported:
                report(f"[green]✓[/] {instance.name} is healthy ({time.monotonic() - began:.1f} s)")
        for instance in waiting:
            process = processes.get(instance.name)
            pids[instance.name].add(process.pid if process else 0)
            late = time.monotonic() - began > START_TIMEOUT_SECONDS
            if late or _has_failed(instance, health[instance.name], len(pids[instance.name] - {0})):
                raise StartFailed(_explain(deployment, instance, health[instance.name]))
        time.sleep(_PROBE_INTERVAL_SECONDS if waiting else 0)


def _has_failed(instance: Instance, health: Health, attempts: int) -> bool:
    limit = MAX_SERVER_ATTEMPTS if instance.program.is_server else MAX_ATTEMPTS
    too_many = health.status is Status.FAILING and max(attempts, health.deaths) >= limit
    return too_many or health.status in (Status.FAILED, Status.BLOCKED)


def _explain(deployment: Deployment, instance: Instance, health: Health) -> str:
    folder = deployment.settings.log_dir
    exits = read_exits(folder / "supervisord.log").get(instance.name)
    reasons = [health.reason or health.status.value]
    if exits and exits.last not in health.reason:
        reasons.append(exits.last)
    lines = [f"{instance.name} did not become healthy: {'; '.join(reasons)}"]
    for file in files.files_of(folder, instance.name):
        last = files.tail(file.path, _LOG_LINES)
        lines += [f"last lines of {file.path}:", *(f"  {line}" for line in last)] if last else []
    return "\n".join(lines)
