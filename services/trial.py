"""`python -m services.trial FOLDER`: sends copies of messages through this release's connector into simulators.

Reads a copy from each line of its input as JSON, and writes its outcome as a line of JSON. `bisnesctl rollout compare`
runs it. A copy cannot reach a provider or a person:

- The simulators are part of this process and are called as functions. No request leaves the process.
- An audit hook refuses every connection that Python code tries to open, and every look-up of a name.
- The process has no credential of a bot, no address of a provider and no database: its settings are made here.
- The simulators keep what they know in a folder of this run, and their webhooks are never sent.
"""

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

from werkzeug.test import Client

from bisnesctl.settings import Settings
from services.connectors.meta.connector import MetaConnector
from services.http_exchange import HttpRequest
from services.media.folder import FolderStore
from services.message import Bot, Outcome, Outgoing, Secret, Sent, Unknown
from services.sandbox.app import create_app
from services.sandbox.database import Database
from services.sandbox.meta.destinations import Destinations
from services.sandbox.meta.registry import APP_ID, Registry
from services.sandbox.meta.schema import SCHEMA
from services.sandbox.meta.simulator import Simulator
from services.sandbox.web.network import Network

#: The kinds of messages that are copied: those without a file, and without another message that they are about.
KINDS = ("text", "template")
#: The events of Python's audit hooks by which a connection begins.
_CONNECTING = frozenset({
    "socket.connect", "socket.sendto", "socket.sendmsg", "socket.getaddrinfo", "socket.gethostbyname", "socket.bind",
})  # fmt: skip
#: The number and the token by which the simulators know the copies.
_NUMBER, _TOKEN = "100000000000001", "sandbox-trial"

Copy = dict[str, Any]


class Trial:
    """The connector, and simulators in this process that answer it."""

    def __init__(self, folder: Path) -> None:
        settings = Settings(bisnes_home=folder, sandbox=True)
        self._connector = MetaConnector(settings, FolderStore(folder / "media"))
        self._address = settings.sandbox_url
        database = Database(folder / "sandbox.db", SCHEMA)
        registry = Registry(database, APP_ID)
        simulator = Simulator(database, folder / "sandbox-media", Destinations(registry, []), registry, "")
        self._client = Client(create_app(simulator, Network(folder)))

    def send(self, copy: Copy) -> dict[str, Any]:
        """The outcome of a copy."""
        if reason := not_copied(copy):
            return {"id": copy["id"], "outcome": "not_copied", "reason": reason}
        if copy["kind"] == "template":
            self._make_template(copy["payload"])
        payload = {name: value for name, value in copy["payload"].items() if name != "quoted_provider_id"}
        message = Outgoing(0, copy["id"], 0, copy["chat"], copy["kind"], payload, 0)  # type: ignore[arg-type]
        bot = Bot(0, "trial", 0, "meta", copy["connection"], _NUMBER, Secret(_TOKEN))
        request = self._connector.request(bot, message)
        outcome = self._post(message, request) if isinstance(request, HttpRequest) else request
        return {"id": copy["id"], **_described(outcome)}

    def _post(self, message: Outgoing, request: HttpRequest) -> Any:
        """The outcome of a request. Its address only says which function of the simulators is called."""
        if not request.url.startswith(f"{self._address}/"):
            raise AssertionError("the connector of a trial has another address than that of the sandbox")
        headers = [tuple(each.split(": ", 1)) for each in request.headers]
        found = self._client.post(
            urlsplit(request.url).path, base_url=self._address, headers=headers, data=request.body
        )
        return self._connector.outcome(message, found.status_code, found.get_data())

    def _make_template(self, payload: dict[str, Any]) -> None:
        """Makes the template that the message uses, since the simulators do not know those of the business."""
        places = " ".join(f"{{{{{number}}}}}" for number, _ in enumerate(payload.get("variables") or [], 1))
        fields = {"name": payload["templateName"], "language": payload["language"], "body": f"Body {places}".strip()}
        self._client.post("/_sandbox/template", base_url=self._address, json=fields)


def not_copied(copy: Copy) -> str:
    """Why a message is not copied; empty if it is."""
    if copy["kind"] not in KINDS:
        return f"messages of type {copy['kind']} are not copied"
    if copy["payload"].get("components"):
        return "templates with components are not copied"
    return ""


def _described(outcome: Outcome | Any) -> dict[str, Any]:
    match outcome:
        case Sent():
            return {"outcome": "sent"}
        case Unknown(reason, _, code):
            return {"outcome": "unknown", "code": code, "reason": reason}
        case _:
            return {
                "outcome": "failed", "code": getattr(outcome, "code", type(outcome).__name__),
                "reason": getattr(outcome, "reason", ""),
            }  # fmt: skip


def refuse_connections() -> None:
    """From now on, this process opens no connection. It cannot be undone."""

    def refuse(event: str, arguments: tuple[Any, ...]) -> None:
        if event in _CONNECTING:
            _refuse(event)

    sys.addaudithook(refuse)


def _refuse(event: str) -> NoReturn:
    raise PermissionError(f"a trial opens no connections ({event})")


def run(trial: Trial, lines: Iterable[str]) -> Iterator[str]:
    """The outcomes of copies, a line each."""
    for line in lines:
        yield json.dumps(trial.send(json.loads(line)))


def main() -> None:
    """Say that the simulators are ready, then answer each line until the input ends."""
    trial = Trial(Path(sys.argv[1]))
    refuse_connections()
    print(json.dumps({"ready": True}), flush=True)
    for line in run(trial, sys.stdin):
        print(line, flush=True)


if __name__ == "__main__":
    main()
