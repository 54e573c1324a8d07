"""`python -m services.sandbox`: serves the simulated networks until SIGTERM or SIGINT."""

import os
import sys

import structlog
from flask import Flask

from bisnesctl.processes import started_settings
from bisnesctl.processes.topology import reachable_host
from bisnesctl.settings import Settings
from services.connectors.meta.receiver import PATH
from services.runtime.process import Process
from services.sandbox.app import create_app
from services.sandbox.database import Database
from services.sandbox.meta.destinations import Destinations
from services.sandbox.meta.registry import APP_ID, Registry
from services.sandbox.meta.schema import SCHEMA
from services.sandbox.meta.simulator import Simulator
from services.sandbox.server import Server
from services.sandbox.web.network import Network

#: How long a thread may keep the interpreter: short, so that loading a page does not slow the Graph API down.
THREAD_SWITCH_SECONDS = 0.0005

log = structlog.get_logger()


class Sandbox:
    """The simulated networks with their files and threads, for the process that serves them."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def build(self) -> Flask:
        """Open the files of an earlier run, or create them, and return the application."""
        settings = self._settings
        self._database = Database(settings.home / "sandbox.db", SCHEMA)
        registry = Registry(self._database, settings.meta_app_id or APP_ID)
        destinations = Destinations(registry, webhook_urls(settings))
        secret = settings.meta_app_secret.get_secret_value()
        simulator = Simulator(self._database, settings.home / "sandbox-media", destinations, registry, secret)
        self._webhook_sender = simulator.webhook_sender
        self._webhook_sender.start()
        self._network = Network(settings.home)
        log.info("sandbox.started", page=f"http://127.0.0.1:{settings.sandbox_port}/_sandbox/")
        return create_app(simulator, self._network)

    def close(self) -> None:
        """Stop sending webhooks and close the files."""
        self._webhook_sender.stop()
        self._database.close()
        self._network.close()


def webhook_urls(settings: Settings) -> list[str]:
    """The receivers of Meta's webhooks: the meta process, or the legacy process if that runs instead."""
    addresses = (settings.meta_host, settings.meta_port), (settings.api_host, settings.port)
    return [f"http://{reachable_host(host)}:{port}{PATH}" for host, port in addresses]


def main() -> None:
    """Serve until a signal stops the process, then finish the requests that are running."""
    sys.setswitchinterval(THREAD_SWITCH_SECONDS)
    process = Process.from_environment("sandbox")
    settings = process.settings
    started_settings.record(settings, process.instance, os.getpid())
    sandbox = Sandbox(settings)
    Server(settings.sandbox_port, sandbox.build, sandbox.close).run()


if __name__ == "__main__":
    main()
