"""Devices: browser profiles that show a QR code, are linked to a number, and are logged out."""

import secrets
import time
from dataclasses import dataclass
from typing import Any

from services.sandbox.database import Database
from services.sandbox.web.page_updates import PageUpdates

#: How long a QR code is shown before the next one.
QR_SECONDS = 20.0
#: A page that has not polled for this long counts as closed.
CLOSED_AFTER_SECONDS = 10.0
#: A `boot` that is no page of ours: WhatsApp is open in another window.
ANOTHER_WINDOW = "elsewhere"
_PAIRING_CODE_ALPHABET = "123456789ABCDEFGHJKLMNPQRSTVWXYZ"
_PAIRING_CODE_CHARACTERS = 8
#: Modes that end when the page is loaded again.
_MODES_UNTIL_RELOAD = ("DEPRECATED_VERSION", "PROXYBLOCK")

_ADD = "INSERT INTO device (id) VALUES (?) ON CONFLICT DO NOTHING"
_FIND = "SELECT * FROM device WHERE id = ?"
_SCANNABLE = "SELECT * FROM device WHERE number = '' AND seen > ? ORDER BY seen DESC"


class NotFound(LookupError):
    """A device, number or message does not exist, or is ambiguous. The text says what to do."""


@dataclass(frozen=True, slots=True)
class Device:
    """A row of the table."""

    id: str
    number: str
    boot: str
    ref: str
    code: str
    code_for: str
    mode: str
    reason: str
    offline: int
    version: int
    seen: float

    def page_state(self, boot: str) -> dict[str, Any]:
        """The state that its page `boot` has to show."""
        mode = self.mode if boot == self.boot or self.mode != "MAIN" else "CONFLICT"
        return {
            "version": self.version, "number": self.number, "lid": lid_of(self.number), "mode": mode, "ref": self.ref,
            "code": self.code, "logout_reason": self.reason, "qr_seconds": QR_SECONDS, "name": f"Bot {self.number}",
        }  # fmt: skip


def lid_of(number: str) -> str:
    """The id that stands for a hidden number."""
    return f"1{number:0>14}@lid"


def new_ref() -> str:
    """A new beginning of a QR code."""
    return f"2@{secrets.token_urlsafe(48)}"


def new_pairing_code() -> str:
    """A pairing code to type on the phone."""
    return "".join(secrets.choice(_PAIRING_CODE_ALPHABET) for _ in range(_PAIRING_CODE_CHARACTERS))


class Devices:
    """The table of devices. Thread-safe."""

    def __init__(self, database: Database, updates: PageUpdates) -> None:
        self._database = database
        self._updates = updates

    def find(self, device: str) -> Device:
        """A device. Raises `NotFound`."""
        for row in self._database.rows(_FIND, (device,)):
            return Device(**row)
        raise NotFound("unknown device: reload the page")

    def all(self) -> list[Device]:
        """All devices, the most recently seen first."""
        return [Device(**row) for row in self._database.rows("SELECT * FROM device ORDER BY seen DESC")]

    def of_number(self, number: str) -> list[Device]:
        """The devices that are linked to a number. Raises `NotFound` if there is none."""
        linked = [device for device in self.all() if device.number == number]
        if not linked:
            raise NotFound(f"no device is linked to {number}: scan its QR code first")
        return linked

    def page_loaded(self, device: str, boot: str) -> Device:
        """Record that a page was loaded. It is in use from now on."""
        with self._database.transaction() as connection:
            connection.execute(_ADD, (device,))
        known = self.find(device)
        mode = "MAIN" if known.mode in _MODES_UNTIL_RELOAD else known.mode
        self.change(device, boot=boot, mode=mode, ref=known.ref if known.number else new_ref(), seen=time.time())
        return self.find(device)

    def change(self, device: str, **values: Any) -> None:
        """Change some of a device's columns. Its page gets the new state."""
        columns = ", ".join(f"{name} = :{name}" for name in values)
        with self._database.transaction() as connection:
            connection.execute(
                f"UPDATE device SET {columns}, version = version + 1 WHERE id = :id", {**values, "id": device}
            )
        self._updates.wake()

    def mark_seen(self, device: str) -> None:
        """Record that the device's page polls."""
        with self._database.transaction() as connection:
            connection.execute("UPDATE device SET seen = ? WHERE id = ?", (time.time(), device))

    def scannable(self) -> list[Device]:
        """The devices that show a QR code now, the most recently seen first."""
        return [Device(**row) for row in self._database.rows(_SCANNABLE, (time.time() - CLOSED_AFTER_SECONDS,))]

    def scan(self, number: str, qr: str = "", device: str = "") -> Device:
        """Link the device that shows this QR code; without a code, the only device that shows one.

        Raises `NotFound` if there is none, or more than one.
        """
        shown = [each for each in self.scannable() if each.id == (device or each.id)]
        if qr:
            shown = [each for each in shown if each.ref in qr.split(",")[0]]
            if not shown:
                raise NotFound("no page shows this QR code any more: read the current one")
        if len(shown) != 1:
            several = "several pages show QR codes: name one with `qr` or `device`"
            raise NotFound(several if shown else "no page shows a QR code: start the bot, then scan")
        return self.link(shown[0].id, number)

    def pair(self, code: str) -> Device:
        """Link the device that shows this pairing code to the number that the code is for. Raises `NotFound`."""
        typed = code.replace("-", "").upper()
        for device in self.scannable():
            if device.code == typed:
                return self.link(device.id, device.code_for)
        raise NotFound("no page shows this pairing code any more: request a new one")

    def link(self, device: str, number: str) -> Device:
        """Link a device to a number. Returns its new state."""
        self.change(device, number=number, ref="", code="", code_for="", mode="MAIN", reason="")
        return self.find(device)

    def unlink(self, device: str, reason: str = "") -> None:
        """Log a device out. It shows a QR code again."""
        self.change(device, number="", ref=new_ref(), reason=reason, mode="MAIN")

    def send_update(self, device: str, **body: Any) -> None:
        """Send an update to the page of one device."""
        with self._database.transaction() as connection:
            self._updates.add(connection, device, **body)
        self._updates.wake()
