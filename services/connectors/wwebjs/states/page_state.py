"""What the page's words about itself mean for its session: a pure function."""

from dataclasses import dataclass
from enum import Enum

from services.connectors.wwebjs.browser.page import Health

#: Modes of the stream in which WhatsApp refuses the account for good (Stream.mode).
_REFUSED = {
    "TOS_BLOCK": "WhatsApp blocked the account, by its terms of service",
    "SMB_TOS_BLOCK": "WhatsApp blocked the account, by its terms for businesses",
}
#: What the page calls a connection that serves.
_CONNECTED = "CONNECTED"


class PageState(Enum):
    """How the page is."""

    UNREACHABLE = "unreachable"  # its server cannot be reached
    LOADING = "loading"
    SCAN = "scan"  # it shows a QR code
    SYNCING = "syncing"  # a phone was linked, what it knows is coming over
    WORKING = "working"
    OFFLINE = "offline"  # it is linked, and has no connection to WhatsApp
    CONFLICT = "conflict"  # WhatsApp is open elsewhere
    OUTDATED = "outdated"  # WhatsApp wants it loaded anew
    LOGGED_OUT = "logged_out"  # it was linked, and is not any more
    BANNED = "banned"


@dataclass(frozen=True, slots=True)
class Seen:
    """How the page is, and why in a person's words, where that says more."""

    view: PageState
    reason: str | None = None


def see(health: Health, linked: bool) -> Seen:
    """How a page is that says this. `linked`: whether its profile was linked to a phone before."""
    if health.mode in _REFUSED:
        return Seen(PageState.BANNED, _REFUSED[health.mode])
    if health.mode == "CONFLICT" or health.socket == "CONFLICT":
        return Seen(PageState.CONFLICT, "WhatsApp Web is open in another browser")
    if health.mode == "DEPRECATED_VERSION":
        return Seen(PageState.OUTDATED, "WhatsApp wants its page loaded anew")
    if not health.full or health.authenticated is None:
        return Seen(PageState.LOADING)
    if not health.authenticated:
        unlinked = Seen(PageState.LOGGED_OUT, "the phone unlinked it: unblock it, then scan the new QR code")
        return unlinked if linked else Seen(PageState.SCAN)
    if health.mode == "SYNCING":
        return Seen(PageState.SYNCING, "it is synchronising")
    if health.mode == "PROXYBLOCK":
        return Seen(PageState.OFFLINE, "WhatsApp refuses this network (PROXYBLOCK)")
    if health.socket != _CONNECTED or health.mode == "OFFLINE":
        return Seen(PageState.OFFLINE, "no connection to WhatsApp")
    return Seen(PageState.WORKING) if health.mode == "MAIN" else Seen(PageState.LOADING)
