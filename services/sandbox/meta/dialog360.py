"""The addresses of 360dialog below /360dialog (its documentation, "WhatsApp API"): Meta's payloads, its own keys."""

from typing import Any

from flask import Blueprint, request
from werkzeug.wrappers import Response

from services.sandbox.meta.answers import UPLOAD_LIMIT, answer
from services.sandbox.meta.media import DOWNLOADS
from services.sandbox.meta.simulator import Answer, Simulator, dialog_error
from services.sandbox.request_fields import GraphError, check_product, required
from services.sandbox.requests import sent_fields

PREFIX = "/360dialog"
#: Where the API says that media lie; clients put its own address in the place of this one.
MEDIA_HOST = "https://lookaside.fbsbx.com"
#: Keys that begin so are refused.
BAD_KEYS = ("expired", "invalid")


class BadKey(Exception):
    """The key is missing, or not one of 360dialog's."""


def _number(simulator: Simulator) -> str:
    """The number of the key that came. Raises `BadKey`."""
    key = request.headers.get("D360-API-KEY", "").strip()
    if not key or key.startswith(BAD_KEYS) or not simulator.registry.facts("key", key).get("is_valid", True):
        raise BadKey
    return simulator.registry.number_of_key(key)


def blueprint(simulator: Simulator) -> Blueprint:
    """All of them."""
    dialog = Blueprint("dialog360", __name__)
    for add in (_add_messages, _add_media, _add_files, _add_settings):
        add(dialog, simulator)

    @dialog.errorhandler(BadKey)
    def refuse(_: BadKey) -> Response:
        return answer(dialog_error(401, "Invalid api key"))

    return dialog


def unknown(path: str) -> Answer:
    """The answer at an address that is not there."""
    return dialog_error(403, f"Forbidden: there is no {path}")


def _add_messages(dialog: Blueprint, simulator: Simulator) -> None:
    @dialog.post("/messages")
    def send() -> Response:
        return answer(simulator.take(_number(simulator), request.get_data()))


def _add_media(dialog: Blueprint, simulator: Simulator) -> None:
    media = simulator.media

    @dialog.post("/media")
    def upload() -> Response:
        number = _number(simulator)

        def keep() -> dict[str, Any]:
            request.max_content_length = UPLOAD_LIMIT
            check_product(request.form)
            return media.upload(number, request.files.get("file"), request.form.get("type"))

        return answer(simulator.call("upload", number, keep))


def _add_files(dialog: Blueprint, simulator: Simulator) -> None:
    media = simulator.media

    @dialog.get("/<int:media_id>")
    def show(media_id: int) -> Response:
        _number(simulator)
        name = str(media_id)
        return answer(simulator.call("media", name, lambda: media.described(media.find(name), MEDIA_HOST)))

    @dialog.delete("/<int:media_id>")
    def delete(media_id: int) -> Response:
        _number(simulator)

        def forget() -> dict[str, Any]:
            media.delete(str(media_id))
            return {"success": True}

        return answer(simulator.call("media", str(media_id), forget))

    @dialog.get(DOWNLOADS)
    def download() -> Response:
        _number(simulator)
        asked = request.args
        return answer(simulator.download(asked.get("mid", ""), asked.get("ext", ""), asked.get("hash", "")))


def _add_settings(dialog: Blueprint, simulator: Simulator) -> None:
    registry = simulator.registry

    @dialog.get("/health_status")
    def health_status() -> Response:
        number = _number(simulator)
        return answer(simulator.call("management", request.path, lambda: simulator.management.health_of(number)))

    @dialog.get("/v1/configs/webhook")
    def webhook() -> Response:
        number = _number(simulator)
        return answer(simulator.call("management", request.path, lambda: registry.facts("webhook", number)))

    @dialog.post("/v1/configs/webhook")
    def set_webhook() -> Response:
        number = _number(simulator)

        def keep() -> dict[str, Any]:
            fields = sent_fields()
            headers = fields.get("headers") or {}
            if not isinstance(headers, dict) or not all(isinstance(value, str) for value in headers.values()):
                raise GraphError(100, "headers must be an object of strings")
            return registry.tell("webhook", number, {"url": required(fields, "url"), "headers": headers})

        return answer(simulator.call("management", request.path, keep))
