"""`python -m services.sandbox`: the simulator of the Graph API on SANDBOX_PORT, until SIGTERM or SIGINT."""

import structlog
from flask import Flask

from bisnesctl.settings import Settings, load
from bisnesctl.topology import reachable_host
from services import logs
from services.connectors.meta.receiver import PATH
from services.sandbox.app import create_app
from services.sandbox.server import Server
from services.sandbox.simulator import Simulator
from services.sandbox.store import Store
from services.sandbox.webhooks import Reporter

log = structlog.get_logger()


class Sandbox:
    """The simulator with its file and its reporter, for the process that serves it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def build(self) -> Flask:
        """Go on where an earlier run ended."""
        settings = self._settings
        logs.configure(settings.log_level)
        self._store = Store(settings.home / "sandbox.db")
        secret = settings.meta_app_secret.get_secret_value()
        self._reporter = Reporter(self._store, receivers(settings), secret)
        self._reporter.start()
        log.info("ready", page=f"http://127.0.0.1:{settings.sandbox_port}/_sandbox/")
        return create_app(Simulator(self._store, self._reporter))

    def close(self) -> None:
        """Stop reporting and close the file."""
        self._reporter.stop()
        self._store.close()


def receivers(settings: Settings) -> list[str]:
    """Where webhooks go: to the meta process, or to the legacy one where that runs instead."""
    places = (settings.meta_host, settings.meta_port), (settings.api_host, settings.port)
    return [f"http://{reachable_host(host)}:{port}{PATH}" for host, port in places]


def main() -> None:
    """Serve until told to stop, then finish what is in hand."""
    settings = load()
    sandbox = Sandbox(settings)
    Server(settings.sandbox_port, sandbox.build, sandbox.close).run()


if __name__ == "__main__":
    main()
