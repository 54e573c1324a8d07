"""The simulator's addresses: those of the Graph API, and its own below /_sandbox/."""

import socket
import time
from typing import Any

from flask import Blueprint, Flask, Response, jsonify, request
from pydantic import ValidationError
from werkzeug.exceptions import HTTPException, NotFound

from services.sandbox.behaviour import Behaviour
from services.sandbox.graph import GraphError
from services.sandbox.page import render
from services.sandbox.simulator import Answer, Simulator
from services.sandbox.store import Filter

#: Bytes in a request's body, at most.
MAX_BODY = 1 << 20
#: Messages in one list, at most and by default.
MAX_LIST = 10_000
#: Messages on the page.
SHOWN = 500


def create_app(simulator: Simulator) -> Flask:
    """The Flask application of the simulator."""
    app = Flask(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.register_blueprint(_graph(simulator))
    app.register_blueprint(_control(simulator), url_prefix="/_sandbox")
    app.register_error_handler(HTTPException, _unknown)

    @app.get("/health")
    def health() -> dict[str, Any]:
        """How much came, and how many status reports are not delivered."""
        store = simulator.store
        return {"status": "ok", "messages": store.count(Filter()), "webhooks_waiting": store.waiting()}

    return app


def _graph(simulator: Simulator) -> Blueprint:
    graph = Blueprint("graph", __name__)

    @graph.post("/<version>/<int:phone_number_id>/messages")
    def send(version: str, phone_number_id: int) -> Response:
        if not version.startswith("v"):
            raise NotFound
        return _answer(simulator.send(str(phone_number_id), request.headers.get("Authorization"), request.get_data()))

    return graph


def _answer(answer: Answer) -> Response:
    time.sleep(answer.delay)
    if answer.cut:
        _cut()
    response = jsonify(answer.body)
    response.status_code = answer.http
    return response


def _cut() -> None:
    """Close the connection under the answer, which then has nowhere to go."""
    connection: socket.socket = request.environ["gunicorn.socket"]
    connection.shutdown(socket.SHUT_RDWR)


def _unknown(error: HTTPException) -> Response:
    """Every other error, as the Graph API says it."""
    http = error.code or 500
    if http == 404:
        refused = GraphError(2500, "the sandbox knows POST /<version>/<phone_number_id>/messages", 400)
    elif http == 405:
        refused = GraphError(100, f"{request.method} is not supported here", 400)
    else:
        refused = GraphError(131000 if http >= 500 else 100, error.description or error.name, http)
    response = jsonify(refused.envelope())
    response.status_code = refused.http
    return response


def _control(simulator: Simulator) -> Blueprint:
    control = Blueprint("control", __name__)
    store, behaviours = simulator.store, simulator.behaviours

    @control.get("/")
    def page() -> str:
        return render(request.base_url, store.latest(SHOWN), behaviours.all(), store.waiting())

    @control.get("/messages")
    def messages() -> dict[str, Any]:
        """What came, in its order; `receipts` counts how often each callback data was taken."""
        asked = _filter()
        limit = min(request.args.get("limit", MAX_LIST, type=int), MAX_LIST)
        return {
            "count": store.count(asked), "messages": store.messages(asked, limit), "receipts": store.receipts(asked)
        }  # fmt: skip

    @control.get("/behaviour")
    def behaviour() -> dict[str, Any]:
        return {"behaviours": [rule.model_dump(exclude_defaults=True) for rule in behaviours.all()]}

    @control.post("/behaviour")
    def behave() -> Any:
        try:
            behaviours.add(Behaviour.model_validate_json(request.get_data() or b"{}"))
        except ValidationError as error:
            return {"success": False, "error": str(error), "code": "invalid_request"}, 400
        return behaviour()

    @control.delete("/behaviour")
    def behave_well() -> dict[str, Any]:
        behaviours.clear()
        return behaviour()

    @control.post("/reset")
    def reset() -> dict[str, Any]:
        simulator.reset()
        return {"success": True}

    return control


def _filter() -> Filter:
    asked = request.args
    accepted = asked.get("accepted")
    return Filter(
        asked.get("phone_number_id"), asked.get("to"), asked.get("text"), asked.get("biz_opaque_callback_data"),
        None if accepted is None else accepted in ("true", "1"), asked.get("after", 0, type=int),
    )  # fmt: skip
