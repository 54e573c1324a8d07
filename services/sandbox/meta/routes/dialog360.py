"""The routes of 360dialog, below /360dialog (its documentation, "WhatsApp API"): Meta's payloads, its own keys."""

from typing import Any

from flask import Blueprint, request
from werkzeug.wrappers import Response

from services.sandbox.control_requests import sent_fields
from services.sandbox.meta.media import DOWNLOAD_PATH
from services.sandbox.meta.request_fields import GraphError, check_product, required
from services.sandbox.meta.routes.answers import MAX_UPLOAD_BYTES, respond
from services.sandbox.meta.simulator import Answer, Simulator, dialog360_error

PREFIX = "/360dialog"
#: The host in the API's download URLs. Clients replace it by the API's own host.
MEDIA_HOST = "https://lookaside.fbsbx.com"
#: Keys with these prefixes are refused.
BAD_KEY_PREFIXES = ("expired", "invalid")


class BadKey(Exception):
    """The key is missing or invalid."""


def _number(simulator: Simulator) -> str:
    """The number of the request's key. Raises `BadKey`."""
    key = request.headers.get("D360-API-KEY", "").strip()
    if not key or key.startswith(BAD_KEY_PREFIXES) or not simulator.registry.facts("key", key).get("is_valid", True):
        raise BadKey
    return simulator.registry.number_of_key(key)


def blueprint(simulator: Simulator) -> Blueprint:
    """All routes of 360dialog."""
    dialog = Blueprint("dialog360", __name__)
    for add in (_add_messages, _add_media, _add_files, _add_settings):
        add(dialog, simulator)

    @dialog.errorhandler(BadKey)
    def refuse(_: BadKey) -> Response:
        return respond(dialog360_error(401, "Invalid api key"))

    return dialog


def unknown_path(path: str) -> Answer:
    """The answer at a path that does not exist."""
    return dialog360_error(403, f"Forbidden: there is no {path}")


def _add_messages(dialog: Blueprint, simulator: Simulator) -> None:
    @dialog.post("/messages")
    def send() -> Response:
        return respond(simulator.send_authorised(_number(simulator), request.get_data()))


def _add_media(dialog: Blueprint, simulator: Simulator) -> None:
    media = simulator.media

    @dialog.post("/media")
    def upload() -> Response:
        number = _number(simulator)

        def store() -> dict[str, Any]:
            request.max_content_length = MAX_UPLOAD_BYTES
            check_product(request.form)
            return media.upload(number, request.files.get("file"), request.form.get("type"))

        return respond(simulator.call("upload", number, store))


def _add_files(dialog: Blueprint, simulator: Simulator) -> None:
    media = simulator.media

    @dialog.get("/<int:media_id>")
    def show(media_id: int) -> Response:
        _number(simulator)
        name = str(media_id)
        return respond(simulator.call("media", name, lambda: media.described(media.find(name), MEDIA_HOST)))

    @dialog.delete("/<int:media_id>")
    def delete(media_id: int) -> Response:
        _number(simulator)

        def forget() -> dict[str, Any]:
            media.delete(str(media_id))
            return {"success": True}

        return respond(simulator.call("media", str(media_id), forget))

    @dialog.get(DOWNLOAD_PATH)
    def download() -> Response:
        _number(simulator)
        query = request.args
        return respond(simulator.download(query.get("mid", ""), query.get("ext", ""), query.get("hash", "")))


def _add_settings(dialog: Blueprint, simulator: Simulator) -> None:
    registry = simulator.registry

    @dialog.get("/health_status")
    def health_status() -> Response:
        number = _number(simulator)
        return respond(simulator.call("management", request.path, lambda: simulator.management.health_of(number)))

    @dialog.get("/v1/configs/templates")
    def templates() -> Response:
        _number(simulator)
        return respond(simulator.call("templates", "", lambda: simulator.management.dialog360_templates(request.args)))

    @dialog.get("/v1/configs/webhook")
    def webhook() -> Response:
        number = _number(simulator)
        return respond(simulator.call("management", request.path, lambda: registry.facts("webhook", number)))

    @dialog.post("/v1/configs/webhook")
    def set_webhook() -> Response:
        number = _number(simulator)

        def store() -> dict[str, Any]:
            fields = sent_fields()
            headers = fields.get("headers") or {}
            if not isinstance(headers, dict) or not all(isinstance(value, str) for value in headers.values()):
                raise GraphError(100, "headers must be an object of strings")
            return registry.update("webhook", number, {"url": required(fields, "url"), "headers": headers})

        return respond(simulator.call("management", request.path, store))
