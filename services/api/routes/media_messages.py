"""Messages with a file over HTTP: image, video, audio, document and sticker; by link, as a data URL or uploaded."""

import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import IO, Any

from flask import g, request
from werkzeug.datastructures import MultiDict
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.http import parse_options_header

from services.api.auth import Auth, context, resource
from services.api.field_names import MAX_SHOWN_NAME, check_body
from services.api.messages import request_fields, sends, uploads
from services.api.messages.outcomes import Answer
from services.api.messages.request_fields import Fields, invalid
from services.api.messages.sends import PREFIX, Send
from services.api.messages.uploads import SPOOLED_BYTES, Upload
from services.api.openapi import problems
from services.api.schemas.base import Accepted, ChatPath, SendHeaders, SendQuery
from services.api.schemas.sends import (
    AudioMessage,
    DocumentMessage,
    ImageMessage,
    MediaMessage,
    StickerMessage,
    VideoMessage,
    form_or_json,
)
from services.media import names
from services.media.kinds import KB, KINDS, MB
from services.message import Bot, StoredFile

media_messages = resource("files", "Send images, videos, audio, documents and stickers.", Auth.COMPANY, recorded=False)

#: Bytes of a JSON body with a data URL.
MAX_JSON_BYTES = 24 * MB
#: Bytes of a body that every kind allows.
MIN_LIMIT_BYTES = MB
#: Bytes of a body that are not its file.
FIELD_BYTES = 64 * KB
#: Parts of a form.
MAX_FORM_PARTS = 20
#: Limits the large data URLs that are read at a time: each needs several times its size of memory.
_READERS = threading.BoundedSemaphore(2)


@dataclass(frozen=True, slots=True)
class _Kind:
    """A kind of message with a file."""

    name: str
    url_field: str
    schema: type[MediaMessage]
    about: str


_KINDS = (
    _Kind("image", "imageUrl", ImageMessage, "JPEG or PNG, at most 5 MB."),
    _Kind("video", "videoUrl", VideoMessage, "MP4 or 3GP (H.264 and AAC), at most 16 MB."),
    _Kind(
        "audio", "audioUrl", AudioMessage,
        "AAC, AMR, MP3, M4A or OGG with Opus, at most 16 MB; a voice message (`voice`) must be OGG with Opus.",
    ),
    _Kind(
        "document", "documentUrl", DocumentMessage,
        "At most 100 MB: any file over WhatsApp Web; over Meta PDF, Word, Excel, PowerPoint and plain text.",
    ),
    _Kind("sticker", "stickerUrl", StickerMessage, "WebP, at most 100 KB; animated at most 500 KB."),
)  # fmt: skip

_FORM = "multipart/form-data"
#: A link, or the file itself.
Source = str | Upload


def _serve(kind: _Kind) -> None:
    @media_messages.post(
        f"{PREFIX}{kind.name}/<companyId>/<chatId>",
        endpoint=f"send_{kind.name}",
        operation_id=f"send_{kind.name}",
        summary=f"Send a{'n' if kind.name[0] in 'aeiou' else ''} {kind.name}",
        description=(
            f"{kind.about} `{kind.url_field}` is a link, which the provider fetches, or a data URL; or the body is a "
            "form (multipart/form-data) with the file as its part `file`. Answers like a text."
        ),
        responses={
            200: Accepted,
            202: Accepted,
            **problems("invalid_request", "invalid_json", "invalid_chat_id", "text_too_long", "unsupported_media"),
            **problems("unknown_bot", "unknown_message"),
            **problems("idempotency_conflict", "unsupported_by_channel", "ambiguous_message", "not_sent"),
            **problems("media_too_large", "media_quota_exceeded", "backlog_full", "too_many_idempotency_keys"),
            **problems("send_failed", "database_unavailable", "media_unavailable"),
        },
        openapi_extensions={"requestBody": form_or_json(kind.schema, kind.url_field)},
    )
    def send(path: ChatPath, query: SendQuery, header: SendHeaders) -> Answer:
        """Send a message with a file."""
        return _send(kind, path, header.idempotency_key)


for _kind in _KINDS:
    _serve(_kind)


def _send(kind: _Kind, path: ChatPath, idempotency_key: str | None) -> Answer:
    chat = request_fields.chat(path.chat_id, path.company_id)
    key, wait = request_fields.idempotency_key(idempotency_key), request_fields.wait(request.args.get("wait"))
    given, source = _read(kind)
    payload = request_fields.captioned(given)
    send = Send(path.company_id, chat, request_fields.phone_index(given), kind.name, payload, key, wait)
    voice = kind.name == "audio" and request_fields.flag(given, "voice")
    if voice:
        payload["voice"] = True
    if kind.name == "document" and (name := _filename(given, source)):
        payload["filename"] = name
    bot = sends.look_up(context(), send)
    sends.check(send, bot)  # the file is stored when everything else is checked
    payload["media"] = _media(source, send, bot, "voice" if voice else kind.name)
    return sends.deliver(context(), g.principal, send, bot).as_answer()


def _media(source: Source, send: Send, bot: Bot, kind: str) -> StoredFile:
    if isinstance(source, str):
        return {"link": source}
    put = partial(context().media.put, message_id=send.message_id)
    return source.store(put, bot.company_id, kind, partial(sends.check_file, kind, bot=bot))


def _filename(given: Fields, source: Source) -> str | None:
    if name := names.safe(request_fields.optional(given, "filename")):
        return name
    return names.of_url(source) if isinstance(source, str) else source.filename


def body_limit(path: str, content_type: str) -> int | None:
    """Maximum bytes of a body at this address; None if the address accepts no file."""
    for kind in _KINDS:
        if path.startswith(f"{PREFIX}{kind.name}/"):
            return _limit(kind, parse_options_header(content_type)[0].lower() == _FORM)
    return None


def _limit(kind: _Kind, is_form: bool) -> int:
    limit = KINDS[kind.name].limit
    return max(MIN_LIMIT_BYTES, limit + FIELD_BYTES if is_form else min(MAX_JSON_BYTES, limit * 4 // 3 + FIELD_BYTES))


def _read(kind: _Kind) -> tuple[Fields, Source]:
    """The fields of the request without the file, and the file or its link."""
    form = request.mimetype == _FORM
    limit = KINDS[kind.name].limit
    request.max_content_length = _limit(kind, form)
    try:
        return _of_form(kind) if form else _of_json(kind)
    except RequestEntityTooLarge:
        raise uploads.too_large(kind.name, limit, "" if form else _advice(limit)) from None


def _advice(limit: int) -> str:
    return "; one of more than 17 MB must come as multipart/form-data" if limit * 4 // 3 > MAX_JSON_BYTES else ""


def _of_form(kind: _Kind) -> tuple[Fields, Source]:
    request.max_form_parts, request.max_form_memory_size = MAX_FORM_PARTS, MIN_LIMIT_BYTES
    given: Fields = _only_values(request.form)
    request_fields.check_names(kind.name, given)
    url = given.pop(kind.url_field, None)
    files = _only_values(request.files)
    check_body(files, request_fields.NAMES[kind.name] | {"file"})
    if wrong := files.keys() - {"file"}:
        raise invalid(f"{wrong.pop()} is a file, but only the part file may be one")
    if (part := files.get("file")) is None:
        return given, _source(kind, url, f"the form needs the file as its part file, or a link as {kind.url_field}")
    if url:
        raise invalid(f"give the file or {kind.url_field}, not both")
    return given, Upload(part.stream, part.mimetype, names.safe(part.filename))


def _only_values(parts: MultiDict[str, Any]) -> dict[str, Any]:
    for name, values in parts.lists():
        if len(values) > 1:
            raise invalid(f"the form has {len(values)} parts {name[:MAX_SHOWN_NAME]}; a message has one of each")
    return parts.to_dict()


def _of_json(kind: _Kind) -> tuple[Fields, Source]:
    with tempfile.SpooledTemporaryFile(SPOOLED_BYTES) as body:
        shutil.copyfileobj(request.stream, body)
        with _reading(body):
            given = request_fields.body_fields(kind.name, body.read(), f'{{"{kind.url_field}": "https://…"}}')
            return given, _source(kind, given.pop(kind.url_field, None), f"{kind.url_field} is required")


@contextmanager
def _reading(body: "IO[bytes] | tempfile.SpooledTemporaryFile[bytes]") -> Iterator[None]:
    """Read from the beginning of the body. A large body waits for its turn."""
    large = body.tell() > SPOOLED_BYTES
    body.seek(0)
    if large:
        with _READERS:
            yield
    else:
        yield


def _source(kind: _Kind, url: Any, missing: str) -> Source:
    if url is None or url == "":
        raise invalid(missing)
    if not isinstance(url, str):
        raise invalid(f"{kind.url_field} must be a string")
    return uploads.data_url(kind.url_field, url) if url[:5].lower() == "data:" else uploads.link(kind.url_field, url)
