"""The report of a session's page on itself."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Health:
    """The page's report on itself; None for anything that is not known yet."""

    boot: str  # identifies one load of the page
    full: bool  # whether wa-js is ready for everything
    mode: str | None  # of the stream: QR, SYNCING, MAIN, OFFLINE, CONFLICT, …
    info: str | None  # NORMAL, PAIRING, OPENING, OFFLINE, …
    socket: str | None  # CONNECTED, UNPAIRED, …
    authenticated: bool | None
    online: bool | None
    needs_update: bool | None
    me: str | None  # the linked account, such as `60123456789@c.us`
    wa_js: str | None  # version
    wa_web: str | None  # version
    qr: str | None = field(default=None, repr=False)  # the text of the visible QR code, which is a credential

    @property
    def number(self) -> str | None:
        """Digits of the linked number; None if it is not known yet, or hidden behind an id."""
        name, _, domain = (self.me or "").partition("@")
        return (name.partition(":")[0] or None) if domain in ("", "c.us", "s.whatsapp.net") else None
