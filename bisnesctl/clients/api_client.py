"""Client of our HTTP API."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Any
from urllib.parse import quote

import requests

from bisnesctl import addresses
from bisnesctl.errors import ApiUnavailable, BisnesError, ConfigError, DatabaseUnavailable, UsageError
from bisnesctl.processes.topology import Mode
from bisnesctl.settings import Settings

#: Seconds for an answer, in addition to the time that the API is asked to wait.
ANSWER_TIMEOUT_SECONDS = 15.0
#: Seconds for an answer that needs the session's page, such as a pairing code.
PAGE_TIMEOUT_SECONDS = 40.0
#: Seconds for the answer to an upload, which the API checks and stores.
UPLOAD_TIMEOUT_SECONDS = 60.0
#: Bytes of a file that are read at a time.
CHUNK_BYTES = 64 << 10
#: Statuses of a message that its provider accepted.
SENT_STATUSES = ("sent", "delivered", "read")


class Refused(UsageError):
    """The API refuses the request.

    `code`: the error code.
    """

    def __init__(self, message: str | None = None, code: str = "") -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class SendAnswer:
    """The API's answer about a message."""

    message_id: str
    status: str
    error: str | None  # why it failed
    provider_code: str | None = None  # the provider's error code
    hold: dict[str, Any] | None = None  # why it waits: reason, needsOperator, since, until
    repeated: bool = False  # whether the idempotency key was used before, and nothing was sent now


@dataclass(frozen=True, slots=True)
class Upload:
    """A file to send."""

    name: str
    content: IO[bytes]
    mime_type: str


@dataclass(frozen=True, slots=True)
class Download:
    """A file that the API serves, or the part of it that was asked for."""

    status: int
    headers: Mapping[str, str]  # in any case
    #: The content; its end closes the connection.
    chunks: Iterator[bytes]


class ApiClient:
    """A client of one API with one key."""

    def __init__(self, url: str, key: str, headers: Mapping[str, str] | None = None) -> None:
        """`headers`: those of every call, such as that the caller records it (see `bisnesctl.audit.recorded_calls`)."""
        self._url = url
        self._headers = {"X-Api-Key": key} | dict(headers or {})

    def send_text(
        self, company: str, phone: int, chat: str, text: str, wait: float = 0, idempotency_key: str | None = None
    ) -> SendAnswer:
        """Sends a text and returns its status after at most `wait` seconds; 0: as soon as it is accepted.

        `idempotency_key`: a retry with the same key does not send the message twice.
        Raises `ApiUnavailable`, `ConfigError` (the key), `UsageError` (the request) or `DatabaseUnavailable`.
        """
        message = {"message": text, "phoneIndex": phone}
        query = {"wait": f"{wait:g}"} if wait else {}
        path, headers = _chat(company, chat, "text"), _idempotency(idempotency_key)
        return _sent(self._call("POST", path, message, headers, query, wait + ANSWER_TIMEOUT_SECONDS))

    def send(self, company: str, chat: str, kind: str, fields: dict[str, Any], idempotency_key: str) -> SendAnswer:
        """Sends a message of a kind without a file, such as a template. Raises as `send_text` does."""
        return _sent(self._call("POST", _chat(company, chat, kind), fields, _idempotency(idempotency_key)))

    def send_file(
        self, company: str, chat: str, kind: str, fields: dict[str, str], file: Upload, idempotency_key: str
    ) -> SendAnswer:
        """Sends a file as a message of this kind. Raises as `send_text` does."""
        parts: dict[str, Any] = {name: (None, value) for name, value in fields.items()}
        parts["file"] = (file.name, file.content, file.mime_type)
        path, headers = _chat(company, chat, kind), _idempotency(idempotency_key)
        return _sent(self._call("POST", path, headers=headers, timeout=UPLOAD_TIMEOUT_SECONDS, files=parts))

    def react(self, company: str, message_id: str, phone: int, emoji: str, idempotency_key: str) -> SendAnswer:
        """Reacts to a message; an empty emoji removes the reaction. Raises as `send_text` does."""
        path = f"/api/messages/react/{quote(company, safe='')}/{quote(message_id, safe='')}"
        fields = {"reaction": emoji, "phoneIndex": phone}
        return _sent(self._call("POST", path, fields, _idempotency(idempotency_key)))

    def file(self, company: str, message_id: str, part: str | None = None) -> Download:
        """The file of a message; `part`: the value of `Range`. Raises as `send_text` does."""
        url = f"{self._url}/api/v2/media/{quote(company, safe='')}/{quote(message_id, safe='')}"
        headers = self._headers | {"Accept-Encoding": "identity"} | ({"Range": part} if part else {})
        session = requests.Session()
        session.trust_env = False  # never use a proxy for our own API
        try:
            answer = session.get(url, headers=headers, timeout=ANSWER_TIMEOUT_SECONDS, stream=True)
            if answer.status_code >= 400:
                _checked(answer.status_code, answer.json())
        except requests.RequestException as error:
            session.close()
            raise ApiUnavailable(f"the API does not answer at {self._url}: see `bisnesctl status`") from error
        except BisnesError:
            session.close()
            raise
        return Download(answer.status_code, answer.headers, _chunks(session, answer))

    def replay_event(self, webhook: str, event: str) -> int:
        """Queues an event for a webhook again; returns 0 if it waits already. Raises as `send_text` does."""
        return int(self._call("POST", f"/api/webhooks/{quote(webhook, safe='')}/replay", {"eventId": event})["count"])

    def test_webhook(self, webhook: str) -> str:
        """Queues a test event for a webhook; returns its id. Raises as `send_text` does."""
        return str(self._call("POST", f"/api/webhooks/{quote(webhook, safe='')}/test")["eventId"])

    def session(self, company: str, phone: int) -> dict[str, Any]:
        """A WhatsApp Web session: `status`, `reason`, `number`, `block` and more. Raises as `send_text` does."""
        found: dict[str, Any] = self._call("GET", _session(company, phone))["session"]
        return found

    def start_session(self, company: str, phone: int) -> None:
        """Starts a session. Raises `Refused` if it is blocked, otherwise as `send_text` does."""
        self._call("POST", _session(company, phone, "/start"))

    def qr_code(self, company: str, phone: int) -> str | None:
        """The text of the QR code that a session shows; None if it shows none. Raises as `send_text` does."""
        try:
            return str(self._call("GET", _session(company, phone, "/qr"), query={"format": "json"})["qr"])
        except Refused as error:
            if error.code != "not_scanning":
                raise
        return None

    def pairing_code(self, company: str, phone: int, number: str) -> str:
        """A code to type on the phone with this number. Raises as `send_text` does."""
        path = _session(company, phone, "/pairing-code")
        return str(self._call("POST", path, {"phoneNumber": number}, timeout=PAGE_TIMEOUT_SECONDS)["code"])

    def examine_session(self, company: str, phone: int) -> list[dict[str, Any]]:
        """Findings about a session's page, each with `name`, `ok` and `detail`. Raises as `send_text` does."""
        path = _session(company, phone, "/doctor")
        return list(self._call("POST", path, timeout=PAGE_TIMEOUT_SECONDS)["findings"])

    def _call(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
        query: dict[str, str] | None = None,
        timeout: float = ANSWER_TIMEOUT_SECONDS,
        files: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        with requests.Session() as session:
            session.trust_env = False  # never use a proxy for our own API
            try:
                answer = session.request(
                    method,
                    f"{self._url}{path}",
                    params=query,
                    json=body,
                    files=files,
                    headers=self._headers | (headers or {}),
                    timeout=timeout,
                )
                repeated = answer.headers.get("Idempotency-Replayed") == "true"
                return _checked(answer.status_code, answer.json()) | {"repeated": repeated}
            except requests.JSONDecodeError as error:
                raise ApiUnavailable(f"another program answers at {self._url}: see API_HOST and API_PORT") from error
            except requests.Timeout as error:
                raise ApiUnavailable(
                    f"the API at {self._url} did not answer within {timeout:g} s: see `bisnesctl status`"
                ) from error
            except requests.RequestException as error:
                raise ApiUnavailable(f"the API does not answer at {self._url}: see `bisnesctl status`") from error


def _chat(company: str, chat: str, kind: str) -> str:
    return f"/api/v2/messages/{kind}/{quote(company, safe='')}/{quote(chat, safe='')}"


def _idempotency(key: str | None) -> dict[str, str]:
    return {"Idempotency-Key": key} if key else {}


def _sent(body: dict[str, Any]) -> SendAnswer:
    return SendAnswer(
        body["messageId"], body["status"], body.get("error"), body.get("providerCode"), body.get("hold"),
        body["repeated"],
    )  # fmt: skip


def _chunks(session: requests.Session, answer: requests.Response) -> Iterator[bytes]:
    with session, answer:
        yield from answer.iter_content(CHUNK_BYTES)


def _session(company: str, phone: int, what: str = "") -> str:
    return f"/api/sessions/{quote(company, safe='')}/{phone}{what}"


def api_url(settings: Settings, mode: Mode) -> str:
    """The URL of the API in a mode."""
    port = settings.port if mode is Mode.LEGACY else settings.api_port
    return addresses.local_url(settings.api_host, port)


def api_key(settings: Settings) -> str:
    """The key for the API: `$BISNES_API_KEY`, or else OPERATOR_KEY. Raises `ConfigError`."""
    key = os.environ.get("BISNES_API_KEY") or settings.operator_key.get_secret_value()
    if not key:
        raise ConfigError(
            f"there is no API key: set BISNES_API_KEY, or OPERATOR_KEY in {settings.env_file} "
            "(`bisnesctl keys create --operator` creates one)"
        )
    return key


def _checked(status: int, body: Any) -> dict[str, Any]:
    if not isinstance(body, dict):
        raise requests.JSONDecodeError("not an object", str(body), 0)
    if "messageId" in body or (status < 400 and body.get("success")):
        return body
    answer = f"{body.get('error')} ({body.get('code')})"
    if status in (401, 403):
        raise ConfigError(f"the API refuses the key: {answer}. It comes from $BISNES_API_KEY or OPERATOR_KEY in .env")
    if status == 503:
        raise DatabaseUnavailable(f"the API says: {answer}. See `bisnesctl status`")
    if 400 <= status < 500:
        raise Refused(f"the API says: {answer}", str(body.get("code")))
    raise BisnesError(f"the API says: {answer}")
