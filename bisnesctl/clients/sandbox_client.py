"""Client of the simulators: writes as a customer of a business in the sandbox, and scans QR codes."""

import mimetypes
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import requests

from bisnesctl import addresses, encryption
from bisnesctl.clients.api_client import Upload
from bisnesctl.database.postgres import Connection, query
from bisnesctl.errors import NotRunning, UsageError

#: Meta's id of the phone number that the quickstart registers.
DEMO_NUMBER = "100000000000100"
#: Seconds for an answer.
ANSWER_TIMEOUT_SECONDS = 60.0

#: Seconds between looks for a QR code.
_QR_POLL_SECONDS = 0.5

_NUMBER = """
SELECT connection_type, meta_phone_number_id, api_key_encrypted, own_number
FROM phone_configs LEFT JOIN wa_session ON bot_id = id
WHERE company_id = %s AND phone_index = %s"""
_CODE = """
SELECT state, reason, qr FROM phone_configs LEFT JOIN wa_session ON bot_id = id
WHERE company_id = %s AND phone_index = %s AND process_name = 'wwebjs'"""


class SandboxNumber(NamedTuple):
    """A phone number that customers can write to."""

    number: str  # a phone number id, a 360dialog key, or the digits of a number that is linked to WhatsApp Web
    web: bool = False  # whether it is linked to WhatsApp Web


def number_of(connection: Connection, company: str, phone: int, keys: encryption.Keys) -> SandboxNumber:
    """The phone number of a bot, as the simulators know it. `keys`: ENCRYPTION_KEY and those before it.

    Raises `UsageError` if there is no such bot, or it is not linked yet.
    """
    for kind, phone_number_id, api_key, linked in query(connection, _NUMBER, (company, phone)):
        if kind == "360dialog" and api_key:
            return SandboxNumber(encryption.decrypt(keys, api_key))
        if phone_number_id:
            return SandboxNumber(str(phone_number_id))
        if linked:
            return SandboxNumber(linked, web=True)
        raise UsageError(
            f"bot {phone} of company {company} is not linked: `bisnesctl sandbox scan --company {company}`"
        )
    raise UsageError(
        f"company {company} has no bot {phone}: `bisnesctl bots list` shows all; or name a number with --to"
    )


def find_number(port: int, number: str) -> SandboxNumber:
    """The phone number with this id or these digits. Raises `NotRunning`."""
    return SandboxNumber(number, web=any(each["number"] == number for each in devices(port)))


def qr_of(connection: Connection, company: str, phone: int) -> str | None:
    """The QR code that a bot's session shows; None if it shows none yet. Raises `UsageError` if it never will."""
    for state, reason, qr in query(connection, _CODE, (company, phone)):
        if state in ("WORKING", "FAILED"):
            raise UsageError(f"its session is {state}{f' ({reason})' if reason else ''}: there is nothing to scan")
        return qr if state == "SCAN_QR_CODE" else None
    raise UsageError(f"company {company} has no WhatsApp Web bot {phone}: `bisnesctl bots list` shows all")


def scan(port: int, number: str, qr_code: Callable[[], str | None], timeout: float) -> str:
    """Scans a QR code with the phone of this number and returns the device that is linked to it.

    `qr_code`: returns the code, '' for that of the only page that shows one, or None if there is none yet; `timeout`:
    seconds to wait for it. Raises `NotRunning`, and `UsageError` with the sandbox's answer.
    """
    end = time.monotonic() + timeout
    while True:
        qr = qr_code()
        answer = None if qr is None else _request("POST", port, "wa/scan", json={"number": number, "qr": qr})
        if answer is not None and answer.ok:
            return str(answer.json()["id"])
        if time.monotonic() > end or (answer is not None and answer.status_code == 400):
            raise _refusal(answer.json()) if answer is not None else UsageError("the session shows no QR code yet")
        time.sleep(_QR_POLL_SECONDS)


def pair(port: int, code: str) -> str:
    """Types a pairing code on the phone that it was made for; returns the device that is linked to it.

    Raises `NotRunning`, and `UsageError` if no page shows this code.
    """
    answer = _request("POST", port, "wa/scan", json={"code": code})
    if not answer.ok:
        raise _refusal(answer.json())
    return str(answer.json()["id"])


def say(port: int, web: bool, fields: dict[str, Any], file: Path | Upload | None = None) -> list[str]:
    """Sends messages as a customer and returns their ids.

    `fields`: those of /_sandbox/say, or of /_sandbox/wa/say for a number of WhatsApp `web`.
    Raises `NotRunning` if no sandbox listens on the port, `UsageError` if it refuses.
    """
    form = {name: str(value) for name, value in fields.items() if value not in (None, False)}
    return _ids(_request("POST", port, "wa/say" if web else "say", files=_parts(form, file)))


def devices(port: int) -> list[dict[str, Any]]:
    """The devices of the simulated WhatsApp Web: `number`, `linked`, `mode` and more. Raises `NotRunning`."""
    return list(_request("GET", port, "wa/state").json()["devices"])


def rules(port: int, web: bool) -> list[dict[str, Any]]:
    """The rules by which a network fails, Meta's or that of WhatsApp `web`. Raises `NotRunning`."""
    return list(_request("GET", port, _behaviour(web)).json()["behaviours"])


def add_rule(port: int, web: bool, rule: dict[str, Any]) -> None:
    """Adds a rule. Raises `NotRunning`, and `UsageError` with the sandbox's answer."""
    _checked(_request("POST", port, _behaviour(web), json=rule))


def delete_rules(port: int, web: bool) -> None:
    """Deletes all rules of a network. Raises `NotRunning`."""
    _checked(_request("DELETE", port, _behaviour(web)))


def fail_page(port: int, number: str, failure: str, fields: dict[str, Any]) -> None:
    """Lets the page of a linked number fail, such as `crash`. Raises `NotRunning`, and `UsageError`."""
    _checked(_request("POST", port, f"wa/{failure}", json={"number": number} | fields))


def _behaviour(web: bool) -> str:
    return "wa/behaviour" if web else "behaviour"


def _checked(answer: requests.Response) -> None:
    if not answer.ok:
        raise _refusal(answer.json())


def _request(method: str, port: int, path: str, **options: Any) -> requests.Response:
    with requests.Session() as session:
        session.trust_env = False  # never use a proxy for our own simulators
        try:
            return session.request(
                method,
                f"{addresses.local_url(addresses.LOOPBACK, port)}/_sandbox/{path}",
                timeout=ANSWER_TIMEOUT_SECONDS,
                **options,
            )
        except requests.Timeout as error:
            raise NotRunning(
                f"the sandbox on port {port} did not answer within {ANSWER_TIMEOUT_SECONDS:g} s: "
                "see `bisnesctl logs sandbox`"
            ) from error
        except requests.RequestException as error:
            raise NotRunning(
                f"no sandbox listens on port {port}: start one with `bisnesctl start --multiprocess --sandbox`"
            ) from error


def _parts(form: dict[str, str], file: Path | Upload | None) -> dict[str, Any]:
    """The parts of the form; a part without a file name is a plain field."""
    parts: dict[str, Any] = {name: (None, value) for name, value in form.items()}
    if isinstance(file, Upload):
        parts["file"] = (file.name, file.content, file.mime_type)
    elif file is not None:
        kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
        try:
            parts["file"] = (file.name, file.read_bytes(), kind)
        except OSError as error:
            raise UsageError(f"{file} cannot be read: {error.strerror}") from error
    return parts


def _ids(answer: requests.Response) -> list[str]:
    found = answer.json()
    if answer.status_code != 200 or "ids" not in found:
        raise _refusal(found)
    return [str(each) for each in found["ids"]]


def _refusal(found: dict[str, Any]) -> UsageError:
    return UsageError(f"the sandbox says: {found.get('error', found)}")
