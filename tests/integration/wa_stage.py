"""The simulated WhatsApp Web as a process, and the calls to its controls."""

from contextlib import contextmanager

import requests

from tests.integration.sandbox_stage import Sandbox, eventually, free_port


class WebSandbox(Sandbox):
    """`python -m services.sandbox` on a port of its own; `page_url` is its WhatsApp Web."""

    def __init__(self, folder):
        folder.mkdir(parents=True, exist_ok=True)
        super().__init__(folder, free_port(), free_port())
        self.page_url = f"{self.url}/_wa/"

    def wa(self, path, /, files=None, **fields):
        """Call a control: scan, say, ack, acks, logout, conflict, update, ban, offline, hang, crash, leak, reload, …"""
        sent = {"data": fields, "files": files} if files else {"json": fields}
        answer = requests.post(f"{self.url}/_sandbox/wa/{path}", timeout=30, **sent)
        assert answer.ok, answer.text
        return answer.json()

    def wa_get(self, path, **asked):
        """Ask: state, messages, actions, behaviour."""
        return requests.get(f"{self.url}/_sandbox/wa/{path}", params=asked, timeout=30).json()

    def scan(self, number, **which):
        """Scan the QR code that is shown, once one is; returns the device."""

        def scanned():
            answer = requests.post(f"{self.url}/_sandbox/wa/scan", json={"number": number, **which}, timeout=30)
            return answer.json() if answer.ok else None

        return eventually(scanned)

    def wa_say(self, number, files=None, **saying):
        """A customer says something to a linked number; returns the keys of the messages."""
        return self.wa("say", files, to=number, **saying)["ids"]

    def wa_messages(self, **asked):
        """The messages of both sides, each with its `arrivals`; `number`, `text`, `after` choose."""
        return self.wa_get("messages", **asked)["messages"]

    def wa_sent(self, **asked):
        """Those that pages sent."""
        return [each for each in self.wa_messages(**asked) if each["arrivals"]]

    def wa_device(self, number):
        """The device that is linked to a number, or None."""
        return next((each for each in self.wa_get("state")["devices"] if each["number"] == number), None)


@contextmanager
def web_sandbox(folder):
    """It runs for so long."""
    sandbox = WebSandbox(folder)
    try:
        yield sandbox
    finally:
        sandbox.end()
