"""The sandbox as a process, and a receiver of its webhooks."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import orjson
import requests

from services.connectors.meta.receiver import SIGNATURE_HEADER, verify_signature

SECRET = "app-secret"


def free_port():
    """A port that was free just now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def eventually(condition):
    """Wait until the condition holds and return what it says; pytest's time limit ends a test where it never does."""
    while not (found := condition()):
        time.sleep(0.02)
    return found


class Receiver:
    """Takes webhooks; the next `refusals` of them are answered with 503."""

    def __init__(self, port=0):
        self.refusals, self.unsigned, self.webhooks, self.headers = 0, 0, [], []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                asked = parse_qs(urlsplit(self.path).query)
                known = asked.get("hub.verify_token") == ["verify"]
                answer = asked["hub.challenge"][0].encode() if known else b"no"
                self.send_response(200 if known else 403)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def do_POST(self):
                outer.headers.append(dict(self.headers))
                status = outer._take(
                    self.rfile.read(int(self.headers["Content-Length"])), self.headers[SIGNATURE_HEADER]
                )
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}/"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def _take(self, body, signature):
        self.unsigned += not verify_signature(SECRET, body, signature)
        if self.refusals:
            self.refusals -= 1
            return 503
        self.webhooks.append(orjson.loads(body))
        return 200

    def said(self, callback_data):
        """The statuses that were reported of the message, in their order."""
        changes = [change["value"] for each in self.webhooks for change in each["entry"][0]["changes"]]
        statuses = [status for value in changes for status in value["statuses"]]
        return [each["status"] for each in statuses if each["biz_opaque_callback_data"] == callback_data]

    def close(self):
        self._server.shutdown()
        self._server.server_close()


class Sandbox:
    """`python -m services.sandbox` on a port of its own."""

    def __init__(self, folder, meta_port, legacy_port, port=None):
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._env = folder / ".env"
        self._env.write_text(
            f"SANDBOX_PORT={self.port}\nMETA_PORT={meta_port}\nPORT={legacy_port}\nMETA_APP_SECRET={SECRET}\n"
        )
        self.start()

    def start(self):
        environment = os.environ | {"BISNES_ENV": str(self._env)}
        self._process = subprocess.Popen([sys.executable, "-m", "services.sandbox"], env=environment)
        eventually(self._answers)

    def _answers(self):
        assert self._process.poll() is None, "the sandbox did not start"
        try:
            return requests.get(f"{self.url}/health", timeout=5).ok
        except requests.ConnectionError:
            return False

    def end(self, signum=signal.SIGTERM):
        """End it and wait for its end; returns the exit code."""
        self._process.send_signal(signum)
        code = self._process.wait()
        eventually(lambda: not self._listens())  # after a SIGKILL the worker below it ends a moment later
        return code

    def _listens(self):
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def send(self, callback_data, text="Hello", to="+60123456789", token="t", number="1055"):
        fields = {"messaging_product": "whatsapp", "to": to, "text": {"body": text}}
        return requests.post(
            f"{self.url}/v26.0/{number}/messages",
            json=fields | {"biz_opaque_callback_data": callback_data},
            headers={"Authorization": f"Bearer {token}"},
            timeout=30,
        )

    def behave(self, **rule):
        answer = requests.post(f"{self.url}/_sandbox/behaviour", json=rule, timeout=5)
        assert answer.ok, answer.text

    def control(self, path, /, **fields):
        answer = requests.post(f"{self.url}/_sandbox/{path}", json=fields, timeout=5)
        assert answer.ok, answer.text
        return answer.json()

    def say(self, files=None, **saying):
        """Speak as a customer; returns the messages' ids."""
        url = f"{self.url}/_sandbox/say"
        sent = {"data": saying, "files": files} if files else {"json": saying}
        answer = requests.post(url, timeout=10, **sent)
        assert answer.ok, answer.text
        return answer.json()["ids"]

    def inbound(self):
        return requests.get(f"{self.url}/_sandbox/inbound", timeout=5).json()["messages"]

    def messages(self, **asked):
        return requests.get(f"{self.url}/_sandbox/messages", params=asked, timeout=5).json()

    def settle(self):
        """Wait until all webhooks are delivered: none of them comes into what follows."""
        eventually(lambda: requests.get(f"{self.url}/health", timeout=5).json()["webhooks_waiting"] == 0)

    def reset(self):
        assert requests.post(f"{self.url}/_sandbox/reset", timeout=5).ok
