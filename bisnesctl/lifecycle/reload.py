"""Replaces what runs by the release and the settings on the disk, one instance after the other, with proof of each.

A release that fails its self-test stops nothing. An instance that fails although its self-test passed is stopped again
if others of its program still run as before.
"""

import os
import time
from collections.abc import Sequence

from bisnesctl.errors import StartFailed
from bisnesctl.health.probes import wait_healthy
from bisnesctl.lifecycle import preflight, self_tests
from bisnesctl.lifecycle.restart import divide, record, worth_waiting
from bisnesctl.lifecycle.rolling_restart import is_active, moved, read_settings
from bisnesctl.lifecycle.stop import Report, stop_together
from bisnesctl.processes import stop_records, switch_records
from bisnesctl.processes.deployment import Deployment
from bisnesctl.processes.restart_costs import COSTS
from bisnesctl.processes.topology import Instance, names_of

#: Seconds after which an instance that was healthy must still be.
PROOF_SECONDS = 1.0


def reload(
    deployment: Deployment, chosen: Sequence[Instance], named: Sequence[str], command: str, report: Report
) -> None:
    """Reloads these instances in turn. Those that an operator stopped stay stopped, unless they are `named`.

    `command`: the words that repeat it. Raises as `restart` does, and `StartFailed` if a self-test fails.
    """
    deployment.require_running()
    processes = deployment.processes()
    kept, extra = divide(deployment, chosen)
    stops = stop_records.read(deployment.settings.run_dir)
    stopped = [each for each in kept if each.name in stops and not is_active(each, processes)]
    idle = [each for each in stopped if not {each.name, each.program.name}.intersection(named)]
    if idle:
        report(f"stopped on purpose, and left so: {names_of(idle)}")
    kept = [each for each in kept if each not in idle]
    for program in dict.fromkeys(each.program.name for each in kept):
        report(f"[dim]{program}: {COSTS[program]}[/]")
    preflight.check_ports(deployment.settings, kept, moved(kept, processes))
    if switch_records.PART_OF not in os.environ:  # a switch has proven the release already
        self_tests.prove(deployment, kept, report)
    rolling = read_settings(deployment, report)
    record(deployment, "reload", kept)
    steady = worth_waiting(deployment, kept, processes)
    ordered = sorted(kept, key=lambda each: is_active(each, processes))
    for place, instance in enumerate(ordered, 1):
        with rolling.step(command, instance, ordered[place:]):
            try:
                rolling.renew(instance, wait=instance.name in steady)
                if instance.name in steady:
                    _prove(deployment, instance, report)
            except StartFailed as error:
                raise StartFailed(_stop_again(deployment, instance, str(error), report)) from error
    rolling.drop(extra)


def _prove(deployment: Deployment, instance: Instance, report: Report) -> None:
    """Raises `StartFailed` unless the instance still is healthy a moment later, as the same process."""
    before = deployment.processes().get(instance.name)
    time.sleep(PROOF_SECONDS)
    after = deployment.processes().get(instance.name)
    if before is None or after is None or before.pid != after.pid:
        raise StartFailed(f"{instance.name} became healthy and ended: `bisnesctl logs {instance.name}`")
    wait_healthy(deployment, [instance], report, reported=())


def _stop_again(deployment: Deployment, instance: Instance, reason: str, report: Report) -> str:
    """Stops an instance that failed, if others of its program run; returns the reason with what runs now."""
    processes = deployment.processes()
    others = [
        each
        for each in deployment.known(processes)
        if each.program is instance.program and each.name != instance.name and is_active(each, processes)
    ]
    if not others or instance.program.dynamic:
        return f"{reason}\n{instance.name} is the only one of its kind, so the guard continues to start it"
    report(f"stopping {instance.name} again")
    stop_together(deployment, [instance], report)
    return f"{reason}\n{instance.name} was stopped and serves nobody; {names_of(others)} serve as before"
