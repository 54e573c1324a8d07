"""The tool's side of the HTTP API: sends a message as any front-end does."""

import os
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import requests

from bisnesctl.errors import ApiUnavailable, BisnesError, ConfigError, DatabaseUnavailable, UsageError
from bisnesctl.processes.topology import Mode, reachable_host
from bisnesctl.settings import Settings

#: Seconds for an answer, beyond those that the API is asked to wait for the outcome.
PATIENCE = 15.0
#: Seconds for a pairing code, for which the session asks WhatsApp.
PAIRING_PATIENCE = 40.0
#: Statuses of a message that its provider took.
SENT_STATUSES = ("sent", "delivered", "read")


class Refused(UsageError):
    """The API refuses the request.

    `code` says why, for programs.
    """

    def __init__(self, message: str | None = None, code: str = "") -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class SendAnswer:
    """What the API says of a message."""

    message_id: str
    status: str
    error: str | None  # why it failed
    provider_code: str | None = None  # under which code it failed
    hold: dict[str, Any] | None = None  # why it does not leave: reason, needsOperator, since, until


class ApiClient:
    """Speaks to one API with one key."""

    def __init__(self, url: str, key: str) -> None:
        self._url, self._key = url, key

    def send_text(
        self, company: str, phone: int, chat: str, text: str, wait: float = 0, idempotency_key: str | None = None
    ) -> SendAnswer:
        """Sends a text and returns what became of it within `wait` seconds; 0: once it is accepted.

        `idempotency_key`: the same text sent again under it is the same message, and does not leave twice.
        Raises `ApiUnavailable`, `ConfigError` (the key), `UsageError` (the request) or `DatabaseUnavailable`.
        """
        path = f"/api/v2/messages/text/{quote(company, safe='')}/{quote(chat, safe='')}"
        message = {"message": text, "phoneIndex": phone}
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
        query = {"wait": f"{wait:g}"} if wait else {}
        body = self._call("POST", path, message, headers, query, wait + PATIENCE)
        return SendAnswer(
            body["messageId"], body["status"], body.get("error"), body.get("providerCode"), body.get("hold")
        )

    def session(self, company: str, phone: int) -> dict[str, Any]:
        """A WhatsApp Web session: `status`, `reason`, `number`, `block` and more. Raises as `send_text` does."""
        found: dict[str, Any] = self._call("GET", _session(company, phone))["session"]
        return found

    def start_session(self, company: str, phone: int) -> None:
        """Has a session started. Raises `Refused` where it is blocked, else as `send_text` does."""
        self._call("POST", _session(company, phone, "/start"))

    def qr_code(self, company: str, phone: int) -> str | None:
        """The text of the QR code that a session shows; None where it shows none. Raises as `send_text` does."""
        try:
            return str(self._call("GET", _session(company, phone, "/qr"), query={"format": "json"})["qr"])
        except Refused as error:
            if error.code != "not_scanning":
                raise
        return None

    def pairing_code(self, company: str, phone: int, number: str) -> str:
        """A code to type into the phone with this number. Raises as `send_text` does."""
        path = _session(company, phone, "/pairing-code")
        return str(self._call("POST", path, {"phoneNumber": number}, patience=PAIRING_PATIENCE)["code"])

    def examine_session(self, company: str, phone: int) -> list[dict[str, Any]]:
        """What a session's page has of what we need: `name`, `ok`, `detail` each. Raises as `send_text` does."""
        path = _session(company, phone, "/doctor")
        return list(self._call("POST", path, patience=PAIRING_PATIENCE)["findings"])

    def _call(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
        query: dict[str, str] | None = None,
        patience: float = PATIENCE,
    ) -> dict[str, Any]:
        with requests.Session() as session:
            session.trust_env = False  # no proxy stands between us and our own API
            try:
                answer = session.request(
                    method,
                    f"{self._url}{path}",
                    params=query,
                    json=body,
                    headers={"X-Api-Key": self._key} | (headers or {}),
                    timeout=patience,
                )
                return _checked(answer.status_code, answer.json())
            except requests.JSONDecodeError as error:
                raise ApiUnavailable(
                    f"what answers at {self._url} is not our API: see API_HOST and API_PORT"
                ) from error
            except requests.RequestException as error:
                raise ApiUnavailable(
                    f"the API does not answer at {self._url}: see `bisnesctl status`, "
                    "or start it: `bisnesctl start --multiprocess`"
                ) from error


def _session(company: str, phone: int, what: str = "") -> str:
    return f"/api/sessions/{quote(company, safe='')}/{phone}{what}"


def api_url(settings: Settings, mode: Mode) -> str:
    """Where the API of a mode is reached."""
    port = settings.port if mode is Mode.LEGACY else settings.api_port
    return f"http://{reachable_host(settings.api_host)}:{port}"


def api_key(settings: Settings) -> str:
    """The key to send with: `$BISNES_API_KEY`, else the operator's. Raises `ConfigError`."""
    key = os.environ.get("BISNES_API_KEY") or settings.operator_key.get_secret_value()
    if not key:
        raise ConfigError(
            f"there is no API key: set BISNES_API_KEY, or OPERATOR_KEY in {settings.env_file} "
            "(`bisnesctl keys create --operator` makes one)"
        )
    return key


def _checked(status: int, body: Any) -> dict[str, Any]:
    if not isinstance(body, dict):
        raise requests.JSONDecodeError("not an object", str(body), 0)
    if "messageId" in body or (status < 400 and body.get("success")):
        return body
    said = f"{body.get('error')} ({body.get('code')})"
    if status in (401, 403):
        raise ConfigError(f"the API refuses the key: {said}. It comes from $BISNES_API_KEY or OPERATOR_KEY in .env")
    if status == 503:
        raise DatabaseUnavailable(f"the API says: {said}. See `bisnesctl status`")
    if 400 <= status < 500:
        raise Refused(f"the API says: {said}", str(body.get("code")))
    raise BisnesError(f"the API says: {said}")
