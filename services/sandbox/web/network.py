"""The simulated WhatsApp network: what its servers do with what pages and customers' phones send."""

import time
from pathlib import Path
from typing import Any

from services.sandbox.database import Database
from services.sandbox.web.chats import DELIVERED, PLAYED, READ, SENT, UNSENT, Chats, new_id
from services.sandbox.web.devices import Device, Devices, Unknown, lid_of
from services.sandbox.web.files import Files
from services.sandbox.web.page_updates import PageUpdates
from services.sandbox.web.rules import Rules
from services.sandbox.web.tables import SCHEMA

#: Seconds that a question for news waits for some: short, so that the simulator can stop.
PATIENCE = 2.0


class RefusedMessage(Exception):
    """WhatsApp does not take this message, and the page should not try again."""


class Network:
    """Everything that the simulator is, without its addresses. Safe for threads."""

    def __init__(self, home: Path) -> None:
        """`home`: where the file and the folder of media are."""
        self._database = Database(home / "sandbox-wa.db", SCHEMA)
        self.news = PageUpdates(self._database)
        self.devices = Devices(self._database, self.news)
        self.chats = Chats(self._database, self.news)
        self.files = Files(self._database, home / "sandbox-wa-media")
        self.rules = Rules()

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def hello(self, device: str, boot: str) -> dict[str, Any]:
        """A page was loaded."""

        seq = self.news.latest()
        return {**self.devices.hello(device, boot).told(boot), "seq": seq}

    def tell(self, device: str, boot: str, seq: int, version: int) -> dict[str, Any]:
        """What is new for a page, which waits a while for it. Raises `Unknown` and `ConnectionError`."""
        self.devices.saw(device)
        end = time.monotonic() + PATIENCE
        while True:
            turn, due = self.news.turn, self.chats.settle()
            found = self.reach(device)
            news, last = self.news.after(device, found.number, seq)
            left = end - time.monotonic()
            if news or found.version != version or left <= 0:
                return found.told(boot) | {"news": news, "seq": last}
            self.news.wait(turn, min(left, max(due - time.time(), 0) if due else left))

    def reach(self, device: str) -> Device:
        """The device. Raises `ConnectionError` where it is offline."""
        found = self.devices.find(device)
        if found.offline:
            raise ConnectionError("the device is offline")
        return found

    def linked(self, device: str) -> str:
        """The number of a device. Raises `Unknown` where it has none, `ConnectionError` where it is offline."""
        found = self.reach(device)
        if not found.number:
            raise Unknown("the device is not linked")
        return found.number

    def send(self, device: str, message: dict[str, Any]) -> int:
        """A page sends a message, and gets its acknowledgement: 1, or 0 where none comes. Raises `RefusedMessage`."""
        number, attempt = self.linked(device), str(message.pop("attempt"))
        rule = self.rules.take(number, f"{message.get('body') or ''} {message.get('caption') or ''}")
        if rule.answer == "refused":
            raise RefusedMessage("the simulator was told to refuse it")
        if rule.answer == "ignored":
            return UNSENT
        ack = UNSENT if rule.answer == "unacknowledged" else SENT
        self.chats.take(number, message, attempt, ack, self._receipts(message) if ack else [])
        time.sleep((rule.delay_ms + self.rules.acks.sent_ms) / 1000)
        return ack

    def _receipts(self, message: dict[str, Any]) -> list[tuple[int, float]]:
        acks, now = self.rules.acks, time.time()
        played = acks.read_ms if message["type"] == "ptt" else None
        times = (DELIVERED, acks.delivered_ms), (READ, acks.read_ms), (PLAYED, played)
        return [(ack, now + (acks.sent_ms + after) / 1000) for ack, after in times if after is not None]

    def change(self, number: str, kind: str, about: str, sender: str | None, **values: Any) -> dict[str, Any]:
        """An edit or a revocation by either side: `sender` is the customer, or None. Raises `Unknown`."""
        message = self.chats.find(number, about)
        if message is None:
            raise Unknown(f"there is no message {about}")
        key = f"{'false' if sender else 'true'}_{message['chat']}_{new_id()}"
        news = {"key": key, "chat": message["chat"], "from_me": not sender, "type": kind, "about": about, "ack": SENT}
        return self.chats.change(number, news | {"t": int(time.time()), **values}, **_result(kind, message, values))

    def ring(self, number: str, chat: str, video: bool, group: bool) -> str:
        """Somebody calls; returns the call's id."""
        call_id, now = new_id(), int(time.time())
        self.announce(number, kind="call", id=call_id, chat=chat, is_video=video, is_group=group, t=now)
        return call_id

    def announce(self, number: str, **news: Any) -> None:
        """Tell the pages of a number what is not kept."""
        with self._database.transaction() as connection:
            self.news.tell(connection, number, **news)
        self.news.wake()

    def exists(self, chat: str) -> dict[str, Any]:
        """Whether somebody is on WhatsApp."""
        digits = chat.partition("@")[0]
        absent = self._database.rows("SELECT 1 FROM absent WHERE number = ?", (digits,))
        return {"exists": not absent and not digits.startswith("0"), "wid": f"{digits}@c.us", "lid": lid_of(digits)}

    def set_absent(self, digits: str, absent: bool) -> None:
        """From now on a number is not on WhatsApp, or is again."""
        query = "INSERT OR IGNORE INTO absent VALUES (?)" if absent else "DELETE FROM absent WHERE number = ?"
        with self._database.transaction() as connection:
            connection.execute(query, (digits,))

    def reset(self) -> None:
        """Forget the messages and what is about them; devices stay linked."""
        with self._database.transaction() as connection:
            for table in ("message", "arrival", "receipt", "reaction", "action"):
                connection.execute(f"DELETE FROM {table}")


def _result(kind: str, message: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """What a message is afterwards."""
    if kind == "revoke":
        return {"type": "revoked", "body": None, "caption": None, "media": None}
    return {"caption" if message["media"] else "body": values["body"], "edited": True}
