"""`python -m services.sandbox`: the simulators of the Graph API and of WhatsApp Web, until SIGTERM or SIGINT."""

import sys

import structlog
from flask import Flask

from bisnesctl.processes.topology import reachable_host
from bisnesctl.settings import Settings
from services.connectors.meta.receiver import PATH
from services.runtime.process import Process
from services.sandbox.app import create_app
from services.sandbox.database import Database
from services.sandbox.meta.destinations import Destinations
from services.sandbox.meta.registry import APP_ID, Registry
from services.sandbox.meta.simulator import Simulator
from services.sandbox.server import Server
from services.sandbox.web.network import Network

#: Seconds for which a thread may keep the others waiting: a page that is loaded must not slow the Graph API down.
SWITCH = 0.0005

log = structlog.get_logger()


class Sandbox:
    """The simulators with their files and the reporter, for the process that serves them."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def build(self) -> Flask:
        """Go on where an earlier run ended."""
        settings = self._settings
        self._database = Database(settings.home / "sandbox.db")
        registry = Registry(self._database, settings.meta_app_id or APP_ID)
        destinations = Destinations(registry, receivers(settings))
        secret = settings.meta_app_secret.get_secret_value()
        simulator = Simulator(self._database, settings.home / "sandbox-media", destinations, registry, secret)
        self._reporter = simulator.reporter
        self._reporter.start()
        log.info("ready", page=f"http://127.0.0.1:{settings.sandbox_port}/_sandbox/")
        self._network = Network(settings.home)
        return create_app(simulator, self._network)

    def close(self) -> None:
        """Stop reporting and close the files."""
        self._reporter.stop()
        self._database.close()
        self._network.close()


def receivers(settings: Settings) -> list[str]:
    """Where webhooks go: to the meta process, or to the legacy one where that runs instead."""
    places = (settings.meta_host, settings.meta_port), (settings.api_host, settings.port)
    return [f"http://{reachable_host(host)}:{port}{PATH}" for host, port in places]


def main() -> None:
    """Serve until told to stop, then finish what is in hand."""
    sys.setswitchinterval(SWITCH)
    settings = Process.from_environment("sandbox").settings
    sandbox = Sandbox(settings)
    Server(settings.sandbox_port, sandbox.build, sandbox.close).run()


if __name__ == "__main__":
    main()
