"""The page and its requests, below /_wa/."""

import io
from importlib import resources
from typing import Any

import segno
from flask import Blueprint, abort, request, send_file
from pydantic import BaseModel, ConfigDict
from werkzeug.wrappers import Response

from services.sandbox.control_page import FILE_HEADERS
from services.sandbox.web.devices import NotFound, new_pairing_code, new_ref
from services.sandbox.web.network import Network, RefusedMessage

PREFIX = "/_wa"
#: The biggest file of WhatsApp, and the request around it.
MAX_UPLOAD_BYTES = 101 << 20
_TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css"}
_CLIENT = resources.files(__package__).joinpath("client")


class Position(BaseModel):
    """The last update and the version of the state that a page has."""

    model_config = ConfigDict(frozen=True)

    seq: int
    version: int


def blueprint(network: Network) -> Blueprint:
    """All routes of the page. None needs a key: they listen on loopback."""
    routes = Blueprint("wa", __name__)
    routes.register_error_handler(NotFound, lambda error: ({"error": str(error)}, 404))
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
    def qr_code() -> Response:
        """A QR code as a picture."""
        picture = io.BytesIO()
        segno.make(request.args.get("text", ""), error="m").save(picture, kind="svg", scale=4, border=0)
        return Response(picture.getvalue(), mimetype="image/svg+xml")

    @routes.get("/media/<media_id>")
    def media(media_id: str) -> Response:
        file = network.files.find(media_id) or abort(404)
        response = send_file(network.files.path(media_id).absolute(), file["mimetype"])
        response.headers.update(FILE_HEADERS)
        return response


def _static(name: str) -> Response:
    file = _CLIENT.joinpath(name)
    mime_type = _TYPES.get(name[name.rfind(".") :])
    if mime_type is None or not file.is_file():
        abort(404)
    return Response(file.read_bytes(), mimetype=mime_type, headers={"Cache-Control": "no-store"})


def _add_connection(routes: Blueprint, network: Network) -> None:
    @routes.post("/api/hello")
    def hello() -> dict[str, Any]:
        return network.page_loaded(_device(), _boot())

    @routes.post("/api/updates")
    def updates() -> dict[str, Any]:
        position = Position.model_validate_json(request.get_data())
        return network.poll(_device(), _boot(), position.seq, position.version)

    @routes.post("/api/history")
    def history() -> dict[str, Any]:
        return network.chats.history(network.linked_number(_device()))


def _add_link(routes: Blueprint, network: Network) -> None:
    devices = network.devices

    @routes.post("/api/ref")
    def ref() -> dict[str, Any]:
        """Request the next QR code."""
        if not network.online_device(_device()).number:
            devices.change(_device(), ref=new_ref())
        return {}

    @routes.post("/api/code")
    def code() -> dict[str, Any]:
        """Request a pairing code."""
        pairing_code, number = new_pairing_code(), str(request.get_json(force=True)["number"])
        devices.change(_device(), code=pairing_code, code_for=number.lstrip("+"))
        return {"code": pairing_code}

    @routes.post("/api/logout")
    def logout() -> dict[str, Any]:
        devices.unlink(_device())
        return {}

    @routes.post("/api/takeover")
    def takeover() -> dict[str, Any]:
        """Use WhatsApp in this window after a conflict."""
        devices.change(_device(), boot=_boot())
        return {}


def _add_messages(routes: Blueprint, network: Network) -> None:
    @routes.post("/api/media")
    def upload() -> dict[str, Any]:
        request.max_content_length = MAX_UPLOAD_BYTES
        network.linked_number(_device())
        return network.files.store(request.stream, request.args.get("mimetype", ""), request.args.get("filename"))

    @routes.post("/api/send")
    def send() -> dict[str, Any]:
        request.max_content_length = MAX_UPLOAD_BYTES
        return {"ack": network.send(_device(), request.get_json(force=True))}

    @routes.post("/api/edit")
    def edit() -> dict[str, Any]:
        number, fields = _record_action(network, "edit")
        return {"message": network.change(number, "edit", fields["about"], None, body=fields["body"])}

    @routes.post("/api/revoke")
    def revoke() -> dict[str, Any]:
        number, fields = _record_action(network, "revoke")
        return {"message": network.change(number, "revoke", fields["about"], None)}

    @routes.post("/api/forget")
    def forget() -> dict[str, Any]:
        number, fields = _record_action(network, "forget")
        network.chats.delete(number, fields["about"])
        return {}

    @routes.post("/api/react")
    def react() -> dict[str, Any]:
        number, fields = _record_action(network, "react")
        network.chats.react(number, fields["about"], f"{number}@c.us", fields["text"])
        return {}


def _add_actions(routes: Blueprint, network: Network) -> None:
    @routes.post("/api/message")
    def message() -> dict[str, Any]:
        key = str(request.get_json(force=True)["key"])
        return {"message": network.chats.find(network.linked_number(_device()), key)}

    @routes.post("/api/reject")
    def reject() -> dict[str, Any]:
        """Reject a call."""
        _record_action(network, "reject")
        return {}

    @routes.post("/api/seen")
    def seen() -> dict[str, Any]:
        number, fields = _record_action(network, "seen")
        network.chats.mark_seen(number, fields["chat"])
        return {}

    @routes.post("/api/typing")
    def typing() -> dict[str, Any]:
        _record_action(network, "typing")
        return {}

    @routes.post("/api/exists")
    def exists() -> dict[str, Any]:
        _, fields = _record_action(network, "exists")
        return network.lookup(fields["chat"])


def _record_action(network: Network, kind: str) -> tuple[str, dict[str, Any]]:
    """Record the request as an action of the page. Returns the number of the page and the fields."""
    number, fields = network.linked_number(_device()), request.get_json(force=True)
    text = fields.get("text") or fields.get("body") or fields.get("state") or ""
    network.chats.add_action(number, kind, fields.get("chat", ""), fields.get("about", ""), text)
    return number, fields
