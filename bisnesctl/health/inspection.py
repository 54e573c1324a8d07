"""The health of instances as `status` and `health` show it: the answers of probes, compared with the settings and the
records of deliberate stops.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bisnesctl.health import probes
from bisnesctl.health.probes import PROBE_TIMEOUT_SECONDS, Health, Status
from bisnesctl.processes import restart_records, started_settings, stop_records
from bisnesctl.processes.deployment import Deployment
from bisnesctl.processes.extras import why_extra
from bisnesctl.processes.restart_records import RestartRecord
from bisnesctl.processes.stop_records import StopRecord
from bisnesctl.processes.supervisor import Process
from bisnesctl.processes.topology import Instance

if TYPE_CHECKING:
    from bisnesctl.database.kept_connection import KeptConnection


def inspect(
    deployment: Deployment,
    instances: Sequence[Instance],
    processes: Mapping[str, Process],
    timeout: float = PROBE_TIMEOUT_SECONDS,
    kept: "KeptConnection | None" = None,
) -> dict[str, Health]:
    """The health of these instances by name. `kept`: a connection to PostgreSQL that can be used."""
    found = probes.probe_all(instances, processes, deployment.settings, timeout, kept)
    comparison = _Comparison(
        deployment,
        stop_records.read(deployment.settings.run_dir),
        {each.name for each in deployment.instances},
        started_settings.inherited(deployment.supervisor_pid()),
        restart_records.read(deployment.settings.run_dir),
    )
    health = {each.name: comparison.judge(each, processes.get(each.name), found[each.name]) for each in instances}
    redis = [each.name for each in instances if each.program.probe == "redis"]
    return health | {name: mild_redis(health[name]) for name in redis}


def mild_redis(health: Health) -> Health:
    """Without Redis everything works a little later, so a Redis that does not answer is a warning, for any cause."""
    if health.status not in (Status.UNHEALTHY, Status.DOWN, Status.FAILING):
        return health
    return _add(Health(Status.DEGRADED, health.reason, health.deaths), "messages still leave, up to a second later")


@dataclass(frozen=True)
class _Comparison:
    deployment: Deployment
    stops: Mapping[str, StopRecord]
    #: The names of the instances that the settings have.
    own: set[str]
    #: The settings in the environment of supervisord.
    inherited: set[str]
    last_restart: RestartRecord | None

    def judge(self, instance: Instance, process: Process | None, health: Health) -> Health:
        if process is None:
            how = f"the settings have it since they changed: `{self.deployment.start_command}` starts it"
            return Health(Status.STOPPED, how)
        remark = self.last_restart.remark(instance.name, process) if self.last_restart else ""
        if health.status is Status.STOPPED:
            return self._stopped(instance, _add(health, remark))
        if instance.name not in self.own:
            why = why_extra(instance, self.deployment.settings)
            return Health(Status.EXTRA, why) if health.healthy else _add(health, why)
        if drift := self._drift(instance, process):
            return Health(Status.OUTDATED, drift) if health.healthy else _add(health, drift)
        if remark:
            return Health(Status.OUTDATED, remark) if health.healthy else _add(health, remark)
        return health

    def _stopped(self, instance: Instance, health: Health) -> Health:
        record = self.stops.get(instance.name)
        if record is not None:
            return _add(health, f"{record.text}; `bisnesctl start {instance.name}` starts it")
        if instance.program.dynamic:  # the manager stops and starts it
            return health
        if self.deployment.was_stopped:  # `bisnesctl start` has not come to it yet
            return Health(Status.STARTING, "it is about to be started")
        how = f"it does not run, although it was not stopped with `bisnesctl stop`: `bisnesctl start {instance.name}`"
        return Health(Status.DOWN, _joined(health.reason, how))

    def _drift(self, instance: Instance, process: Process) -> str:
        """The settings that have changed since the process started, with the next step; empty if none has."""
        if not process.active:
            return ""
        changed = started_settings.changed(self.deployment.settings, instance, process.pid)
        if not changed:
            return ""
        step = f"bisnesctl restart {instance.program.name}"
        if self.inherited.intersection(changed):  # a restart would inherit them again
            step = f"bisnesctl stop && {self.deployment.start_command}"
        return f"settings changed since it started: {', '.join(changed)}; `{step}`"


def _add(health: Health, reason: str) -> Health:
    return Health(health.status, _joined(health.reason, reason), health.deaths)


def _joined(*reasons: str) -> str:
    return "; ".join(each for each in reasons if each)
