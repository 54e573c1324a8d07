"""Findings about processes, for several pages."""

from collections.abc import Mapping

from bisnesctl.errors import BisnesError
from bisnesctl.processes.deployment import Deployment
from bisnesctl.processes.supervisor import Process
from bisnesctl.processes.topology import Instance
from bisnesctl.views.overview import Overview
from bisnesctl.views.overview import overview as look
from services.dashboard.context import context

#: Words of a process's status that need nobody; a process that was stopped on purpose has a reason.
STOPPED = "stopped"
WELL = ("healthy", STOPPED)


def overview() -> Overview:
    """The content of `bisnesctl status`, as it was a moment ago."""
    sources = context().sources
    return sources.shared("overview", lambda: look(sources.deployment(), sample=sources.meter.sample()))


def instance(deployment: Deployment, name: str) -> Instance | None:
    """The instance of this name, whether supervisord answers or not."""
    return next((each for each in deployment.known(_processes(deployment)) if each.name == name), None)


def _processes(deployment: Deployment) -> Mapping[str, Process]:
    try:
        return deployment.processes()
    except BisnesError:
        return {}
