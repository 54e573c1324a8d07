"""Files of messages over HTTP: our copies of received and of uploaded files."""

import io
from dataclasses import dataclass
from typing import Any, BinaryIO

from flask import Response, request
from werkzeug.datastructures import Headers
from werkzeug.exceptions import RequestedRangeNotSatisfiable
from werkzeug.wsgi import wrap_file

from services.api.auth import Auth, context, resource
from services.api.messages import lookup
from services.api.openapi import problems
from services.api.schemas.base import TargetPath
from services.database.connection import Connection, as_uuid
from services.http_server.error_codes import RETRY_FILE_SECONDS, ErrorCode, retry_after
from services.http_server.errors import ApiError
from services.media import kinds, names
from services.media.store import MediaMissing, MediaUnavailable

media = resource("media", "Fetch the files of messages.", Auth.COMPANY)

#: Seconds for which a browser may cache a file; the file of an address never changes.
MAX_AGE_SECONDS = 86400
_CHUNK_BYTES = 1 << 16

#: Image types that a browser may display. Other files are downloaded, so that no foreign file runs as a page of ours.
_SHOWN = ("image/jpeg", "image/png", "image/webp", "image/gif")

_MESSAGE = """
SELECT m.id::text, m.media_metadata, m.direction, d.message_id IS NOT NULL, COALESCE(d.due = 'infinity', false), d.error
FROM messages m LEFT JOIN media_download d ON d.message_id = m.id WHERE m.company_id = %s AND """
_BY_ID, _BY_PROVIDER_ID = _MESSAGE + "m.id = %s", _MESSAGE + "m.external_id = %s LIMIT 1"

#: A message that has not been sent yet is not in the history.
_UNSENT = "SELECT message_id::text, payload -> 'media' FROM outbox WHERE company_id = %s AND message_id = %s"


@dataclass(frozen=True, slots=True)
class _Kept:
    """A stored file and the facts that its message has about it."""

    message_id: str
    key: str
    mime_type: str
    filename: str | None
    sha256: str | None


@media.get(
    "/api/v2/media/<companyId>/<path:messageId>",
    summary="The file of a message",
    description=(
        "A file that was received or uploaded, with its type and name; parts of it with `Range`. "
        "Received files are downloaded from the provider first; until then the answer is `media_pending`."
    ),
    responses={
        200: {
            "description": "The file.",
            "content": {"*/*": {"schema": {"type": "string", "format": "binary"}}},
        },
        206: {
            "description": "The part that `Range` asks for.",
            "content": {"*/*": {"schema": {"type": "string", "format": "binary"}}},
        },
        304: {"description": "The file has not changed."},
        **problems("unknown_message", "no_media", "media_gone", "invalid_range"),
        **problems("media_pending", "media_unavailable", "database_unavailable"),
    },
)
def fetch_media(path: TargetPath) -> Response:
    """Send the file of a message of the company."""
    with context().database.connection() as connection:
        kept = _find(connection, path.company_id, path.message_id)
    try:
        file = context().media.open(kept.key)
    except MediaMissing:
        raise _gone("our copy was deleted") from None
    except MediaUnavailable as error:
        message = f"the file cannot be read at the moment: {error}"
        raise ApiError(ErrorCode.MEDIA_UNAVAILABLE, message, retry_after(RETRY_FILE_SECONDS)) from error
    return _response(kept, file)


def _find(connection: Connection, company_id: str, message_id: str) -> _Kept:
    ours = as_uuid(message_id)
    with connection.cursor() as cursor:
        cursor.execute(_BY_ID if ours else _BY_PROVIDER_ID, (company_id, ours or message_id))
        if row := cursor.fetchone():
            return _of_history(*row)
        if ours:
            cursor.execute(_UNSENT, (company_id, ours))
            if row := cursor.fetchone():
                return _kept(*row)
    raise lookup.unknown(message_id)


def _of_history(
    message_id: str, facts: dict[str, Any] | None, direction: str, pending: bool, is_dead: bool, reason: str | None
) -> _Kept:
    if is_dead:
        raise _gone(f"it could not be fetched from the provider: {reason}")
    if pending:
        message = "the file is still being fetched from the provider; ask again shortly"
        raise ApiError(ErrorCode.MEDIA_PENDING, message, retry_after(RETRY_FILE_SECONDS))
    if facts and "key" not in facts and "mimeType" in facts and direction == "inbound":
        raise _gone("it was never fetched from the provider")
    return _kept(message_id, facts)


def _kept(message_id: str, facts: dict[str, Any] | None) -> _Kept:
    facts = facts or {}
    if not isinstance(key := facts.get("key"), str):
        where = "; its file is where its link leads" if "link" in facts else ""
        raise ApiError(ErrorCode.NO_MEDIA, f"the message has no file here{where}")
    mime_type = facts.get("mimeType") or kinds.UNKNOWN
    return _Kept(message_id, key, mime_type, facts.get("filename"), facts.get("sha256"))


def _gone(reason: str) -> ApiError:
    return ApiError(ErrorCode.MEDIA_GONE, f"the file is no longer available: {reason}")


def _response(kept: _Kept, file: BinaryIO) -> Response:
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    response = Response(wrap_file(request.environ, file, _CHUNK_BYTES), headers=_headers(kept), direct_passthrough=True)
    response.content_length = size
    if kept.sha256:
        response.set_etag(kept.sha256)
    try:
        response.make_conditional(request.environ, accept_ranges=True, complete_length=size)
    except RequestedRangeNotSatisfiable:
        file.close()
        message = f"the file has no such part; it has {size} bytes"
        raise ApiError(ErrorCode.INVALID_RANGE, message, {"Content-Range": f"bytes */{size}"}) from None
    return response


def _headers(kept: _Kept) -> Headers:
    bare = kinds.normalise(kept.mime_type)
    shown = bare in _SHOWN or bare.startswith(("audio/", "video/"))
    headers = Headers()
    headers["Content-Type"] = bare
    name = names.safe(kept.filename) or f"{kept.message_id}.{kinds.extension(kept.mime_type)}"
    headers["Content-Disposition"] = names.as_header("inline" if shown else "attachment", name)
    headers["X-Content-Type-Options"] = "nosniff"
    headers["Content-Security-Policy"] = "sandbox; default-src 'none'"
    headers["Cache-Control"] = f"private, max-age={MAX_AGE_SECONDS}, immutable"
    return headers
