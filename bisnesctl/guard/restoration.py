"""Instances that should run but were not started by this supervisord: `supervisorctl reload` or SIGHUP made it read
its configuration again, or a command such as `bisnesctl start` or `reload` was killed halfway.
"""

from collections.abc import Mapping

from bisnesctl.processes import restart_records, stop_records
from bisnesctl.processes.deployment import Deployment
from bisnesctl.processes.supervisor import Process
from bisnesctl.processes.topology import Instance, expand


def find_missing(deployment: Deployment, processes: Mapping[str, Process]) -> list[Instance]:
    """The missing instances to start now: those of the lowest priority, so that servers come before their clients.

    An instance that was stopped on purpose is not missing. The manager starts the sessions.
    """
    last = deployment.last_start
    if last is None or not last.since:
        return []
    record = restart_records.read(deployment.settings.run_dir)
    dropped = record.missing(processes) if record else ""
    missing = [
        each
        for each in last.expected(expand(deployment.settings))
        if each.name == dropped or _is_fresh(processes.get(each.name))
    ]
    if missing:
        stops = stop_records.read(deployment.settings.run_dir)
        missing = [each for each in missing if each.name not in stops]
    first = min((each.program.priority for each in missing), default=0)
    return [each for each in missing if each.program.priority == first]


def _is_fresh(process: Process | None) -> bool:
    return process is not None and process.settled and not process.was_started
