"""The sandbox as a process, and a receiver of its webhooks."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlsplit

import orjson
import requests

from services.connectors.meta.receiver import SIGNATURE_HEADER, verify_signature
from tests.support.deployment import free_ports
from tests.support.waiting import HANG_SECONDS, wait_until

T = TypeVar("T")
Json = dict[str, Any]

SECRET = "app-secret"
#: Patience of `eventually`.
EVENTUALLY_SECONDS = 300.0


def free_port() -> int:
    """A port that no process uses now."""
    return free_ports(1)[0]


def eventually(condition: Callable[[], T]) -> T:
    """Wait until the condition holds, and return its value: for what may take long, such as the start of a process."""
    return wait_until(condition, EVENTUALLY_SECONDS, pause=0.02)


class Receiver:
    """A receiver of webhooks. It answers the next `refusals` of them with 503."""

    def __init__(self, port: int = 0) -> None:
        self.refusals = 0
        self.unsigned = 0
        self.webhooks: list[Json] = []
        self.headers: list[dict[str, str]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                query = parse_qs(urlsplit(self.path).query)
                known = query.get("hub.verify_token") == ["verify"]
                answer = query["hub.challenge"][0].encode() if known else b"no"
                self.send_response(200 if known else 403)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def do_POST(self) -> None:
                outer.headers.append(dict(self.headers))
                status = outer._receive(
                    self.rfile.read(int(self.headers["Content-Length"])), self.headers[SIGNATURE_HEADER]
                )
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}/"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def _receive(self, body: bytes, signature: str) -> int:
        self.unsigned += not verify_signature(SECRET, body, signature)
        if self.refusals:
            self.refusals -= 1
            return 503
        self.webhooks.append(orjson.loads(body))
        return 200

    def said(self, callback_data: str) -> list[str]:
        """The statuses that were reported of a message, in order."""
        changes = [change["value"] for each in self.webhooks for change in each["entry"][0]["changes"]]
        statuses = [status for value in changes for status in value["statuses"]]
        return [each["status"] for each in statuses if each["biz_opaque_callback_data"] == callback_data]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Sandbox:
    """`python -m services.sandbox` on a port of its own."""

    def __init__(self, folder: Path, meta_port: int, legacy_port: int, port: int | None = None) -> None:
        """Webhooks go to `meta_port`, or else to `legacy_port`."""
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._env = folder / ".env"
        self._env.write_text(
            f"SANDBOX_PORT={self.port}\nMETA_PORT={meta_port}\nPORT={legacy_port}\nMETA_APP_SECRET={SECRET}\n"
        )
        self.start()

    def start(self) -> None:
        """Start the process, and wait until it answers."""
        environment = os.environ | {"BISNES_ENV": str(self._env)}
        self._process = subprocess.Popen([sys.executable, "-m", "services.sandbox"], env=environment)
        eventually(self._answers)

    def _answers(self) -> bool:
        assert self._process.poll() is None, "the sandbox did not start"
        try:
            return requests.get(f"{self.url}/health", timeout=HANG_SECONDS).ok
        except requests.ConnectionError:
            return False

    def end(self, signum: int = signal.SIGTERM) -> int:
        """End the process and wait until it is gone. Returns its exit code."""
        self._process.send_signal(signum)
        code = self._process.wait()
        eventually(lambda: not self._listens())  # after a SIGKILL the worker below it ends a moment later
        return code

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def send(
        self, callback_data: str, text: str = "Hello", to: str = "+60123456789", token: str = "t", number: str = "1055"
    ) -> requests.Response:  # fmt: skip
        """Send a text as the business does."""
        fields = {"messaging_product": "whatsapp", "to": to, "text": {"body": text}}
        return requests.post(
            f"{self.url}/v26.0/{number}/messages",
            json=fields | {"biz_opaque_callback_data": callback_data},
            headers={"Authorization": f"Bearer {token}"},
            timeout=HANG_SECONDS,
        )

    def behave(self, **rule: Any) -> None:
        """Add a rule: see `services.sandbox.meta.behaviour.Behaviour`."""
        self.control("behaviour", **rule)

    def control(self, path: str, /, **fields: Any) -> Any:
        """Call a control below /_sandbox/."""
        answer = requests.post(f"{self.url}/_sandbox/{path}", json=fields, timeout=HANG_SECONDS)
        assert answer.ok, answer.text
        return answer.json()

    def say(self, files: Mapping[str, Any] | None = None, **message: Any) -> list[str]:
        """Send a message as a customer. Returns the ids of the messages."""
        url = f"{self.url}/_sandbox/say"
        body: Json = {"data": message, "files": files} if files else {"json": message}
        answer = requests.post(url, timeout=HANG_SECONDS, **body)
        assert answer.ok, answer.text
        ids: list[str] = answer.json()["ids"]
        return ids

    def inbound(self) -> list[Json]:
        """The messages of customers, the latest first."""
        messages: list[Json] = self._get("_sandbox/inbound")["messages"]
        return messages

    def messages(self, **query: Any) -> Any:
        """The requests of the business."""
        return self._get("_sandbox/messages", **query)

    def settle(self) -> None:
        """Wait until all webhooks are delivered, so that none of them reaches the next test."""
        eventually(lambda: self._get("health")["webhooks_waiting"] == 0)

    def _get(self, path: str, **query: Any) -> Any:
        return requests.get(f"{self.url}/{path}", params=query, timeout=HANG_SECONDS).json()

    def reset(self) -> None:
        """Delete messages, rules and facts."""
        self.control("reset")
