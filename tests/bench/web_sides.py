"""The two sides of the comparison on the simulated WhatsApp Web: a session of ours, and wppconnect behind Express."""

import contextlib
import json
import os
import secrets
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import psutil
import requests

from bisnesctl.host import browsers
from tests.bench import tools, usage
from tests.bench.sides import wait_for
from tests.bench.stage import free_port
from tests.support.waiting import wait_until
from tests.support.web_deployment import COMPANY, WebDeployment

#: The phone number that the peer's page is linked to.
PEER_NUMBER = "60180000001"
#: How long a POST may take: the peer's waits until WhatsApp's server has the text.
POST_TIMEOUT_SECONDS = 120
#: How long the peer's page may take to show its code, and to work.
LINK_TIMEOUT_SECONDS = 90
#: Programs of a deployment that only Meta's numbers need, or that stand for the provider.
_NOT_NEEDED = ("meta", "sandbox")

#: Each thread's `client`, which keeps its connection: opening one for each message would distort the figures.
_own = threading.local()


class WebSide(Protocol):
    """A linked number that sends texts."""

    name: str
    #: The number of its phone, in digits.
    number: str

    def post(self, chat: str, text: str) -> None:
        """POST a text to a chat. Raises `requests.RequestException`."""

    def cpu_seconds(self) -> float:
        """The CPU time of all its processes since they started, browser and servers included."""


def post_json(url: str, fields: dict[str, object], headers: dict[str, str]) -> None:
    """POST over the thread's own connection. Raises `requests.RequestException` unless it succeeds."""
    if not hasattr(_own, "client"):
        _own.client = requests.Session()
    _own.client.post(url, json=fields, headers=headers, timeout=POST_TIMEOUT_SECONDS).raise_for_status()


class OurSession:
    """The first WhatsApp Web number of a deployment."""

    name = "ours"

    def __init__(self, deployment: WebDeployment, index: int = 1) -> None:
        self._deployment, self._index = deployment, index
        deployment.add_web_bot(index)
        self.number = deployment.link(index)
        rows = deployment.status()
        self._roots = [
            psutil.Process(int(row["pid"]))
            for name, row in rows.items()
            if row.get("pid") and not name.startswith(_NOT_NEEDED)
        ]

    def post(self, chat: str, text: str) -> None:
        deployment = self._deployment
        url = f"{deployment.api}/api/v2/messages/text/{COMPANY}/{chat}"
        post_json(url, {"message": text, "phoneIndex": self._index}, {"X-Api-Key": deployment.key})

    def cpu_seconds(self) -> float:
        return usage.cpu_seconds(self._roots)


class Peer:
    """wppconnect behind Express, with the steps of wppconnect-server, on the same simulated page."""

    name = "wppconnect"
    number = PEER_NUMBER

    def __init__(self, deployment: WebDeployment, folder: Path) -> None:
        self._place = tools.install_peer("web_peer")
        self._folder, self._log = folder, folder / "web_peer.log"
        self._port, self._forwarder_port = free_port(), free_port()
        self._started: list[psutil.Popen] = []
        self._server: psutil.Popen | None = None
        self._deployment = deployment

    def start(self) -> None:
        """Start its processes, and link its page with a phone."""
        key, certificate = _self_signed(self._folder)
        self._launch(
            "forwarder.js", PORT=self._forwarder_port, KEY=key, CERTIFICATE=certificate, PREFIX="/_wa",
            TARGET_PORT=self._deployment.settings.sandbox_port,
        )  # fmt: skip
        known = {device["id"] for device in self._devices()}
        self._server = self._launch(
            "server.js", PORT=self._port, CHROMIUM=browsers.find_chromium(None), FORWARDER_PORT=self._forwarder_port,
            PROFILE=self._folder / "web_peer-profile", SECRET=secrets.token_hex(16), NODE_ENV="production",
        )  # fmt: skip
        wait_until(lambda: self._link(known), LINK_TIMEOUT_SECONDS, self._log.read_text)
        wait_for(f"{self._url}/ready", self._alive())
        with urllib.request.urlopen(f"{self._url}/token", timeout=10) as answer:
            self._token = json.load(answer)["token"]

    @property
    def _url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def _devices(self) -> list[dict[str, object]]:
        devices: list[dict[str, object]] = requests.get(f"{self._deployment.sandbox}/wa/state", timeout=10).json()[
            "devices"
        ]
        return devices

    def _link(self, known: set[object]) -> bool:
        """Scan the code of the page that is new; returns whether there was one."""
        for device in self._devices():
            if device["id"] not in known:
                return self._deployment.wa_post("scan", number=self.number, device=device["id"]).ok
        return False

    def _launch(self, script: str, **variables: object) -> psutil.Popen:
        environment = os.environ | {name: str(value) for name, value in variables.items()}
        with self._log.open("ab") as log:
            process = psutil.Popen(["node", script], cwd=self._place, env=environment, stdout=log, stderr=log)
        self._started.append(process)
        return process

    def _alive(self) -> Iterator[bool]:
        while True:
            yield all(process.poll() is None for process in self._started)

    def post(self, chat: str, text: str) -> None:
        headers = {"Authorization": f"Bearer {self._token}"}
        post_json(f"{self._url}/api/bench/send-message", {"phone": chat, "message": text}, headers)

    def cpu_seconds(self) -> float:
        assert self._server is not None, "start() comes first"
        return usage.cpu_seconds([self._server])

    def stop(self) -> None:
        """End its processes; harmless if there are none."""
        usage.end(self._started)
        self._started = []


def _self_signed(folder: Path) -> tuple[Path, Path]:
    """A key and a certificate for the forwarder; the browser ignores that nobody has signed it."""
    key, certificate = folder / "forwarder.key", folder / "forwarder.crt"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=web.whatsapp.com",
    ]
    subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True, timeout=60)
    return key, certificate


@contextlib.contextmanager
def peer_started(deployment: WebDeployment, folder: Path) -> Iterator[Peer]:
    """The peer, linked and ready; it is ended in any case."""
    peer = Peer(deployment, folder)
    try:
        peer.start()
        yield peer
    finally:
        peer.stop()


def pause_until(moment: float) -> None:
    """Sleep until a moment of `time.time`."""
    time.sleep(max(0.0, moment - time.time()))
