"""Adds Meta's side to the application: the Graph API at /, 360dialog's API at /360dialog, controls at /_sandbox/."""

from flask import Flask, request
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response

from services.sandbox.meta.request_fields import GraphError
from services.sandbox.meta.routes import control, dialog360, graph
from services.sandbox.meta.routes.answers import respond
from services.sandbox.meta.simulator import Answer, Simulator


def register(app: Flask, simulator: Simulator) -> None:
    """Add the routes. The Graph API is at the root, so errors of unknown paths are its errors, too."""
    app.register_blueprint(graph.blueprint(simulator))
    app.register_blueprint(dialog360.blueprint(simulator), url_prefix=dialog360.PREFIX)
    app.register_blueprint(control.blueprint(simulator), url_prefix=control.PREFIX)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(GraphError, _graph_error)


def _graph_error(error: GraphError) -> Response:
    return respond(Answer(error.http, error.envelope()))


def _http_error(error: HTTPException) -> Response:
    """Errors that Flask raises, in the form of the API that was called."""
    http = error.code or 500
    if request.path.startswith(f"{dialog360.PREFIX}/") and http in (404, 405):
        return respond(dialog360.unknown_path(request.path))
    if http == 404:
        return _graph_error(GraphError(2500, "the sandbox has no such path, see its page /_sandbox/", 400))
    if http == 405:
        return _graph_error(GraphError(100, f"{request.method} is not supported here", 400))
    return _graph_error(GraphError(131000 if http >= 500 else 100, error.description or error.name, http))
