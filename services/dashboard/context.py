"""The parts that the pages of one process share."""

from dataclasses import dataclass

from flask import current_app

from bisnesctl.audit import recorded_calls
from bisnesctl.clients.api_client import ApiClient, api_key, api_url
from bisnesctl.settings import Settings
from services.dashboard.command_runs import CommandRuns
from services.dashboard.sources import Sources

#: The name under which the application has the context.
EXTENSION = "dashboard"


@dataclass(frozen=True)
class Context:
    """The settings of the start, and the sources and commands of the pages."""

    settings: Settings
    sources: Sources
    commands: CommandRuns

    def api(self) -> ApiClient:
        """A client of the API with the operator's key. Its calls are recorded here, under the name of the person.

        Raises `ConfigError` if there is no key.
        """
        deployment = self.sources.deployment()
        settings = deployment.settings
        return ApiClient(api_url(settings, deployment.mode), api_key(settings), recorded_calls.headers(settings))


def context() -> Context:
    """The context of the request's application."""
    found: Context = current_app.extensions[EXTENSION]
    return found
