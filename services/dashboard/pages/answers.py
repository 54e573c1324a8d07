"""Messages that people write into chats, and the files of messages. Both go through the API, with the operator's key.

A form has a name of its own, by which the API knows it again: a form that is sent twice, by a double click or because
the first answer was lost, sends one message.
"""

import hashlib
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, cast

from flask import Blueprint, Response, abort, redirect, request, url_for
from werkzeug.datastructures import FileStorage

from bisnesctl.clients.api_client import ApiClient, Refused, SendAnswer, Upload
from bisnesctl.errors import BisnesError
from bisnesctl.people.roles import Role
from services.dashboard import access, audit, parameters, texts
from services.dashboard.access import needs
from services.dashboard.context import context
from services.dashboard.pages import chats
from services.dashboard.pages.chats import Place
from services.database.connection import as_uuid
from services.http_server.error_codes import ErrorCode
from services.media import kinds, names

pages = Blueprint("answers", __name__)
#: Bytes of a form with a file.
MAX_FILE_FORM = chats.MAX_FILE + 256 * kinds.KB
#: Kinds of messages by the types of their files; a file of another type is a document.
FILE_KINDS = ("image", "video", "audio")
#: Headers of the API's answer with a file that the browser gets.
_FILE_HEADERS = ("Content-Type", "Content-Length", "Content-Disposition", "Content-Range", "Accept-Ranges")
#: Makes the page that says why something was not sent, from the status, the reason and the name of the form.
Failed = Callable[[int, str, str], Any]
_FORM_NAME = re.compile(r"[0-9a-f]{32}")
_FILE_PATH = re.compile(r"/ui/(?:chats/[^/]+/[^/]+/answer|sandbox/say)")


def large_form(path: str) -> int | None:
    """Bytes of a form at this path, if it takes a file."""
    return MAX_FILE_FORM if _FILE_PATH.fullmatch(path) else None


@pages.post("/chats/<company>/<chat>/answer")
@needs(Role.OPERATOR, company=True, max_form=MAX_FILE_FORM)
def answer(company: str, chat: str) -> Any:
    """Send a text, or a file with the text as its caption."""
    place, file = chats.place(company, chat), request.files.get("file")
    text, fields = request.form.get("text", "").replace("\r\n", "\n").strip("\n"), _fields()
    if reply := request.form.get("reply", ""):
        fields["quotedMessageId"] = reply
    if file is None or not file.filename:
        if not text.strip():
            return chats.page(place, _phone(), 400, texts.text("chats.empty"), _typed())
        return _send(
            place, "text", lambda api, key: api.send(company, place.chat, "text", fields | {"message": text}, key)
        )
    kind, upload = _file(file)
    given = {name: str(value) for name, value in fields.items()} | ({"caption": text} if text else {})
    return _send(place, kind, lambda api, key: api.send_file(company, place.chat, kind, given, upload, key))


@pages.post("/chats/<company>/<chat>/template")
@needs(Role.OPERATOR, company=True)
def template(company: str, chat: str) -> Any:
    """Send a template, whose variables are lines of the form."""
    place, form = chats.place(company, chat), request.form
    fields = _fields() | {
        "templateName": form.get("template", "").strip(), "language": form.get("language", "").strip(),
        "variables": [line.strip() for line in form.get("variables", "").strip().splitlines()],
    }  # fmt: skip
    return _send(place, "template", lambda api, key: api.send(company, place.chat, "template", fields, key))


@pages.post("/chats/<company>/<chat>/reaction")
@needs(Role.OPERATOR, company=True)
def reaction(company: str, chat: str) -> Any:
    """React to a message, or remove the reaction."""
    place, form = chats.place(company, chat), request.form
    message, emoji = form.get("message", ""), form.get("reaction", "")
    # Updates of the page show the same form again, so its name is made of the state that the person saw.
    name = hashlib.sha256("\n".join((message, emoji, form.get("state", ""))).encode()).hexdigest()[:32]
    phone = _phone() or 0
    return _send(place, "reaction", lambda api, key: api.react(company, message, phone, emoji, key), name)


@pages.get("/chats/<company>/files/<message>")
@needs(Role.VIEWER, company=True)
def file(company: str, message: str) -> Any:
    """The file of a message, as the API serves it."""
    chats.require(company)
    if as_uuid(message) is None:
        abort(404)
    try:
        found = context().api().file(company, message, request.headers.get("Range"))
    except Refused:  # it is not there, or not there yet
        abort(404)
    headers = {name: found.headers[name] for name in _FILE_HEADERS if name in found.headers}
    return Response(found.chunks, found.status, headers, direct_passthrough=True)


def send_template(place: Place, fields: dict[str, Any], show: Failed) -> Any:
    """Send a template with its components. `show`: makes the page if that fails."""
    given = _fields() | fields
    company, chat = place.company, place.chat
    return _send(place, "template", lambda api, key: api.send(company, chat, "template", given, key), show=show)


def _send(
    place: Place, kind: str, send: Callable[[ApiClient, str], SendAnswer], name: str = "", show: Failed | None = None
) -> Any:
    """Sends something once, and shows the chat; with the reason and what was typed if that fails."""
    key = name or form_name()
    try:
        sent = send(context().api(), f"dashboard-{key}")
    except BisnesError as error:
        is_conflict = isinstance(error, Refused) and error.code == ErrorCode.IDEMPOTENCY_CONFLICT.value
        reason = texts.text("chats.sent_before") if is_conflict else str(error)
        show = show or partial(_show_chat, place)
        # A reaction has no form that could be sent again; neither has one that was sent with another content.
        status, is_over = 400 if isinstance(error, Refused) else 503, is_conflict or name != ""
        return show(status, reason, chats.new_form_name() if is_over else key)
    if not sent.repeated:
        person = access.person().name
        about = {"chat": place.chat, "phone": _phone(), "message": sent.message_id}
        audit.record(context().settings, person, f"send {kind}", place.company, **about)
    return redirect(url_for("chats.show", company=place.company, chat=place.chat, phone=_phone()))


def _show_chat(place: Place, status: int, reason: str, key: str) -> Any:
    return chats.page(place, _phone(), status, reason, dict(_typed()) | {"key": key})


def _fields() -> dict[str, Any]:
    return {"phoneIndex": _phone() or 0, "userName": access.person().name}


def _phone() -> int | None:
    return parameters.number(request.form.get("phone"))


def form_name() -> str:
    """The name of the form that was sent, or a new one."""
    name = request.form.get("key", "")
    return name if _FORM_NAME.fullmatch(name) else chats.new_form_name()


def _typed() -> Mapping[str, str]:
    """The typed values, and the name of the form: sent again, it sends one message even if the answer was lost."""
    names_ = ("text", "template", "language", "variables", "reply")
    return {name: request.form.get(name, "") for name in names_} | {"key": form_name()}


def _file(upload: FileStorage) -> tuple[str, Upload]:
    """The kind of message that carries a file, by its content, and the file."""
    head = upload.stream.read(kinds.HEAD)
    upload.stream.seek(0)
    mime_type = kinds.true_type(head, kinds.normalise(upload.mimetype))
    kind = next((each for each in FILE_KINDS if mime_type in kinds.KINDS[each].types), "document")
    name = names.safe(upload.filename) or f"file.{kinds.extension(mime_type)}"
    return kind, Upload(name, cast(Any, upload.stream), kinds.normalise(upload.mimetype))
