"""The tool's side of the simulator: speaks as a customer of a business in the sandbox."""

import mimetypes
from pathlib import Path
from typing import Any

import requests

from bisnesctl import vault
from bisnesctl.errors import NotRunning, UsageError
from bisnesctl.postgres import Connection, query

#: Meta's id of the number that the quickstart registers.
DEMO_NUMBER = "100000000000100"
#: Seconds for an answer.
PATIENCE = 60.0

_NUMBER = """
SELECT connection_type, meta_phone_number_id, api_key_encrypted FROM phone_configs
WHERE company_id = %s AND phone_index = %s"""


def number_of(connection: Connection, company: str, phone: int, key: str) -> str:
    """What the simulator knows a bot by: its phone number id, or 360dialog's key. `key`: ENCRYPTION_KEY.

    Raises `UsageError` where there is no such bot, or it is not one of these.
    """
    for kind, phone_number_id, api_key in query(connection, _NUMBER, (company, phone)):
        if kind == "360dialog" and api_key:
            return vault.decrypt(key, api_key)
        if phone_number_id:
            return str(phone_number_id)
    raise UsageError(
        f"company {company} has no bot {phone} of Meta's or 360dialog's: `bisnesctl bots list` shows all; "
        "or name the number with --to"
    )


def say(port: int, fields: dict[str, Any], file: Path | None = None) -> list[str]:
    """Says something as a customer and returns the ids of the messages. `fields`: as /_sandbox/say has them.

    Raises `NotRunning` where no sandbox listens at the port, `UsageError` where it does not understand.
    """
    form = {name: str(value) for name, value in fields.items() if value not in (None, False)}
    with requests.Session() as session:
        session.trust_env = False  # no proxy stands between us and our own simulator
        try:
            return _ids(session.post(_url(port), files=_parts(form, file), timeout=PATIENCE))
        except requests.RequestException as error:
            raise NotRunning(
                f"no sandbox listens on port {port}: start one with `bisnesctl start --multiprocess --sandbox`"
            ) from error


def _url(port: int) -> str:
    return f"http://127.0.0.1:{port}/_sandbox/say"


def _parts(form: dict[str, str], file: Path | None) -> dict[str, Any]:
    """The parts of the form: an empty name of a file makes it a plain field."""
    parts: dict[str, Any] = {name: (None, value) for name, value in form.items()}
    if file is not None:
        kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
        try:
            parts["file"] = (file.name, file.read_bytes(), kind)
        except OSError as error:
            raise UsageError(f"{file} cannot be read: {error.strerror}") from error
    return parts


def _ids(answer: requests.Response) -> list[str]:
    found = answer.json()
    if answer.status_code != 200 or "ids" not in found:
        raise UsageError(f"the sandbox says: {found.get('error', found)}")
    return [str(each) for each in found["ids"]]
