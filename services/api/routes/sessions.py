"""WhatsApp Web sessions over HTTP: how they are, start and stop them, link them. Served by the API and the manager."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import structlog
from flask import Response, g, jsonify, request

from bisnesctl.bots import qr_codes, web_sessions
from bisnesctl.bots.web_sessions import Block, QrCode, WebSession
from services.api.auth import Auth, resource
from services.api.current import context
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
from services.http_server.errors import ApiError

#: Seconds that a session has to make a pairing code, for which it asks WhatsApp.
PAIRING_PATIENCE = 25.0
#: Seconds that a session has to examine its page.
DOCTOR_PATIENCE = 30.0
#: The forms of a QR code, by their media type.
_TYPES = {"application/json": "json", "image/svg+xml": "svg", "image/png": "png", "text/plain": "text"}
_ADDRESS = "/api/sessions/<companyId>/<phoneIndex>"

log = structlog.get_logger()

_ABOUT = "The sessions of WhatsApp Web numbers: how they are, start, stop and link them."
sessions = resource("sessions", _ABOUT, Auth.KEY)
session = resource("session", _ABOUT, Auth.COMPANY)

Answer = tuple[dict[str, Any], int]
_ONE = problems("unknown_bot", "unsupported_by_channel")


class _NotScanning(ApiError):
    """There is no QR code just now."""

    def __init__(self, found: WebSession) -> None:
        hints = {
            "STOPPED": "start it first",
            "STARTING": "ask again in a moment",
            "SCAN_QR_CODE": "the next one is about to come: ask again in a moment",
            "WORKING": "it is linked already; log it out to link another phone",
        }
        hint = hints.get(found.state, "see its reason")
        super().__init__(409, "not_scanning", f"the session shows no QR code, it is {found.state}: {hint}")
        self._found = found

    def body(self) -> dict[str, Any]:
        """The usual form, with the session's status and reason."""
        return {**super().body(), "status": self._found.state, "reason": self._found.reason}


@sessions.get("/api/sessions", summary="All sessions", responses={200: SessionList, **problems("foreign_company")})
def list_sessions(query: SessionQuery) -> dict[str, Any]:
    """Those of the key's company; for an operator all, or those of one company."""
    company = query.company if query.company is not None else g.principal.company_id
    if company is not None:
        g.principal.require_company(company)
    with context().database.connection() as connection:
        found = web_sessions.find(connection, company)
    return {"success": True, "sessions": [_shown(each) for each in found]}


@session.get(_ADDRESS, summary="One session", responses={200: OneSession, **_ONE})
def get_session(path: SessionPath) -> dict[str, Any]:
    """Its status, the reason, and what keeps it from starting."""
    return {"success": True, "session": _shown(_find(path))}


@session.post(
    f"{_ADDRESS}/start",
    summary="Start a session",
    description="The manager starts it within a moment, if it does not run yet; what becomes of it, its status tells.",
    responses={202: OneSession, **problems("unknown_bot", "unsupported_by_channel", "blocked")},
)
def start_session(path: SessionPath) -> Answer:
    """It is to run from now on."""
    return _change(path, _start)


@session.post(
    f"{_ADDRESS}/stop",
    summary="Stop a session",
    description="It stays linked, and its messages wait until it is started again.",
    responses={202: OneSession, **_ONE},
)
def stop_session(path: SessionPath) -> Answer:
    """It is not to run any more."""
    return _change(path, lambda found: _want(found, False))


@session.post(
    f"{_ADDRESS}/restart",
    summary="Restart a session",
    description="Its browser is closed and launched anew; one that does not run is started.",
    responses={202: OneSession, **problems("unknown_bot", "unsupported_by_channel", "blocked")},
)
def restart_session(path: SessionPath) -> Answer:
    """A fresh browser; it stays linked."""
    return _change(path, lambda found: _tell(found, "restart") if found.runs else _start(found))


@session.post(
    f"{_ADDRESS}/logout",
    summary="Log a session out",
    description=(
        "The phone is unlinked, and the session shows a QR code. If no messages wait, a phone with another number may "
        "scan it; otherwise another number is refused: the session is FAILED with a block of the kind `wrong_number`."
    ),
    responses={202: OneSession, **problems("unknown_bot", "unsupported_by_channel", "not_running")},
)
def log_out(path: SessionPath) -> Answer:
    """Unlinks the phone."""
    return _change(path, lambda found: _tell(found, "logout"))


@session.get(
    f"{_ADDRESS}/qr",
    summary="The QR code to link a phone",
    description=(
        "As a picture, drawn with characters, or as JSON; another one takes its place every 20 to 60 seconds. It is a "
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
    """What the session shows just now."""
    found = _find(path)
    with context().database.connection() as connection:
        code = web_sessions.qr_code(connection, found)
    if code is None:
        raise _NotScanning(found)
    wanted = request.accept_mimetypes.best_match(list(_TYPES), "application/json")
    return _DRAWN[query.format or _TYPES[wanted]](code)


@session.post(
    f"{_ADDRESS}/pairing-code",
    summary="A pairing code, instead of the QR code",
    description="To be typed into the phone: Linked devices → Link a device → Link with phone number instead.",
    responses={
        200: PairingCode,
        **problems("unknown_bot", "unsupported_by_channel", "not_scanning", "session_failed", "session_silent"),
    },
)
def make_pairing_code(path: SessionPath, body: PairingRequest) -> dict[str, Any]:
    """Asks WhatsApp for one."""
    found = _find(path)
    if found.state != "SCAN_QR_CODE":
        raise _NotScanning(found)
    answer = _ask(found, "pair", {"phoneNumber": body.phone_number.lstrip("+")}, PAIRING_PATIENCE)
    return {"success": True, "code": answer["code"], "expiresAt": answer.get("expiresAt")}


@session.post(
    f"{_ADDRESS}/doctor",
    summary="Examine a session's page",
    description="Whether wa-js is ready in it and has the functions that are used: WhatsApp changes it without notice.",
    responses={
        200: Examination,
        **problems("unknown_bot", "unsupported_by_channel", "not_running", "session_failed", "session_silent"),
    },
)
def examine_session(path: SessionPath) -> dict[str, Any]:
    """Asks the page."""
    found = _find(path)
    if not found.runs:
        raise ApiError(409, "not_running", f"the session is {found.state}: start it first")
    return {"success": True, "findings": _ask(found, "doctor", {}, DOCTOR_PATIENCE)["findings"]}


@session.after_request
def _keep_out_of_caches(response: Response) -> Response:
    """QR and pairing codes are credentials, and a status is old in a moment."""
    response.headers["Cache-Control"] = "no-store"
    return response


def _find(path: SessionPath) -> WebSession:
    here = context()
    with here.database.connection() as connection:
        found = web_sessions.find(connection, path.company_id, path.phone_index)
    if found:
        return found[0]
    if here.directory.bot(path.company_id, path.phone_index) is not None:
        raise ApiError(409, "unsupported_by_channel", "sessions are of WhatsApp Web numbers; this one is Meta's")
    raise ApiError(404, "unknown_bot", f"company {path.company_id} has no bot with phoneIndex {path.phone_index}")


def _change(path: SessionPath, change: Callable[[WebSession], None]) -> Answer:
    found = _find(path)
    change(found)
    log.info("a session was told", session=found.name, what=request.path.rpartition("/")[2])
    return {"success": True, "session": _shown(_find(path))}, 202


def _start(found: WebSession) -> None:
    if found.block is not None:
        raise ApiError(409, "blocked", web_sessions.blocked(found, found.block))
    _want(found, True)


def _want(found: WebSession, wanted: bool) -> None:
    with context().database.connection() as connection:
        web_sessions.want(connection, found, wanted)


def _tell(found: WebSession, command: str) -> None:
    if not found.runs:
        raise ApiError(409, "not_running", f"the session is {found.state}: start it first")
    here = context()
    with here.database.connection() as connection:
        commands.send(connection, here.hints, found.bot_id, command, {})


def _ask(found: WebSession, command: str, arguments: dict[str, Any], seconds: float) -> dict[str, Any]:
    """What the session answers. Raises `ApiError` where it cannot, or says nothing in time."""
    here = context()
    with here.database.connection() as connection:
        number = commands.send(connection, here.hints, found.bot_id, command, arguments)
    try:
        answer = commands.answer(here.database, number, seconds)
    except commands.CommandFailed as error:
        raise ApiError(502, "session_failed", f"the session could not do it: {error}") from None
    if answer is None:
        message = "the session does not answer; see its status, or restart it"
        raise ApiError(503, "session_silent", message, {"Retry-After": "5"})
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
