"""What we need of wa-js, and whether a bundle, or the page of a session, has it.

WhatsApp changes its page and wa-js follows, without notice to us: this says what broke before a customer does.
`python -m services.connectors.wwebjs.contract FILE` examines a bundle in a throw-away Chromium and prints JSON.
"""

import http.server
import json
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from bisnesctl import wajs
from bisnesctl.settings import Settings, env_path, load
from services.connectors.wwebjs.browser import Browser, BrowserOptions
from services.connectors.wwebjs.incoming import EVENTS
from services.connectors.wwebjs.page import Page

#: Functions and how many parameters they declare, as in wa-js 4.6.
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
#: What wa-js must have found in the page of WhatsApp Web.
OBJECTS = (
    "WPP.whatsapp.ChatStore",
    "WPP.whatsapp.ContactStore",
    "WPP.whatsapp.MsgStore",
    "WPP.whatsapp.Socket",
    "WPP.whatsapp.Stream",
    "WPP.whatsapp.lidPnCache",
)
#: Events by which a session knows its state; beside those of messages.
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
    """Something that we need."""

    name: str
    ok: bool
    detail: str  # what is there, or what is wrong; may be empty


def examine(page: Page) -> list[Finding]:
    """Whether the page of a session has what we need. Raises `PageLost`, `CallTimeout` and `CallFailed`."""
    health = page.health()
    versions = f"wa-js {health.wa_js}, WhatsApp Web {health.wa_web}"
    states = f"{health.mode}, {health.socket}"
    linked = Finding("linked", health.authenticated is True and health.mode == "MAIN", states)
    ready = Finding("wa-js is ready", health.full, versions)
    return [ready, linked, *functions(page), *_objects(page)]


def functions(page: Page) -> list[Finding]:
    """Whether the page has our functions, with the parameters that we know."""
    found = page.call("__wa.inspect", list(FUNCTIONS))
    return [Finding(name, found[name] == count, _difference(found[name], count)) for name, count in FUNCTIONS.items()]


def events(bundle: str) -> list[Finding]:
    """Whether the text of a bundle knows our events."""
    return [Finding(name, name in bundle, "") for name in sorted({*EVENTS, *STATE_EVENTS})]


def check(bundle: Path, settings: Settings) -> list[Finding]:
    """Examine a bundle on an empty page. Raises `ProgramMissing`, `StartFailed`, and like `examine`."""
    with tempfile.TemporaryDirectory(prefix="wa-js-") as folder, _empty_page() as url:
        programs = (settings.chrome_path, settings.chromedriver_path)
        browser = Browser(BrowserOptions(Path(folder) / "profile", url, bundle, *programs))
        try:
            browser.launch()
            browser.open()
            return [*functions(browser.page), *events(bundle.read_text("utf-8"))]
        finally:
            browser.kill()


def _objects(page: Page) -> list[Finding]:
    found = page.call("__wa.inspect", list(OBJECTS))
    return [Finding(name, found[name] == "object", "" if found[name] == "object" else "not found") for name in OBJECTS]


def _difference(found: int | str, count: int) -> str:
    if isinstance(found, str):
        return f"there is none ({found})"
    return "" if found == count else f"{found} parameters instead of {count}"


@contextmanager
def _empty_page() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Empty)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


class _Empty(http.server.BaseHTTPRequestHandler):
    """An empty page at every address."""

    def do_GET(self) -> None:
        page = b"<!doctype html><title>empty</title>"
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    def log_message(self, format: str, *args: object) -> None:
        """Silent."""


def main() -> None:
    """Print what was found as JSON, or `{"error": …}`."""
    bundle = Path(sys.argv[1])
    try:
        told: dict[str, object] = {"findings": [asdict(each) for each in check(bundle, load(env_path()))]}
    except Exception as error:
        told = {"error": str(error) or type(error).__name__}
    print(json.dumps({"version": wajs.version_of(bundle), "sha256": wajs.digest(bundle), **told}))


if __name__ == "__main__":
    main()
