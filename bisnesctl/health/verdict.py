"""The verdict of `bisnesctl health` on a deployment, in the terms of monitoring plugins."""

from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

from bisnesctl.bots import check_records, web_sessions
from bisnesctl.bots.check_records import BotTrouble
from bisnesctl.health import inspection, plugin_line, probes
from bisnesctl.health.probes import Health, Status
from bisnesctl.host import volumes
from bisnesctl.processes import stop_records
from bisnesctl.processes.deployment import Condition, Deployment
from bisnesctl.processes.supervisor import Process

if TYPE_CHECKING:
    from bisnesctl.database.kept_connection import KeptConnection


class Verdict(IntEnum):
    """The exit codes of monitoring plugins."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = plugin_line.UNKNOWN


@dataclass(frozen=True)
class HealthFinding:
    """The health of a process, an external server, a disk or a bot."""

    name: str
    health: Health

    @property
    def verdict(self) -> Verdict:
        """Its severity."""
        return _VERDICTS[self.health.status]


_VERDICTS = {
    Status.HEALTHY: Verdict.OK,
    Status.OUTDATED: Verdict.WARNING,
    Status.EXTRA: Verdict.WARNING,
    Status.DEGRADED: Verdict.WARNING,
    Status.STARTING: Verdict.WARNING,
    Status.STOPPING: Verdict.WARNING,
    Status.STOPPED: Verdict.WARNING,  # an operator stopped it
    Status.DOWN: Verdict.CRITICAL,
    Status.UNHEALTHY: Verdict.CRITICAL,
    Status.FAILING: Verdict.CRITICAL,
    Status.BLOCKED: Verdict.CRITICAL,
    Status.FAILED: Verdict.CRITICAL,
}


def examine(deployment: Deployment) -> list[HealthFinding]:
    """The health of everything that should run or runs, and of external servers; empty if nothing was started."""
    if not deployment.was_tried:
        return []
    condition = deployment.condition()
    if condition is not Condition.RUNNING:
        return absent(deployment, condition)
    return examine_running(deployment, deployment.processes())


def absent(deployment: Deployment, condition: Condition) -> list[HealthFinding]:
    """The only finding while supervisord does not run."""
    return [HealthFinding("supervisord", _absent(deployment, condition))]


def examine_running(
    deployment: Deployment, processes: Mapping[str, Process], kept: "KeptConnection | None" = None
) -> list[HealthFinding]:
    """The same while supervisord runs. `kept`: a connection to PostgreSQL that can be used."""
    shown = deployment.shown(processes)
    health = inspection.inspect(deployment, shown, processes, kept=kept)
    findings = [HealthFinding(name, each) for name, each in health.items()]
    stopped = {each.program.name for each in shown} - {
        each.program.name for each in shown if health[each.name].status is not Status.STOPPED
    }
    return [*_servers(deployment, kept), *findings, *_endpoints(deployment, stopped)]


def _endpoints(deployment: Deployment, stopped: Collection[str]) -> list[HealthFinding]:
    """The health addresses in the settings, which may be on other machines; not those of what was stopped here."""
    settings = deployment.settings
    urls = {name: getattr(settings, f"{name}_health_endpoint") for name in ("api", "meta", "wwebjs")}
    asked = {name: url for name, url in urls.items() if url and name not in stopped}
    if not asked:
        return []
    with ThreadPoolExecutor(len(asked)) as pool:
        return [
            HealthFinding(f"{name} endpoint", each)
            for name, each in zip(asked, pool.map(probes.endpoint, asked.values()), strict=True)
        ]


def _absent(deployment: Deployment, condition: Condition) -> Health:
    """Why supervisord does not answer. Only a deliberate stop is no failure."""
    if condition is Condition.SILENT:
        return Health(Status.FAILED, "it does not answer: `bisnesctl stop` ends it")
    if condition is Condition.STOPPING:
        return Health(Status.FAILED, "it is shutting down")
    if failed := deployment.failed_start:
        return Health(Status.FAILED, f"{failed.text}: `{failed.command}`")
    if deployment.was_stopped:
        record = stop_records.read(deployment.settings.run_dir).get(stop_records.EVERYTHING)
        return Health(Status.STOPPED, f"{record.text if record else 'on purpose'}: `{deployment.start_command}`")
    return Health(Status.FAILED, f"not running, although nobody stopped it: `{deployment.start_command}`")


def examine_settings(deployment: Deployment, refused: Collection[str] = ()) -> list[HealthFinding]:
    """The settings that are refused, those in `refused` too: the next start fails."""
    if not deployment.was_tried:
        return []
    reasons = (*deployment.settings.problems.values(), *refused)
    return [HealthFinding("settings", Health(Status.DEGRADED, reason)) for reason in reasons]


def findings_of_bots(troubles: Sequence[BotTrouble]) -> list[HealthFinding]:
    """The bots that need an operator, now or soon."""
    return [
        HealthFinding(f"bot {each.name}", Health(_status(each), f"{each.status}: {each.reason} (`{each.hint}`)"))
        for each in troubles
    ]


def _status(trouble: BotTrouble) -> Status:
    """Messages wait for an unavailable provider. Other bots send, or wait for an operator who was notified.

    Numbers that are not in use yet, or that an operator paused, are no trouble.
    """
    if trouble.status in (web_sessions.NOTE, check_records.PAUSED):
        return Status.HEALTHY
    return Status.UNHEALTHY if trouble.status == check_records.UNAVAILABLE else Status.DEGRADED


def findings_of_disks(disks: Sequence[volumes.Disk]) -> list[HealthFinding]:
    """The disks that are nearly full or cannot be written."""
    troubles = [each.trouble for each in disks if each.trouble is not None]
    return [
        HealthFinding(f"disk {each.mount}", Health(Status.UNHEALTHY if each.critical else Status.DEGRADED, each.reason))
        for each in troubles
    ]


def _servers(deployment: Deployment, kept: "KeptConnection | None") -> list[HealthFinding]:
    settings = deployment.settings
    found = []
    if not settings.embedded_postgres:
        found.append(HealthFinding("postgresql", probes.postgres(settings.database_dsn, embedded=False, kept=kept)))
    if not settings.embedded_redis:
        found.append(HealthFinding("redis", inspection.mild_redis(probes.redis(settings.redis_dsn))))
    return found


def judge(findings: Sequence[HealthFinding]) -> Verdict:
    """The worst verdict; `UNKNOWN` if there are no findings."""
    return max((each.verdict for each in findings), default=Verdict.UNKNOWN)


def in_words(findings: Sequence[HealthFinding]) -> list[str]:
    """The findings that are not fine, each in one phrase."""
    return [
        f"{each.name} {each.health.status}{f' ({each.health.reason})' if each.health.reason else ''}"
        for each in findings
        if each.verdict
    ]
