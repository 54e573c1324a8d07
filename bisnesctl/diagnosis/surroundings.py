"""Links that every target has: the settings, the disks, supervisord, the servers and the guard."""

from collections.abc import Iterable
from dataclasses import dataclass

from bisnesctl.diagnosis.chain import Link, State
from bisnesctl.health import verdict
from bisnesctl.health.guard_file import GUARD
from bisnesctl.health.probes import Health, Status
from bisnesctl.health.verdict import HealthFinding, Verdict
from bisnesctl.host import volumes
from bisnesctl.processes.deployment import Condition, Deployment

#: The names of the server that other processes cannot work without.
POSTGRESQL = ("postgres", "postgresql")
#: The names of the server without which other processes are slower.
REDIS = ("redis",)
#: The effect of a server that does not answer.
_WITHOUT = {
    "PostgreSQL": "nothing is accepted or sent until it answers; nothing is lost",
    "Redis": "the processes connect again once it answers",
}


@dataclass(frozen=True)
class Surroundings:
    """The observations that all targets share."""

    deployment: Deployment
    condition: Condition
    #: The health of each instance and server that should run or runs, by name.
    health: dict[str, Health]
    #: Of the settings and disks.
    links: list[Link]

    @property
    def postgresql(self) -> Health | None:
        """The health of PostgreSQL, if it was probed."""
        return next((self.health[name] for name in POSTGRESQL if name in self.health), None)


def observe(deployment: Deployment, refused: Iterable[str]) -> Surroundings:
    """Probe everything once. Works without the services and servers. `refused`: why settings are refused."""
    health = {each.name: each.health for each in verdict.examine(deployment)}
    settings = [_setting(reason) for reason in refused]
    disks = []
    if deployment.last_start is not None:
        disks = [_disk(each) for each in verdict.findings_of_disks(volumes.look(deployment.settings))]
    return Surroundings(deployment, deployment.condition(), health, [*settings, *disks])


def _setting(reason: str) -> Link:
    return Link(
        "settings",
        State.WARNS,
        f"{reason}. Processes that run keep their settings, but the next start fails",
        command="correct it, then bisnesctl doctor",
    )


def _disk(finding: HealthFinding) -> Link:
    critical = finding.verdict is Verdict.CRITICAL
    state = State.BLOCKS if critical else State.WARNS
    soon = "it continues once there is space" if critical else ""
    command = f"df -h {finding.name.removeprefix('disk ')}, then remove what is not needed"
    return Link(finding.name, state, finding.health.reason, soon, command)


def supervisord(around: Surroundings) -> Link:
    """The link of supervisord, which runs all processes."""
    deployment = around.deployment
    if around.condition is Condition.RUNNING:
        return Link("supervisord", State.OK, f"it runs (pid {deployment.supervisor_pid()})")
    if not deployment.was_tried:
        return Link("supervisord", State.BLOCKS, "nothing was started here yet", command=deployment.start_command)
    found = around.health["supervisord"]
    state = State.DELAYS if found.status is Status.STOPPED else State.BLOCKS
    command = "bisnesctl stop" if around.condition is Condition.SILENT else deployment.start_command
    return Link("supervisord", state, _without_command(found.reason), command=command)


def servers(around: Surroundings) -> list[Link]:
    """The links of PostgreSQL and Redis."""
    links = []
    for name, health in around.health.items():
        if name in POSTGRESQL:
            links.append(_server(around, "PostgreSQL", name, health, State.BLOCKS))
        elif name in REDIS:
            links.append(_server(around, "Redis", name, health, State.WARNS))
    return links


def _server(around: Surroundings, about: str, name: str, health: Health, state: State) -> Link:
    if health.healthy or health.status in (Status.OUTDATED, Status.EXTRA):
        return Link(about, State.OK, "it answers and can store" if about == "PostgreSQL" else "it answers")
    if health.status is Status.STOPPED:
        return Link(about, state, health.reason or "it is stopped", command=f"bisnesctl start {name}")
    settings = around.deployment.settings
    embedded = settings.embedded_postgres if about == "PostgreSQL" else settings.embedded_redis
    setting = "database_url" if about == "PostgreSQL" else "redis_url"
    command = f"bisnesctl logs {name} --lines 30" if embedded else f"check the server of {settings.where(setting)}"
    return Link(about, state, health.reason or str(health.status), _WITHOUT[about], command)


def guard(around: Surroundings) -> Link | None:
    """The link of the guard, which restarts what ends; None if it was not probed."""
    health = around.health.get(GUARD)
    if health is None:
        return None
    if health.status in (Status.UNHEALTHY, Status.DOWN, Status.FAILING, Status.FAILED, Status.STOPPED, Status.BLOCKED):
        reason = health.reason or "processes that end are not restarted"
        return Link("guard", State.WARNS, reason, command=f"bisnesctl restart {GUARD}")
    return Link("guard", State.OK, "it is on duty: it restarts what ends")


def _without_command(reason: str) -> str:
    return reason.partition(": `")[0]
