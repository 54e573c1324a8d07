"""The functions, objects and events of wa-js that we use, and the check whether a bundle or a page has them.

WhatsApp changes its page without notice, and wa-js follows. This check finds what broke before a customer does.
"""

from dataclasses import dataclass

from services.connectors.wwebjs.browser.page import Page
from services.connectors.wwebjs.translation.incoming import EVENTS

#: Functions, and the number of parameters that they declare in wa-js 4.6.
FUNCTIONS = {
    "WPP.on": 3,
    "WPP.chat.deleteMessage": 2,
    "WPP.chat.downloadMedia": 1,
    "WPP.chat.editMessage": 2,
    "WPP.chat.find": 1,
    "WPP.chat.generateMessageID": 1,
    "WPP.chat.getMessageById": 1,
    "WPP.chat.getMessages": 1,
    "WPP.chat.markIsComposing": 2,
    "WPP.chat.markIsRead": 1,
    "WPP.chat.sendFileMessage": 3,
    "WPP.chat.sendReactionToMessage": 2,
    "WPP.chat.sendTextMessage": 2,
    "WPP.conn.getBuildConstants": 0,
    "WPP.conn.getMyUserId": 0,
    "WPP.conn.isAuthenticated": 0,
    "WPP.conn.isOnline": 0,
    "WPP.conn.logout": 0,
    "WPP.conn.needsUpdate": 0,
    "WPP.conn.refreshQR": 0,
    "WPP.conn.startLinkDeviceCodeForPhoneNumber": 1,
    "WPP.contact.queryWidExists": 1,
}
#: Objects that wa-js must have found in the page of WhatsApp Web.
OBJECTS = (
    "WPP.whatsapp.ChatStore",
    "WPP.whatsapp.ContactStore",
    "WPP.whatsapp.MsgStore",
    "WPP.whatsapp.Socket",
    "WPP.whatsapp.Stream",
    "WPP.whatsapp.lidPnCache",
)
#: Events that a session needs to know its state, beside those of messages.
STATE_EVENTS = (
    "conn.auth_code_change",
    "conn.authenticated",
    "conn.logout",
    "conn.logout_reason",
    "conn.main_loaded",
    "conn.needs_update",
    "conn.online",
    "conn.qrcode_idle",
    "conn.require_auth",
    "conn.stream_info_changed",
    "conn.stream_mode_changed",
    "loader.full_ready",
)


@dataclass(frozen=True, slots=True)
class Finding:
    """The result for one function, object or event."""

    name: str
    ok: bool
    detail: str  # may be empty


def examine(page: Page) -> list[Finding]:
    """Check the page of a session. Raises `PageLost`, `CallTimeout` and `CallFailed`."""
    health = page.health()
    versions = f"wa-js {health.wa_js}, WhatsApp Web {health.wa_web}"
    states = f"{health.mode}, {health.socket}"
    linked = Finding("linked", health.authenticated is True and health.mode == "MAIN", states)
    ready = Finding("wa-js is ready", health.full, versions)
    return [ready, linked, *functions(page), *_objects(page)]


def functions(page: Page) -> list[Finding]:
    """Check that the page has the functions, with the parameters that we know."""
    found = page.call("__wa.inspect", list(FUNCTIONS))
    return [Finding(name, found[name] == count, _difference(found[name], count)) for name, count in FUNCTIONS.items()]


def events(bundle: str) -> list[Finding]:
    """Check that the text of a bundle contains the events."""
    return [Finding(name, name in bundle, "") for name in sorted({*EVENTS, *STATE_EVENTS})]


def _objects(page: Page) -> list[Finding]:
    found = page.call("__wa.inspect", list(OBJECTS))
    return [Finding(name, found[name] == "object", "" if found[name] == "object" else "not found") for name in OBJECTS]


def _difference(found: int | str, count: int) -> str:
    if isinstance(found, str):
        return f"not a function ({found})"
    return "" if found == count else f"{found} parameters instead of {count}"
