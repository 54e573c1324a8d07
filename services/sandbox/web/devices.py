"""The devices: browser profiles that show a QR code, are linked to a number, and come to grief."""

import secrets
import time
from dataclasses import dataclass
from typing import Any

from services.sandbox.database import Database
from services.sandbox.web.page_updates import PageUpdates

#: Seconds for which a QR code is shown before the next.
QR_SECONDS = 20.0
#: Seconds without a question for news after which a page counts as closed.
GONE_AFTER = 10.0
#: What a boot is called that is none of ours: WhatsApp is open in another window.
ELSEWHERE = "elsewhere"
#: What a pairing code is made of.
_LETTERS = "123456789ABCDEFGHJKLMNPQRSTVWXYZ"
#: Modes that a new page of the device does not have any more.
_PASSING = ("DEPRECATED_VERSION", "PROXYBLOCK")

_KNOW = "INSERT INTO device (id) VALUES (?) ON CONFLICT DO NOTHING"
_FIND = "SELECT * FROM device WHERE id = ?"
_WAITING = "SELECT * FROM device WHERE number = '' AND seen > ? ORDER BY seen DESC"


class Unknown(LookupError):
    """No device is that; the message says what to do."""


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

    def told(self, boot: str) -> dict[str, Any]:
        """What its page `boot` is told of it."""
        mode = self.mode if boot == self.boot or self.mode != "MAIN" else "CONFLICT"
        return {
            "version": self.version, "number": self.number, "lid": lid_of(self.number), "mode": mode, "ref": self.ref,
            "code": self.code, "logout_reason": self.reason, "qr_seconds": QR_SECONDS, "name": f"Bot {self.number}",
        }  # fmt: skip


def lid_of(number: str) -> str:
    """The id by which WhatsApp hides a number."""
    return f"1{number:0>14}@lid"


def new_ref() -> str:
    """The part of a QR code that changes."""
    return f"2@{secrets.token_urlsafe(48)}"


def new_code() -> str:
    """A pairing code."""
    return "".join(secrets.choice(_LETTERS) for _ in range(8))


class Devices:
    """The table of devices. Safe for threads."""

    def __init__(self, database: Database, news: PageUpdates) -> None:
        self._database, self._news = database, news

    def find(self, device: str) -> Device:
        """A device. Raises `Unknown`."""
        for row in self._database.rows(_FIND, (device,)):
            return Device(**row)
        raise Unknown("no such device: the page is to be loaded again")

    def all(self) -> list[Device]:
        """All of them, the one that was seen last first."""
        return [Device(**row) for row in self._database.rows("SELECT * FROM device ORDER BY seen DESC")]

    def of_number(self, number: str) -> list[Device]:
        """Those that are linked to a number. Raises `Unknown` where none is."""
        found = [each for each in self.all() if each.number == number]
        if not found:
            raise Unknown(f"no device is linked to {number}: scan its QR code first")
        return found

    def hello(self, device: str, boot: str) -> Device:
        """A page was loaded: from now on it is the one in use."""
        with self._database.transaction() as connection:
            connection.execute(_KNOW, (device,))
        known = self.find(device)
        mode = "MAIN" if known.mode in _PASSING else known.mode
        self.change(device, boot=boot, mode=mode, ref=known.ref if known.number else new_ref(), seen=time.time())
        return self.find(device)

    def change(self, device: str, **values: Any) -> None:
        """Change some of a device's columns, and tell its page."""
        columns = ", ".join(f"{name} = :{name}" for name in values)
        with self._database.transaction() as connection:
            connection.execute(
                f"UPDATE device SET {columns}, version = version + 1 WHERE id = :id", {**values, "id": device}
            )
        self._news.wake()

    def saw(self, device: str) -> None:
        """Its page asks for news."""
        with self._database.transaction() as connection:
            connection.execute("UPDATE device SET seen = ? WHERE id = ?", (time.time(), device))

    def scannable(self) -> list[Device]:
        """Those that show a QR code now, the latest first."""
        return [Device(**row) for row in self._database.rows(_WAITING, (time.time() - GONE_AFTER,))]

    def scan(self, number: str, qr: str = "", device: str = "") -> Device:
        """Link the device that shows this QR code, or the one that shows one; returns it as it is now.

        Raises `Unknown` where there is none, or where it is not clear which one is meant.
        """
        shown = [each for each in self.scannable() if each.id == (device or each.id)]
        if qr:
            shown = [each for each in shown if each.ref in qr.split(",")[0]]
            if not shown:
                raise Unknown("nobody shows this QR code any more: read the present one")
        if len(shown) != 1:
            many = "several pages show QR codes: name one with `qr` or `device`"
            raise Unknown(many if shown else "no page shows a QR code: start the bot, then scan")
        return self.link(shown[0].id, number)

    def pair(self, code: str) -> Device:
        """Link the device that shows this pairing code to the number for which it was made. Raises `Unknown`."""
        typed = code.replace("-", "").upper()
        for each in self.scannable():
            if each.code == typed:
                return self.link(each.id, each.code_for)
        raise Unknown("nobody shows this pairing code any more: ask for a new one")

    def link(self, device: str, number: str) -> Device:
        """The device belongs to the number from now on."""
        self.change(device, number=number, ref="", code="", code_for="", mode="MAIN", reason="")
        return self.find(device)

    def unlink(self, device: str, reason: str = "") -> None:
        """The device is logged out; it shows a QR code again."""
        self.change(device, number="", ref=new_ref(), reason=reason, mode="MAIN")

    def tell(self, device: str, **body: Any) -> None:
        """Tell a device alone."""
        with self._database.transaction() as connection:
            self._news.tell(connection, device, **body)
        self._news.wake()
