"""Restarts instances, and applies changed settings, one instance after the other, so that the others keep serving."""

from collections.abc import Mapping, Sequence

from bisnesctl.errors import UsageError
from bisnesctl.lifecycle import ports
from bisnesctl.lifecycle.readiness import wait_healthy
from bisnesctl.lifecycle.stop import Report, stop_together
from bisnesctl.processes import command_records, stop_records
from bisnesctl.processes.deployment import Deployment
from bisnesctl.processes.extras import why_extra
from bisnesctl.processes.render import write_config
from bisnesctl.processes.supervisor import Changes, Process
from bisnesctl.processes.topology import Instance, listening_address, names_of, resolve


def restart(deployment: Deployment, names: Sequence[str], report: Report) -> None:
    """Restarts the instances that these names mean, with the current settings.

    New instances are started before the others are restarted; extra ones are stopped last. Raises `UsageError` for a
    name that means nothing, `NotRunning` if supervisord does not run, `PortTaken` before anything stops,
    `StartFailed` if an instance does not come back.
    """
    deployment.require_running()
    processes = deployment.processes()
    chosen = choose(deployment, names, processes)
    own = {each.name for each in deployment.instances}
    extra = [each for each in chosen if each.name not in own]
    kept = [each for each in chosen if each.name in own]
    _check_ports(deployment, kept, processes)
    write_config(deployment.settings, deployment.instances, deployment.settings.run_dir)
    rollout = Rollout(deployment, deployment.supervisor.reread(), report)
    command_records.write(deployment.settings.run_dir, "restart", chosen)
    stop_records.remove(deployment.settings.run_dir, [each.name for each in chosen])
    for instance in sorted(kept, key=lambda each: is_active(each, processes)):
        rollout.renew(instance)
    rollout.drop(extra)


def choose(deployment: Deployment, names: Sequence[str], processes: Mapping[str, Process]) -> list[Instance]:
    """The instances that these names mean, extra ones included. Raises `UsageError`."""
    known = deployment.known(processes)
    chosen = resolve(names, known)
    foreign = [each.name for each in chosen if deployment.mode not in each.program.modes]
    if foreign:
        raise UsageError(
            f"{', '.join(foreign)} does not run in mode {deployment.mode}: `bisnesctl start` changes the mode"
        )
    own = {each.name for each in deployment.instances}
    for each in chosen:
        if each.name in names and each.name not in own:
            raise UsageError(f"{each.name} cannot be restarted: {why_extra(each, deployment.settings)}")
    return chosen


def apply_changes(deployment: Deployment, wanted: Sequence[Instance], report: Report) -> None:
    """Makes a running supervisord use its new configuration.

    Instances in `wanted` that run with another configuration are restarted, each healthy before the next one stops;
    sessions are not waited for. Extra instances of their programs are stopped. Raises as `restart` does.
    """
    processes = deployment.processes()
    _check_ports(deployment, wanted, processes)
    rollout = Rollout(deployment, deployment.supervisor.reread(), report)
    for instance in filter(rollout.is_outdated, wanted):
        if is_active(instance, processes):
            rollout.renew(instance, wait=not instance.program.dynamic)
        else:
            rollout.fit(instance)
    own, programs = {each.name for each in deployment.instances}, {each.program.name for each in wanted}
    known = deployment.known(processes)
    rollout.drop([each for each in known if each.name not in own and each.program.name in programs])


def add_programs(deployment: Deployment, wanted: Sequence[Instance], report: Report) -> None:
    """Makes a running supervisord know these instances; those that run keep their configuration."""
    processes = deployment.processes()
    rollout = Rollout(deployment, deployment.supervisor.reread(), report)
    for instance in filter(rollout.is_outdated, wanted):
        if not is_active(instance, processes):
            rollout.fit(instance)


def _check_ports(deployment: Deployment, instances: Sequence[Instance], processes: Mapping[str, Process]) -> None:
    """Raises `ConfigError` or `PortTaken` before anything stops."""
    ports.check_clashes(deployment.settings, instances)
    ports.check_free(deployment.settings, moved(instances, processes))


def is_active(instance: Instance, processes: Mapping[str, Process]) -> bool:
    """Whether it runs or is starting."""
    process = processes.get(instance.name)
    return process is not None and process.active


def moved(instances: Sequence[Instance], processes: Mapping[str, Process]) -> list[Instance]:
    """The running instances whose address has changed since they started."""
    running = [each for each in instances if is_active(each, processes)]
    return [each for each in running if listening_address(each, processes[each.name].pid) != (each.host, each.port)]


class Rollout:
    """Brings instances to the configuration that supervisord has just read."""

    def __init__(self, deployment: Deployment, changes: Changes, report: Report) -> None:
        self._deployment = deployment
        self._changes = changes
        self._report = report
        self._replaced: set[str] = set()  # groups that an older supervisord replaced as a whole

    def is_outdated(self, instance: Instance) -> bool:
        """Whether its group differs from supervisord's configuration, or is not there yet."""
        return instance.group in (*self._changes.added, *self._changes.changed)

    def renew(self, instance: Instance, wait: bool = True) -> None:
        """Stops an instance if it runs, starts it with its new configuration, and waits until it is healthy."""
        processes = self._deployment.processes()
        self._report(f"{'restarting' if is_active(instance, processes) else 'starting'} {instance.name}")
        if instance.name in processes:
            stop_together(self._deployment, [instance])
        self.fit(instance)
        self._deployment.supervisor.start(instance.full_name)
        if wait:
            wait_healthy(self._deployment, [instance], self._report)

    def fit(self, instance: Instance) -> None:
        """Gives an instance that does not run its new configuration."""
        client, changes, group = self._deployment.supervisor, self._changes, instance.group
        if group in changes.added:
            client.add_group(group)
        elif group in changes.changed and not self._is_shared(instance):
            client.remove_group(group)
            client.add_group(group)
        elif group in changes.changed and group not in self._replaced and not client.refit(instance.full_name):
            self._replace_group(group)

    def drop(self, instances: Sequence[Instance]) -> None:
        """Stops extra instances and removes them from supervisord."""
        if not instances:
            return
        client = self._deployment.supervisor
        self._report(f"stopping {names_of(instances)}, which the settings do not have")
        stop_together(self._deployment, instances)
        for instance in instances:
            if self._is_shared(instance):
                client.refit(instance.full_name)
            else:
                client.remove_group(instance.group)

    def _is_shared(self, instance: Instance) -> bool:
        return instance.program.shared_socket and instance.group not in self._changes.removed

    def _replace_group(self, group: str) -> None:
        """For a supervisord of an older release, which can only replace a whole group: all its members stop."""
        client = self._deployment.supervisor
        self._replaced.add(group)
        members = [each for each in self._deployment.known(self._deployment.processes()) if each.group == group]
        self._report(f"stopping {names_of(members)}: supervisord was started by an older release")
        stop_together(self._deployment, members)
        client.remove_group(group)
        client.add_group(group)
        for each in members:
            client.start(each.full_name)
