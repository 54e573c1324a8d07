"""The simulator's application: the Graph API, 360dialog's below /360dialog, and its own addresses below /_sandbox/."""

from typing import Any

from flask import Flask, request
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response

from services.sandbox import control
from services.sandbox.meta import dialog360, graph_routes
from services.sandbox.meta.answers import answer
from services.sandbox.meta.simulator import Answer, Simulator
from services.sandbox.meta.store import Filter
from services.sandbox.request_fields import GraphError
from services.sandbox.web import control as wa_control
from services.sandbox.web import page_routes
from services.sandbox.web.network import Network

#: Bytes in a request's body, at most; uploads have their own limit.
MAX_BODY = 1 << 20


def create_app(simulator: Simulator, network: Network) -> Flask:
    """The Flask application of the simulators: of the Graph API, and of WhatsApp Web."""
    app = Flask(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.register_blueprint(graph_routes.blueprint(simulator))
    app.register_blueprint(dialog360.blueprint(simulator), url_prefix=dialog360.PREFIX)
    app.register_blueprint(control.blueprint(simulator), url_prefix=control.PREFIX)
    app.register_blueprint(page_routes.blueprint(network), url_prefix=page_routes.PREFIX)
    app.register_blueprint(wa_control.blueprint(network), url_prefix=wa_control.PREFIX)
    app.register_error_handler(HTTPException, _unknown)
    app.register_error_handler(GraphError, _refused)

    @app.get("/health")
    def health() -> dict[str, Any]:
        """How much came, and how many status reports are not delivered."""
        store = simulator.store
        return {"status": "ok", "messages": store.count(Filter()), "webhooks_waiting": store.waiting()}

    return app


def _refused(error: GraphError) -> Response:
    return answer(Answer(error.http, error.envelope()))


def _unknown(error: HTTPException) -> Response:
    """Every other error, as the API says it that was asked."""
    http = error.code or 500
    if request.path.startswith(f"{dialog360.PREFIX}/") and http in (404, 405):
        return answer(dialog360.unknown(request.path))
    if http == 404:
        return _refused(GraphError(2500, "the sandbox knows no such address, see its page /_sandbox/", 400))
    if http == 405:
        return _refused(GraphError(100, f"{request.method} is not supported here", 400))
    return _refused(GraphError(131000 if http >= 500 else 100, error.description or error.name, http))
