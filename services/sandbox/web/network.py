"""The simulated WhatsApp network: what its servers do with requests of pages and of customers' phones."""

import time
from pathlib import Path
from typing import Any

from services.sandbox.database import Database
from services.sandbox.rules import RuleList
from services.sandbox.web.chats import DELIVERED, PLAYED, READ, SENT, UNSENT, Chats, new_id
from services.sandbox.web.devices import Device, Devices, NotFound, lid_of
from services.sandbox.web.files import Files
from services.sandbox.web.page_updates import PageUpdates
from services.sandbox.web.rules import Acks, WebRule
from services.sandbox.web.schema import SCHEMA

#: How long a poll waits for updates: short, so that the simulator can stop.
POLL_SECONDS = 2.0


class RefusedMessage(Exception):
    """WhatsApp refuses a message, and the page should not retry."""


class Network:
    """The state of WhatsApp Web's network, and what the routes do with it. Thread-safe."""

    def __init__(self, home: Path) -> None:
        """`home`: the folder of the database and of the files."""
        self._database = Database(home / "sandbox-wa.db", SCHEMA)
        self.updates = PageUpdates(self._database)
        self.devices = Devices(self._database, self.updates)
        self.chats = Chats(self._database, self.updates)
        self.files = Files(self._database, home / "sandbox-wa-media")
        self.rules = RuleList(WebRule())
        self.acks = Acks()

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def clear_rules(self) -> None:
        """Behave as documented again."""
        self.rules.clear()
        self.acks = Acks()

    def page_loaded(self, device: str, boot: str) -> dict[str, Any]:
        """Register a page that was loaded. Returns its state."""
        seq = self.updates.latest_seq()
        return {**self.devices.page_loaded(device, boot).page_state(boot), "seq": seq}

    def poll(self, device: str, boot: str, seq: int, version: int) -> dict[str, Any]:
        """Wait a while for updates after `seq` or a newer state. Raises `NotFound` and `ConnectionError`."""
        self.devices.mark_seen(device)
        end = time.monotonic() + POLL_SECONDS
        while True:
            changes, next_ack = self.updates.changes, self.chats.apply_due_acks()
            state = self.online_device(device)
            updates, last_seq = self.updates.after(device, state.number, seq)
            left = end - time.monotonic()
            if updates or state.version != version or left <= 0:
                return state.page_state(boot) | {"updates": updates, "seq": last_seq}
            self.updates.wait(changes, min(left, max(next_ack - time.time(), 0) if next_ack else left))

    def online_device(self, device: str) -> Device:
        """A device. Raises `ConnectionError` if it is offline."""
        found = self.devices.find(device)
        if found.offline:
            raise ConnectionError("the device is offline")
        return found

    def linked_number(self, device: str) -> str:
        """The number of a device. Raises `NotFound` if it has none, `ConnectionError` if it is offline."""
        number = self.online_device(device).number
        if not number:
            raise NotFound("the device is not linked")
        return number

    def send(self, device: str, message: dict[str, Any]) -> int:
        """Accept a message of a page. Returns its ack: `SENT`, or `UNSENT` if none comes. Raises `RefusedMessage`."""
        number, attempt = self.linked_number(device), str(message.pop("attempt"))
        text = f"{message.get('body') or ''} {message.get('caption') or ''}"
        rule = self.rules.use_first(lambda rule: rule.match in text and rule.number in (None, number))
        if rule.answer == "refused":
            raise RefusedMessage("a rule of the sandbox refuses this message")
        if rule.answer == "ignored":
            return UNSENT
        ack = UNSENT if rule.answer == "unacknowledged" else SENT
        self.chats.add_sent(number, message, attempt, ack, self._pending_acks(message) if ack else [])
        time.sleep((rule.delay_ms + self.acks.sent_ms) / 1000)
        return ack

    def _pending_acks(self, message: dict[str, Any]) -> list[tuple[int, float]]:
        acks, now = self.acks, time.time()
        played = acks.read_ms if message["type"] == "ptt" else None
        times = (DELIVERED, acks.delivered_ms), (READ, acks.read_ms), (PLAYED, played)
        return [(ack, now + (acks.sent_ms + after) / 1000) for ack, after in times if after is not None]

    def change(self, number: str, kind: str, about: str, sender: str | None, **values: Any) -> dict[str, Any]:
        """Edit or revoke a message. `sender`: the customer, or None for the business. Raises `NotFound`."""
        message = self.chats.find(number, about)
        if message is None:
            raise NotFound(f"there is no message {about}")
        chat = message["chat"]
        key = f"{'false' if sender else 'true'}_{chat}_{new_id()}"
        update = {"key": key, "chat": chat, "from_me": not sender, "type": kind, "about": about, "ack": SENT}
        update |= {"t": int(time.time()), **values}
        return self.chats.change(number, update, **_changed_values(kind, message, values))

    def call(self, number: str, chat: str, video: bool, group: bool) -> str:
        """Let a customer call a number. Returns the call's id."""
        call_id, now = new_id(), int(time.time())
        self.send_update(number, kind="call", id=call_id, chat=chat, is_video=video, is_group=group, t=now)
        return call_id

    def send_update(self, number: str, **body: Any) -> None:
        """Send an update to the pages of a number."""
        with self._database.transaction() as connection:
            self.updates.add(connection, number, **body)
        self.updates.wake()

    def lookup(self, chat: str) -> dict[str, Any]:
        """Whether a number is on WhatsApp, and under which ids."""
        digits = chat.partition("@")[0]
        absent = self._database.rows("SELECT 1 FROM absent WHERE number = ?", (digits,))
        return {"exists": not absent and not digits.startswith("0"), "wid": f"{digits}@c.us", "lid": lid_of(digits)}

    def set_absent(self, digits: str, absent: bool) -> None:
        """Remove a number from WhatsApp, or add it again."""
        query = "INSERT OR IGNORE INTO absent VALUES (?)" if absent else "DELETE FROM absent WHERE number = ?"
        with self._database.transaction() as connection:
            connection.execute(query, (digits,))

    def reset(self) -> None:
        """Delete the messages and everything that refers to them. Devices stay linked."""
        with self._database.transaction() as connection:
            for table in ("message", "arrival", "pending_ack", "reaction", "action"):
                connection.execute(f"DELETE FROM {table}")


def _changed_values(kind: str, message: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """The values that an edit or a revocation changes."""
    if kind == "revoke":
        return {"type": "revoked", "body": None, "caption": None, "media": None}
    return {"caption" if message["media"] else "body": values["body"], "edited": True}
