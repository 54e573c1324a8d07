"""WhatsApp Web sessions over HTTP: show, start, stop and link them. The API and the manager serve these routes."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import structlog
from flask import Response, g, jsonify, request

from bisnesctl.bots import qr_codes, web_sessions
from bisnesctl.bots.web_sessions import Block, QrCode, WebSession
from services.api.auth import Auth, company_filter, context, resource
from services.api.openapi import problems
from services.api.schemas.sessions import (
    Examination,
    OneSession,
    PairingCode,
    PairingRequest,
    QrQuery,
    SessionList,
    SessionPath,
    SessionQuery,
)
from services.api.schemas.sessions import QrCode as QrShape
from services.connectors.wwebjs.session import commands
from services.http_server.error_codes import RETRY_FILE_SECONDS, ErrorCode, retry_after
from services.http_server.errors import ApiError, unknown_bot

#: Seconds within which a session must get a pairing code from WhatsApp.
PAIRING_TIMEOUT_SECONDS = 25.0
#: Seconds within which a session must examine its page.
DOCTOR_TIMEOUT_SECONDS = 30.0
#: The forms of a QR code, by their media type.
_TYPES = {"application/json": "json", "image/svg+xml": "svg", "image/png": "png", "text/plain": "text"}
_ADDRESS = "/api/sessions/<companyId>/<phoneIndex>"

log = structlog.get_logger()

_ABOUT = "The sessions of WhatsApp Web numbers: show, start, stop and link them."
sessions = resource("sessions", _ABOUT, Auth.KEY)
session = resource("session", _ABOUT, Auth.COMPANY)

Answer = tuple[dict[str, Any], int]
_ONE = problems("unknown_bot", "unsupported_by_channel")


class _NotScanning(ApiError):
    """The session shows no QR code."""

    def __init__(self, found: WebSession) -> None:
        hints = {
            "STOPPED": "start it first",
            "STARTING": "ask again in a moment",
            "SCAN_QR_CODE": "the next QR code follows: ask again in a moment",
            "WORKING": "it is linked already; log it out to link another phone",
        }
        hint = hints.get(found.state, "see its reason")
        super().__init__(ErrorCode.NOT_SCANNING, f"the session shows no QR code, it is {found.state}: {hint}")
        self._found = found

    def body(self) -> dict[str, Any]:
        """The usual form, with the session's status and reason."""
        return {**super().body(), "status": self._found.state, "reason": self._found.reason}


@sessions.get("/api/sessions", summary="All sessions", responses={200: SessionList, **problems("foreign_company")})
def list_sessions(query: SessionQuery) -> dict[str, Any]:
    """List the sessions of the key's company; for an operator, all sessions or those of one company."""
    company = company_filter(g.principal, query.company)
    with context().database.connection() as connection:
        found = web_sessions.find(connection, company)
    return {"success": True, "sessions": [_shown(each) for each in found]}


@session.get(_ADDRESS, summary="One session", responses={200: OneSession, **_ONE})
def get_session(path: SessionPath) -> dict[str, Any]:
    """Show its status, the reason, and a block that keeps it from starting."""
    return {"success": True, "session": _shown(_find(path))}


@session.post(
    f"{_ADDRESS}/start",
    summary="Start a session",
    description="The manager starts it within a moment if it does not run yet. Its status shows the result.",
    responses={202: OneSession, **problems("unknown_bot", "unsupported_by_channel", "blocked", "not_moved")},
)
def start_session(path: SessionPath) -> Answer:
    """Start the session, now and after restarts of the manager."""
    return _change(path, _start)


@session.post(
    f"{_ADDRESS}/stop",
    summary="Stop a session",
    description="The session stays linked. Its messages wait until it is started again.",
    responses={202: OneSession, **_ONE},
)
def stop_session(path: SessionPath) -> Answer:
    """Stop the session until it is started."""
    return _change(path, lambda found: _want(found, False))


@session.post(
    f"{_ADDRESS}/restart",
    summary="Restart a session",
    description="Its browser is closed and launched again. A session that does not run is started.",
    responses={202: OneSession, **problems("unknown_bot", "unsupported_by_channel", "blocked", "not_moved")},
)
def restart_session(path: SessionPath) -> Answer:
    """Launch a new browser. The session stays linked."""
    return _change(path, lambda found: _send_command(found, "restart") if found.runs else _start(found))


@session.post(
    f"{_ADDRESS}/logout",
    summary="Log a session out",
    description=(
        "The phone is unlinked, and the session shows a QR code. If no messages wait, a phone with another number may "
        "scan it. Otherwise another number is refused: the session is FAILED with a block of the kind `wrong_number`."
    ),
    responses={202: OneSession, **problems("unknown_bot", "unsupported_by_channel", "not_running")},
)
def log_out(path: SessionPath) -> Answer:
    """Unlink the phone."""
    return _change(path, lambda found: _send_command(found, "logout"))


@session.get(
    f"{_ADDRESS}/qr",
    summary="The QR code to link a phone",
    description=(
        "As an image, drawn with characters, or as JSON. Another code replaces it every 20 to 60 seconds. It is a "
        "credential: never cache or log it."
    ),
    responses={
        200: {
            "description": "The QR code.",
            "content": {
                "application/json": {"schema": QrShape.model_json_schema()},
                "image/svg+xml": {"schema": {"type": "string"}},
                "image/png": {"schema": {"type": "string", "format": "binary"}},
                "text/plain": {"schema": {"type": "string"}},
            },
        },
        **problems("unknown_bot", "unsupported_by_channel", "not_scanning"),
    },
)
def get_qr(path: SessionPath, query: QrQuery) -> Response:
    """Show the current QR code."""
    found = _find(path)
    if found.qr is None:
        raise _NotScanning(found)
    accepted = request.accept_mimetypes.best_match(list(_TYPES), "application/json")
    return _DRAWN[query.format or _TYPES[accepted]](found.qr)


@session.post(
    f"{_ADDRESS}/pairing-code",
    summary="A pairing code, instead of the QR code",
    description="To enter on the phone: Linked devices → Link a device → Link with phone number instead.",
    responses={
        200: PairingCode,
        **problems("unknown_bot", "unsupported_by_channel", "not_scanning", "session_failed", "session_silent"),
    },
)
def make_pairing_code(path: SessionPath, body: PairingRequest) -> dict[str, Any]:
    """Get a pairing code from WhatsApp."""
    found = _find(path)
    if found.state != "SCAN_QR_CODE":
        raise _NotScanning(found)
    answer = _ask(found, "pair", {"phoneNumber": body.phone_number.lstrip("+")}, PAIRING_TIMEOUT_SECONDS)
    return {"success": True, "code": answer["code"], "expiresAt": answer.get("expiresAt")}


@session.post(
    f"{_ADDRESS}/doctor",
    summary="Examine a session's page",
    description="Whether wa-js is ready and has all needed functions. WhatsApp may change its page at any time.",
    responses={
        200: Examination,
        **problems("unknown_bot", "unsupported_by_channel", "not_running", "session_failed", "session_silent"),
    },
)
def examine_session(path: SessionPath) -> dict[str, Any]:
    """Examine the page of the running session."""
    found = _find(path)
    if not found.runs:
        raise _not_running(found)
    return {"success": True, "findings": _ask(found, "doctor", {}, DOCTOR_TIMEOUT_SECONDS)["findings"]}


@session.after_request
def _keep_out_of_caches(response: Response) -> Response:
    """QR and pairing codes are credentials, and a status is soon out of date."""
    response.headers["Cache-Control"] = "no-store"
    return response


def _find(path: SessionPath) -> WebSession:
    here = context()
    with here.database.connection() as connection:
        found = web_sessions.find(connection, path.company_id, path.phone_index)
    if found:
        return found[0]
    if here.accounts.bot(path.company_id, path.phone_index) is not None:
        raise ApiError(ErrorCode.UNSUPPORTED_BY_CHANNEL, "only WhatsApp Web numbers have sessions; this is Meta's")
    raise unknown_bot(path.company_id, path.phone_index)


def _change(path: SessionPath, change: Callable[[WebSession], None]) -> Answer:
    found = _find(path)
    change(found)
    log.info("session.commanded", session=found.name, command=request.path.rpartition("/")[2])
    return {"success": True, "session": _shown(_find(path))}, 202


def _start(found: WebSession) -> None:
    if not found.moved:
        raise ApiError(ErrorCode.NOT_MOVED, web_sessions.not_moved(found))
    if found.block is not None:
        raise ApiError(ErrorCode.BLOCKED, web_sessions.blocked(found, found.block))
    _want(found, True)


def _want(found: WebSession, wanted: bool) -> None:
    with context().database.connection() as connection:
        web_sessions.want(connection, found, wanted)


def _send_command(found: WebSession, command: str) -> None:
    if not found.runs:
        raise _not_running(found)
    here = context()
    with here.database.connection() as connection:
        commands.send(connection, here.notifier, found.bot_id, command, {})


def _not_running(found: WebSession) -> ApiError:
    return ApiError(ErrorCode.NOT_RUNNING, f"the session is {found.state}: start it first")


def _ask(found: WebSession, command: str, arguments: dict[str, Any], seconds: float) -> dict[str, Any]:
    """The answer of the session. Raises `ApiError` if it fails or does not answer in time."""
    here = context()
    with here.database.connection() as connection:
        number = commands.send(connection, here.notifier, found.bot_id, command, arguments)
    try:
        answer = commands.answer(here.database, number, seconds)
    except commands.CommandFailed as error:
        raise ApiError(ErrorCode.SESSION_FAILED, f"the session could not do it: {error}") from None
    if answer is None:
        message = "the session does not answer; see its status, or restart it"
        raise ApiError(ErrorCode.SESSION_SILENT, message, retry_after(RETRY_FILE_SECONDS))
    return answer


def _json(code: QrCode) -> Response:
    return jsonify(success=True, qr=code.text, expiresAt=_time(code.expires_at))


_DRAWN: dict[str, Callable[[QrCode], Response]] = {
    "json": _json,
    "svg": lambda code: Response(qr_codes.svg(code.text), mimetype="image/svg+xml"),
    "png": lambda code: Response(qr_codes.png(code.text), mimetype="image/png"),
    "text": lambda code: Response(f"{qr_codes.drawn(code.text)}\n", mimetype="text/plain"),
}


def _shown(found: WebSession) -> dict[str, Any]:
    return {
        "companyId": found.company,
        "phoneIndex": found.phone,
        "name": found.name,
        "status": found.state,
        "reason": found.current_reason(context().settings.max_heartbeat_age / 1000),
        "wanted": found.wanted,
        "number": found.number,
        "changedAt": _time(found.changed_at),
        "lastBeat": _time(found.beat_at),
        "memoryMb": found.memory_mb,
        "versions": found.versions,
        "block": found.block and _block(found.block),
    }


def _block(block: Block) -> dict[str, Any]:
    return {"kind": block.kind, "reason": block.reason, "since": _time(block.since), "until": _time(block.until)}


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).isoformat(timespec="milliseconds")
