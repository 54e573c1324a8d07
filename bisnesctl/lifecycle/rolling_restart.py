"""Brings instances to the configuration that supervisord has just read, one after the other."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from bisnesctl.errors import BisnesError
from bisnesctl.health.probes import wait_healthy
from bisnesctl.lifecycle.stop import Report, stop_together
from bisnesctl.processes import embedded_servers, restart_records
from bisnesctl.processes.deployment import Deployment
from bisnesctl.processes.render import write_config
from bisnesctl.processes.supervisor import Changes, Process
from bisnesctl.processes.topology import Instance, listening_address, names_of


def is_active(instance: Instance, processes: Mapping[str, Process]) -> bool:
    """Whether it runs or is starting."""
    process = processes.get(instance.name)
    return process is not None and process.active


def moved(instances: Sequence[Instance], processes: Mapping[str, Process]) -> list[Instance]:
    """The running instances whose address has changed since they started."""
    running = [each for each in instances if is_active(each, processes)]
    return [each for each in running if listening_address(each, processes[each.name].pid) != (each.host, each.port)]


def read_settings(deployment: Deployment, report: Report) -> "RollingRestart":
    """Makes supervisord read the configuration of the current settings, and changes nothing that runs."""
    settings = deployment.settings
    write_config(settings, deployment.instances, settings.run_dir, embedded_servers.command_variables(settings))
    return RollingRestart(deployment, deployment.supervisor.reread(), report)


class RollingRestart:
    """Brings instances to the configuration that supervisord has just read."""

    def __init__(self, deployment: Deployment, changes: Changes, report: Report) -> None:
        self._deployment = deployment
        self._changes = changes
        self._report = report
        self._replaced: set[str] = set()  # groups that an older supervisord replaced as a whole
        self._held: set[str] = set()  # groups whose sockets stay open

    def is_outdated(self, instance: Instance) -> bool:
        """Whether its group differs from supervisord's configuration, or is not there yet."""
        return instance.group in (*self._changes.added, *self._changes.changed)

    @contextlib.contextmanager
    def step(self, command: str, instance: Instance, left: Sequence[Instance]) -> Iterator[None]:
        """Within it, this instance is renewed; the record says so until it is, and after a failure.

        `command`: the words that repeat the rolling restart. `left`: the instances whose turn has not come.
        """
        run_dir = self._deployment.settings.run_dir
        record = restart_records.begin(run_dir, command, instance.name, tuple(each.name for each in left))
        try:
            yield
        except BisnesError as error:
            restart_records.write(run_dir, replace(record, failed=str(error).partition("\n")[0]))
            raise
        if not left:
            restart_records.finish(run_dir)

    def renew(self, instance: Instance, wait: bool = True) -> None:
        """Stops an instance if it runs, starts it with its new configuration, and waits until it is healthy.

        Clients of a socket that supervisord has bound wait meanwhile if no other instance serves them.
        """
        processes = self._deployment.processes()
        self._report(f"{'restarting' if is_active(instance, processes) else 'starting'} {instance.name}")
        with self._socket_held(instance):
            if instance.name in processes:
                stop_together(self._deployment, [instance], self._report)
            self.begin(instance)
            if wait:
                wait_healthy(self._deployment, [instance], self._report)

    def begin(self, instance: Instance) -> None:
        """Starts an instance that does not run, with its new configuration."""
        self.fit(instance)
        self._deployment.supervisor.start(instance.full_name)

    @contextlib.contextmanager
    def _socket_held(self, instance: Instance) -> Iterator[None]:
        client, group = self._deployment.supervisor, instance.group
        if not (instance.program.shared_socket and client.hold(group)):
            yield
            return
        self._held.add(group)
        try:
            yield
        finally:
            self._held.discard(group)
            client.release(group)

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

    def drop(self, instances: Sequence[Instance], why: str = "which the settings do not have") -> None:
        """Stops extra instances after their current work, and removes them from supervisord."""
        if not instances:
            return
        client = self._deployment.supervisor
        self._report(f"stopping {names_of(instances)}, {why}")
        stop_together(self._deployment, instances, self._report)
        for instance in instances:
            if self._is_shared(instance):
                client.refit(instance.full_name)
            else:
                client.remove_group(instance.group)

    def _is_shared(self, instance: Instance) -> bool:
        """Whether its group has other members, or a socket that must stay open.

        A supervisord of an older release may have the group of a single instance without a socket.
        """
        if not instance.program.shared_socket or instance.group in self._changes.removed:
            return False
        return instance.program.is_shared or instance.group in self._held

    def _replace_group(self, group: str) -> None:
        """For a supervisord of an older release, which can only replace a whole group: all its members stop."""
        client = self._deployment.supervisor
        self._replaced.add(group)
        members = [each for each in self._deployment.known(self._deployment.processes()) if each.group == group]
        self._report(f"stopping {names_of(members)}: supervisord was started by an older release")
        stop_together(self._deployment, members, self._report)
        client.remove_group(group)
        client.add_group(group)
        for each in members:
            client.start(each.full_name)
