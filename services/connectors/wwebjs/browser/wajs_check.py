"""Checks a bundle of wa-js in a temporary Chromium: `python -m services.connectors.wwebjs.browser.wajs_check FILE`."""

import http.server
import json
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from bisnesctl import wajs
from bisnesctl.settings import Settings, env_path, load
from services.connectors.wwebjs.browser import wajs_contract
from services.connectors.wwebjs.browser.browser import Browser, BrowserOptions
from services.connectors.wwebjs.browser.wajs_contract import Finding


def check(bundle: Path, settings: Settings) -> list[Finding]:
    """Examine a bundle in an empty page. Raises `ProgramMissing`, `StartFailed`, and like `functions`."""
    with tempfile.TemporaryDirectory(prefix="wa-js-") as folder, _empty_page() as url:
        programs = (settings.chrome_path, settings.chromedriver_path)
        browser = Browser(BrowserOptions(Path(folder) / "profile", url, bundle, *programs))
        try:
            browser.launch()
            browser.open()
            return [*wajs_contract.functions(browser.page), *wajs_contract.events(bundle.read_text("utf-8"))]
        finally:
            browser.kill()


@contextmanager
def _empty_page() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _EmptyPage)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


class _EmptyPage(http.server.BaseHTTPRequestHandler):
    """Serves an empty page at every address."""

    def do_GET(self) -> None:
        page = b"<!doctype html><title>empty</title>"
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


def main() -> None:
    """Print the findings as JSON, or `{"error": …}`."""
    bundle = Path(sys.argv[1])
    try:
        result: dict[str, object] = {"findings": [asdict(each) for each in check(bundle, load(env_path()))]}
    except Exception as error:
        result = {"error": str(error) or type(error).__name__}
    print(json.dumps({"version": wajs.version_of(bundle), "sha256": wajs.digest(bundle), **result}))


if __name__ == "__main__":
    main()
