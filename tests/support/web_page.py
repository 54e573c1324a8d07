"""The simulated WhatsApp Web as a process, calls of its controls, and a client that acts as its page."""

import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests

from tests.support.sandbox import Json, Sandbox, eventually, free_port
from tests.support.waiting import HANG_SECONDS

CUSTOMER = "60123456789"
CHAT = f"{CUSTOMER}@c.us"


class WebSandbox(Sandbox):
    """`python -m services.sandbox` on a port of its own; `page_url` is its WhatsApp Web."""

    def __init__(self, folder: Path, meta_port: int | None = None, port: int | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        super().__init__(folder, meta_port or free_port(), free_port(), port)
        self.page_url = f"{self.url}/_wa/"

    def wa(self, path: str, /, files: Mapping[str, Any] | None = None, **fields: Any) -> Any:
        """Call a control: scan, say, ack, acks, logout, conflict, update, ban, offline, hang, crash, leak, reload, …"""
        sent: Json = {"data": fields, "files": files} if files else {"json": fields}
        answer = requests.post(f"{self.url}/_sandbox/wa/{path}", timeout=HANG_SECONDS, **sent)
        assert answer.ok, answer.text
        return answer.json()

    def wa_get(self, path: str, **query: Any) -> Any:
        """Get a list: state, messages, actions, behaviour."""
        return requests.get(f"{self.url}/_sandbox/wa/{path}", params=query, timeout=HANG_SECONDS).json()

    def scan(self, number: str, **which: Any) -> Json:
        """Scan the QR code as soon as one is shown. Returns the device."""

        def scanned() -> Json | None:
            answer = requests.post(
                f"{self.url}/_sandbox/wa/scan", json={"number": number, **which}, timeout=HANG_SECONDS
            )
            return answer.json() if answer.ok else None

        device = eventually(scanned)
        assert device is not None
        return device

    def wa_say(self, number: str, files: Mapping[str, Any] | None = None, **message: Any) -> list[str]:
        """Send a message of a customer to a linked number. Returns the keys of the messages."""
        keys: list[str] = self.wa("say", files, to=number, **message)["ids"]
        return keys

    def wa_messages(self, **query: Any) -> list[Json]:
        """The messages of both sides, each with its `arrivals`. Filters: `number`, `text`, `after`."""
        messages: list[Json] = self.wa_get("messages", **query)["messages"]
        return messages

    def wa_sent(self, **query: Any) -> list[Json]:
        """The messages that pages sent."""
        return [each for each in self.wa_messages(**query) if each["arrivals"]]

    def wa_device(self, number: str) -> Json | None:
        """The device that is linked to a number, or None."""
        return next((each for each in self.wa_get("state")["devices"] if each["number"] == number), None)


class Page:
    """Acts as the page of WhatsApp Web: sends the requests that the page in a browser sends."""

    def __init__(self, sandbox: WebSandbox, device: str | None = None) -> None:
        self.sandbox = sandbox
        self.device = device or str(uuid.uuid4())
        self.boot = str(uuid.uuid4())
        self.state = self.ask("hello")

    def post(self, path: str, data: bytes | None = None, /, **fields: Any) -> requests.Response:
        query = {"device": self.device, "boot": self.boot}
        sent: Json = {"json": fields} if data is None else {"data": data}
        return requests.post(f"{self.sandbox.page_url}api/{path}", params=query, timeout=HANG_SECONDS, **sent)

    def ask(self, path: str, /, **fields: Any) -> Any:
        answer = self.post(path, **fields)
        assert answer.ok, answer.text
        return answer.json()

    def poll(self) -> list[Json]:
        """The updates since the last poll; waits up to two seconds for one."""
        self.state = self.ask("updates", seq=self.state["seq"], version=self.state["version"])
        updates: list[Json] = self.state["updates"]
        return updates

    def next_update(self, kind: str) -> Json:
        """The next update of this kind. Updates before it are dropped."""
        update = eventually(lambda: next((each for each in self.poll() if each["kind"] == kind), None))
        assert update is not None
        return update

    def send(
        self, text: str, key: str | None = None, attempt: str | None = None, **more: Any
    ) -> tuple[str, requests.Response]:
        """Send a text. Returns its key and the answer."""
        message: Json = {
            "key": key or f"true_{CHAT}_3EB0{uuid.uuid4().hex[:16].upper()}", "chat": CHAT, "type": "chat",
            "body": text, "caption": None, "t": 1_700_000_000, "media": None, "attempt": attempt or str(uuid.uuid4()),
        }  # fmt: skip
        return message["key"], self.post("send", **message | more)

    def keys(self) -> list[str]:
        """The keys of the messages in the history."""
        return [each["key"] for each in self.ask("history")["messages"]]


@contextmanager
def web_sandbox(folder: Path) -> Iterator[WebSandbox]:
    """A sandbox that runs within the context."""
    sandbox = WebSandbox(folder)
    try:
        yield sandbox
    finally:
        sandbox.end()
