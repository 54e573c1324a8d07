"""The application of all simulated networks."""

from typing import Any

from flask import Flask

from services.sandbox.meta import blueprints as meta
from services.sandbox.meta.simulator import Simulator
from services.sandbox.meta.store import Filter
from services.sandbox.web import blueprints as web
from services.sandbox.web.network import Network

#: Uploads have limits of their own.
MAX_BODY_BYTES = 1 << 20


def create_app(simulator: Simulator, network: Network) -> Flask:
    """The Flask application. `simulator` is Meta's side, `network` that of WhatsApp Web."""
    app = Flask(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    app.json.sort_keys = False  # type: ignore[attr-defined]
    meta.register(app, simulator)
    web.register(app, network)

    @app.get("/health")
    def health() -> tuple[dict[str, Any], int]:
        """How many messages Meta's side received, how many webhooks are not delivered, and why none can be sent."""
        store, error = simulator.store, simulator.webhook_sender.error
        counts = {"messages": store.count(Filter()), "webhooks_waiting": store.count_undelivered()}
        if error is None:
            return {"status": "ok", **counts}, 200
        return {"status": "unhealthy", **counts, "webhooks_stopped": error}, 503

    return app
