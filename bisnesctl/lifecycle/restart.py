"""Starts and restarts instances of a running deployment, and applies changed settings, while the others serve on."""

from collections.abc import Collection, Mapping, Sequence
from itertools import groupby

from bisnesctl.health import probes
from bisnesctl.health.probes import wait_healthy
from bisnesctl.lifecycle import preflight
from bisnesctl.lifecycle.rolling_restart import RollingRestart, is_active, moved, read_settings
from bisnesctl.lifecycle.stop import Report
from bisnesctl.processes import command_records, stop_records
from bisnesctl.processes.deployment import Deployment, record_start
from bisnesctl.processes.supervisor import Process
from bisnesctl.processes.topology import Instance, names_of


def restart(deployment: Deployment, chosen: Sequence[Instance], command: str, report: Report) -> None:
    """Restarts these instances in turn, with the current settings.

    New instances are started before the others are restarted; extra ones are stopped last. `command`: the words that
    repeat it. Raises `NotRunning` if supervisord does not run, `PortTaken` before anything stops, `StartFailed` if an
    instance does not come back.
    """
    deployment.require_running()
    processes = deployment.processes()
    kept, extra = divide(deployment, chosen)
    preflight.check_ports(deployment.settings, kept, moved(kept, processes))
    rolling = read_settings(deployment, report)
    record(deployment, "restart", chosen)
    ordered = sorted(kept, key=lambda each: is_active(each, processes))
    steady = worth_waiting(deployment, ordered, processes)
    for place, instance in enumerate(ordered, 1):
        with rolling.step(command, instance, ordered[place:]):
            rolling.renew(instance, wait=instance.name in steady)
    rolling.drop(extra)


def start_more(deployment: Deployment, chosen: Sequence[Instance], report: Report) -> list[Instance]:
    """Starts those of these instances that do not run, and waits until they are healthy; returns them.

    Raises as `restart` does.
    """
    deployment.require_running()
    processes = deployment.processes()
    idle = [each for each in chosen if not is_active(each, processes)]
    preflight.check_ports(deployment.settings, idle, _first_of_groups(deployment, idle, processes))
    rolling = read_settings(deployment, report)
    record(deployment, "start", idle)
    _expect(deployment, idle)
    for _, members in groupby(idle, key=lambda each: each.program.priority):
        tier = list(members)
        report(f"starting {names_of(tier)}")
        for instance in tier:
            rolling.begin(instance)
        wait_healthy(deployment, [each for each in tier if not each.program.dynamic], report)
    return idle


def record(deployment: Deployment, action: str, chosen: Sequence[Instance]) -> None:
    """Records the command of an operator who wants these instances to run."""
    command_records.write(deployment.settings.run_dir, action, chosen)
    stop_records.remove(deployment.settings.run_dir, [each.name for each in chosen])


def divide(deployment: Deployment, chosen: Sequence[Instance]) -> tuple[list[Instance], list[Instance]]:
    """The instances that the settings have, and the extra ones."""
    own = {each.name for each in deployment.instances}
    kept = [each for each in chosen if each.name in own]
    return kept, [each for each in chosen if each.name not in own]


def worth_waiting(
    deployment: Deployment, chosen: Sequence[Instance], processes: Mapping[str, Process]
) -> Collection[str]:
    """The instances that must be healthy again before the next one stops: all but sessions that were not healthy.

    A session that waits for its QR code, for example, does not become healthy by a restart.
    """
    sessions = [each for each in chosen if each.program.dynamic]
    found = probes.probe_all(sessions, processes, deployment.settings)
    return {each.name for each in chosen if each.name not in found or found[each.name].healthy}


def _first_of_groups(
    deployment: Deployment, idle: Sequence[Instance], processes: Mapping[str, Process]
) -> list[Instance]:
    """The instances that are to bind their addresses, because no other member of their group has done so."""
    bound = {each.group for each in deployment.known(processes) if is_active(each, processes)}
    return [each for each in idle if each.group not in bound]


def _expect(deployment: Deployment, started: Sequence[Instance]) -> None:
    """If the deployment was started with `--only`, these programs belong to it from now on."""
    last = deployment.last_start
    if last is not None and last.only:
        names = [each.name for each in started if each not in last.expected(deployment.instances)]
        record_start(deployment.settings.run_dir, last.mode, last.sandbox, (*last.only, *names), last.beside)


def apply_changes(deployment: Deployment, wanted: Sequence[Instance], report: Report) -> None:
    """Makes a running supervisord use its new configuration.

    Instances in `wanted` that run with another configuration are restarted, each healthy before the next one stops;
    sessions are not waited for. Extra instances of their programs are stopped. Raises as `restart` does.
    """
    processes = deployment.processes()
    preflight.check_ports(deployment.settings, wanted, moved(wanted, processes))
    rolling = RollingRestart(deployment, deployment.supervisor.reread(), report)
    outdated = [each for each in wanted if rolling.is_outdated(each)]
    command_records.write(
        deployment.settings.run_dir, "start", [each for each in outdated if is_active(each, processes)]
    )
    for instance in outdated:
        if is_active(instance, processes):
            rolling.renew(instance, wait=not instance.program.dynamic)
        else:
            rolling.fit(instance)
    own, programs = {each.name for each in deployment.instances}, {each.program.name for each in wanted}
    known = deployment.known(processes)
    rolling.drop([each for each in known if each.name not in own and each.program.name in programs])


def add_programs(deployment: Deployment, wanted: Sequence[Instance], report: Report) -> None:
    """Makes a running supervisord know these instances; those that run keep their configuration."""
    processes = deployment.processes()
    rolling = RollingRestart(deployment, deployment.supervisor.reread(), report)
    for instance in filter(rolling.is_outdated, wanted):
        if not is_active(instance, processes):
            rolling.fit(instance)
