"""The page and what it asks of its server, below /_wa/."""

import io
from importlib import resources
from typing import Any

import segno
from flask import Blueprint, abort, request, send_file
from pydantic import BaseModel, ConfigDict
from werkzeug.wrappers import Response

from services.sandbox.page import HARMLESS
from services.sandbox.requests import refuse_strangers
from services.sandbox.web.devices import Unknown, new_code, new_ref
from services.sandbox.web.network import Network, RefusedMessage

PREFIX = "/_wa"
#: Bytes of a file, at most, and of the request around it.
UPLOAD_LIMIT = 101 << 20
_TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css"}
_CLIENT = resources.files(__package__).joinpath("client")


class Seen(BaseModel):
    """How far a page is."""

    model_config = ConfigDict(frozen=True)

    seq: int
    version: int


def blueprint(network: Network) -> Blueprint:
    """All of them. None needs a key: they are on loopback."""
    routes = Blueprint("wa", __name__)
    routes.before_request(refuse_strangers)
    routes.register_error_handler(Unknown, lambda error: ({"error": str(error)}, 404))
    routes.register_error_handler(RefusedMessage, lambda error: ({"error": str(error)}, 400))
    routes.register_error_handler(ConnectionError, lambda error: ({"error": str(error)}, 503))
    for add in (_add_files, _add_connection, _add_link, _add_messages, _add_actions):
        add(routes, network)
    return routes


def _device() -> str:
    return request.args.get("device", "")


def _boot() -> str:
    return request.args.get("boot", "")


def _add_files(routes: Blueprint, network: Network) -> None:
    @routes.get("/")
    def page() -> Response:
        return _static("index.html")

    @routes.get("/client/<name>")
    def client(name: str) -> Response:
        return _static(name)

    @routes.get("/code.svg")
    def picture() -> Response:
        """A QR code as a picture."""
        drawn = io.BytesIO()
        segno.make(request.args.get("text", ""), error="m").save(drawn, kind="svg", scale=4, border=0)
        return Response(drawn.getvalue(), mimetype="image/svg+xml")

    @routes.get("/media/<media_id>")
    def media(media_id: str) -> Response:
        found = network.files.find(media_id) or abort(404)
        response = send_file(network.files.path(media_id).absolute(), found["mimetype"])
        response.headers.update(HARMLESS)
        return response


def _static(name: str) -> Response:
    file = _CLIENT.joinpath(name)
    kind = _TYPES.get(name[name.rfind(".") :])
    if kind is None or not file.is_file():
        abort(404)
    return Response(file.read_bytes(), mimetype=kind, headers={"Cache-Control": "no-store"})


def _add_connection(routes: Blueprint, network: Network) -> None:
    @routes.post("/api/hello")
    def hello() -> dict[str, Any]:
        return network.hello(_device(), _boot())

    @routes.post("/api/news")
    def news() -> dict[str, Any]:
        seen = Seen.model_validate_json(request.get_data())
        return network.tell(_device(), _boot(), seen.seq, seen.version)

    @routes.post("/api/history")
    def history() -> dict[str, Any]:
        return network.chats.history(network.linked(_device()))


def _add_link(routes: Blueprint, network: Network) -> None:
    devices = network.devices

    @routes.post("/api/ref")
    def ref() -> dict[str, Any]:
        """The next QR code."""
        if not network.reach(_device()).number:
            devices.change(_device(), ref=new_ref())
        return {}

    @routes.post("/api/code")
    def code() -> dict[str, Any]:
        """A pairing code to type in on the phone."""
        made, number = new_code(), str(request.get_json(force=True)["number"])
        devices.change(_device(), code=made, code_for=number.lstrip("+"))
        return {"code": made}

    @routes.post("/api/logout")
    def logout() -> dict[str, Any]:
        devices.unlink(_device())
        return {}

    @routes.post("/api/takeover")
    def takeover() -> dict[str, Any]:
        devices.change(_device(), boot=_boot())
        return {}


def _add_messages(routes: Blueprint, network: Network) -> None:
    @routes.post("/api/media")
    def upload() -> dict[str, Any]:
        request.max_content_length = UPLOAD_LIMIT
        network.linked(_device())
        return network.files.keep(request.stream, request.args.get("mimetype", ""), request.args.get("filename"))

    @routes.post("/api/send")
    def send() -> dict[str, Any]:
        request.max_content_length = UPLOAD_LIMIT
        return {"ack": network.send(_device(), request.get_json(force=True))}

    @routes.post("/api/edit")
    def edit() -> dict[str, Any]:
        number, asked = _asked(network, "edit")
        return {"message": network.change(number, "edit", asked["about"], None, body=asked["body"])}

    @routes.post("/api/revoke")
    def revoke() -> dict[str, Any]:
        number, asked = _asked(network, "revoke")
        return {"message": network.change(number, "revoke", asked["about"], None)}

    @routes.post("/api/forget")
    def forget() -> dict[str, Any]:
        number, asked = _asked(network, "forget")
        network.chats.forget(number, asked["about"])
        return {}

    @routes.post("/api/react")
    def react() -> dict[str, Any]:
        number, asked = _asked(network, "react")
        network.chats.react(number, asked["about"], f"{number}@c.us", asked["text"])
        return {}


def _add_actions(routes: Blueprint, network: Network) -> None:
    @routes.post("/api/message")
    def message() -> dict[str, Any]:
        key = str(request.get_json(force=True)["key"])
        return {"message": network.chats.find(network.linked(_device()), key)}

    @routes.post("/api/reject")
    def reject() -> dict[str, Any]:
        """A call."""
        _asked(network, "reject")
        return {}

    @routes.post("/api/seen")
    def seen() -> dict[str, Any]:
        number, asked = _asked(network, "seen")
        network.chats.see(number, asked["chat"])
        return {}

    @routes.post("/api/typing")
    def typing() -> dict[str, Any]:
        _asked(network, "typing")
        return {}

    @routes.post("/api/exists")
    def exists() -> dict[str, Any]:
        _, asked = _asked(network, "exists")
        return network.exists(asked["chat"])


def _asked(network: Network, kind: str) -> tuple[str, dict[str, Any]]:
    """Who asks, and what; it is remembered as an action."""
    number, asked = network.linked(_device()), request.get_json(force=True)
    text = asked.get("text") or asked.get("body") or asked.get("state") or ""
    network.chats.act(number, kind, asked.get("chat", ""), asked.get("about", ""), text)
    return number, asked
