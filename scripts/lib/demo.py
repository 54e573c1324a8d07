"""The second half of the quickstart: a demo company with a number of each channel, a message through each.

Runs after `bisnesctl start --multiprocess --sandbox`. It keeps what exists, so it can be repeated.
"""

import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import requests

from bisnesctl.clients.api_client import api_url
from bisnesctl.clients.sandbox_client import DEMO_NUMBER
from bisnesctl.processes.topology import Mode
from bisnesctl.settings import Settings, load

#: The demo company, its customer, and its number's access token; the sandbox takes any.
COMPANY, CUSTOMER, TOKEN = "0100", "60123456789", "sandbox-token"
#: Which of the company's numbers is Meta's and which WhatsApp Web's, and the phone that the latter is linked to.
META, WEB, PHONE = 0, 1, "60110000001"
#: The business account of every number in the sandbox.
DEMO_ACCOUNT = "100000000000001"
#: Seconds until a message must have been reported as delivered, and until a session must work.
PATIENCE, LINK_PATIENCE = 30, 120


class DemoError(Exception):
    """The demo cannot continue; the text says what to do."""


def main() -> int:
    """Runs it and returns the exit code."""
    settings = load()
    try:
        add_number()
        add_web_number()
        key = company_key(settings)
        follow(settings, key, send(META))
        link(settings, key)
        follow(settings, key, send(WEB))
    except DemoError as error:
        print(f"quickstart: {error}", file=sys.stderr)
        return 1
    print(summary(settings))
    return 0


def bisnesctl(*words: str, given: str = "") -> str:
    """Shows a command as it is typed, runs it, and returns its output. Raises `DemoError` if it fails."""
    source = " <token.txt" if given else ""
    print(f"\n$ bisnesctl {shlex.join(words)}{source}", flush=True)
    command = [sys.executable, "-m", "bisnesctl", *words]
    done = subprocess.run(command, input=given, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise DemoError(f"`bisnesctl {words[0]}` failed, see above; `bisnesctl status` shows the processes")
    return done.stdout.strip()


def add_number() -> None:
    """Registers the demo company's number. Raises `DemoError` rather than change a company that is real."""
    found = numbers(META)
    if any(each["phone_number_id"] != DEMO_NUMBER for each in found):
        raise DemoError(f"company {COMPANY} has a number already that is not the demo's: use another DATABASE_URL")
    if not found:
        ids = ("--phone-number-id", DEMO_NUMBER, "--waba-id", DEMO_ACCOUNT)
        bisnesctl("bots", "add", "--company", COMPANY, *ids, "--token-stdin", given=TOKEN)


def add_web_number() -> None:
    """Registers the demo company's WhatsApp Web number. Raises `DemoError` if its index is in use."""
    found = numbers(WEB)
    if any(each["type"] != "wwebjs" for each in found):
        raise DemoError(f"company {COMPANY} has a phone {WEB} already that is not the demo's: use another DATABASE_URL")
    if not found:
        bisnesctl("bots", "add", "--company", COMPANY, "--phone", str(WEB), "--wwebjs")


def numbers(phone: int) -> list[dict[str, Any]]:
    """The demo company's numbers with this index: one or none."""
    found = json.loads(bisnesctl("bots", "list", "--company", COMPANY, "--json"))
    return [each for each in found if each["phone"] == phone]


def link(settings: Settings, key: str) -> None:
    """Scans the session's QR code, unless it is linked, and waits until it works. Raises `DemoError`."""
    deadline, scanned = time.monotonic() + LINK_PATIENCE, False
    while (status := session(settings, key)["status"]) != "WORKING":
        if status == "SCAN_QR_CODE" and not scanned:  # once: it is shown a moment longer than it is good for
            bisnesctl("sandbox", "scan", "--company", COMPANY, "--phone", str(WEB), PHONE)
            scanned = True
        if time.monotonic() > deadline:
            raise DemoError(f"the WhatsApp Web session is {status}: see `bisnesctl status`, `bisnesctl logs wwebjs`")
        time.sleep(1)


def session(settings: Settings, key: str) -> dict[str, Any]:
    """The WhatsApp Web session, as the API has it."""
    answer = get(settings, key, f"/api/sessions/{COMPANY}/{WEB}")
    if answer.status_code != 200:
        raise DemoError(f"the API says: {answer.text.strip()}")
    found: dict[str, Any] = answer.json()["session"]
    return found


def key_file(settings: Settings) -> Path:
    """The file that keeps the demo company's key, which is shown only once."""
    return settings.home / "quickstart.key"


def company_key(settings: Settings) -> str:
    """The demo company's key: the stored one if it is still valid, otherwise a new one."""
    path = key_file(settings)
    if path.exists() and ask(settings, path.read_text().strip(), "").status_code == 200:
        return path.read_text().strip()
    key = bisnesctl("keys", "create", "--company", COMPANY, "--label", "quickstart")
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as stream:
        stream.write(f"{key}\n")
    return key


def send(phone: int) -> str:
    """Sends a message and returns its id."""
    text = f"Hello from the quickstart at {time.strftime('%H:%M:%S')}"
    which = ("--company", COMPANY, "--phone", str(phone))
    said = bisnesctl("send", *which, "--to", CUSTOMER, "--text", text, "--wait")
    print(said)
    return said.split()[0]


def ask(settings: Settings, key: str, path: str) -> requests.Response:
    """The API's answer about the customer's chat or one of its messages. Raises `DemoError` if there is none."""
    return get(settings, key, f"/api/v2/messages/{COMPANY}/{CUSTOMER}{path}")


def get(settings: Settings, key: str, path: str) -> requests.Response:
    """The API's answer to a GET request. Raises `DemoError` if there is none."""
    url = f"{api_url(settings, Mode.MULTIPROCESS)}{path}"
    with requests.Session() as session:
        session.trust_env = False  # no proxy stands between us and our own API
        try:
            return session.get(url, headers={"X-Api-Key": key}, timeout=10)
        except requests.RequestException as error:
            raise DemoError(f"the API does not answer: {error}. See `bisnesctl logs api`") from error


def follow(settings: Settings, key: str, message_id: str) -> None:
    """Shows each status of the message until it is delivered. Raises `DemoError` if it fails or takes too long."""
    shown, deadline = 0, time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        answer = ask(settings, key, f"/{message_id}")
        if answer.status_code != 200:
            raise DemoError(f"the API says: {answer.text.strip()}")
        message = answer.json()
        for entry in message["statuses"][shown:]:
            print(f"  ✓ {entry['status']}", flush=True)
        shown = len(message["statuses"])
        if message["status"] in ("delivered", "read"):
            return
        if message["status"] == "failed":
            raise DemoError(f"the message failed: {reason(message)}. See `bisnesctl logs meta-worker`")
        time.sleep(0.1)
    raise DemoError(f"it was not delivered within {PATIENCE} s: see `bisnesctl status`, `bisnesctl logs meta sandbox`")


def reason(message: dict[str, Any]) -> str:
    """Why a message failed."""
    return str((message.get("error") or {}).get("reason") or "no reason is known")


def summary(settings: Settings) -> str:
    """The text that says where everything is and how to stop it."""
    api, program = api_url(settings, Mode.MULTIPROCESS), Path(".venv/bin/bisnesctl")
    return f"""
Both delivered. Everything runs, in the sandbox:

  the API        {api}
  its document   {api}/openapi/swagger
  the sandbox    http://127.0.0.1:{settings.sandbox_port}/_sandbox/   (WhatsApp Web: …/_sandbox/wa/)
  an API key     {key_file(settings)}   (company {COMPANY})
  logs           {settings.log_dir}   ({program} logs -f)
  processes      {program} status

To stop: {program} stop"""


if __name__ == "__main__":
    sys.exit(main())
