"""Sends a WhatsApp text through bisnesctl and waits until it is delivered.

    export BISNES_API_KEY=…   # of the company; `bisnesctl keys create --company 0100` makes one
    python send_message.py --company 0100 --to 60123456789 --idempotency-key order-17 "Your order is ready"

Needs Python 3.10 or newer and `pip install requests`. Exit codes: 0 delivered, 1 failed, 2 wrong usage, 3 not delivered
yet.
"""

import argparse
import os
import sys
import time
import uuid
from typing import Any
from urllib.parse import quote

import requests

API_URL = os.environ.get("BISNES_API_URL", "http://127.0.0.1:3000")
#: Seconds to connect, and seconds without a byte of the answer.
TIMEOUT_SECONDS = (5, 30)
#: Longest pause between two attempts, and between two looks at the status.
MAX_BACKOFF_SECONDS, MAX_POLL_SECONDS = 30.0, 5.0


class SendError(Exception):
    """The message failed, or the API refused the request."""


class NotYet(Exception):
    """The time is up before the message was accepted or delivered."""


def main() -> int:
    options = read_options()
    key = options.idempotency_key or str(uuid.uuid4())
    deadline = time.monotonic() + options.wait
    # The API key is a secret: it comes from the environment, because every user of a machine can see command lines.
    api_key = os.environ.get("BISNES_API_KEY")
    if not api_key:
        print("send_message: set BISNES_API_KEY to an API key of the company", file=sys.stderr)
        return 2
    try:
        with requests.Session() as session:
            session.headers["X-Api-Key"] = api_key
            chat = f"{quote(options.company, safe='')}/{quote(options.to, safe='')}"
            message_id = send(session, chat, options.text, key, deadline)
            follow(session, chat, message_id, deadline)
    except NotYet as error:
        again = f"Run it again with --idempotency-key {key}: the message is not sent twice."
        print(f"send_message: {error}. {again}", file=sys.stderr)
        return 3
    except (SendError, requests.RequestException) as error:
        print(f"send_message: {error}", file=sys.stderr)
        return 1
    return 0


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Sends a WhatsApp text and waits until it is delivered.")
    parser.add_argument("--company", required=True, help="the company that sends, such as 0100")
    parser.add_argument("--to", required=True, help="the recipient's number in international form")
    parser.add_argument("--idempotency-key", help="a name for this message, such as order-17; it is sent once only")
    parser.add_argument("--wait", type=float, default=60, help="seconds to wait until it is delivered (%(default)s)")
    parser.add_argument("text")
    return parser.parse_args()


def send(session: requests.Session, chat: str, text: str, key: str, deadline: float) -> str:
    """Has the message accepted and returns its id."""
    url, headers = f"{API_URL}/api/v2/messages/text/{chat}", {"Idempotency-Key": key}
    accepted = call(session, "POST", url, deadline, json={"message": text}, headers=headers)
    print(f"accepted as {accepted['messageId']}", flush=True)
    return str(accepted["messageId"])


def follow(session: requests.Session, chat: str, message_id: str, deadline: float) -> None:
    """Prints each new status until the message is delivered. To follow many messages, use webhooks (message.ack)."""
    shown, pause = "", 0.25
    while True:
        message = call(session, "GET", f"{API_URL}/api/v2/messages/{chat}/{message_id}", deadline)
        status = message["status"]
        if status != shown:
            print(status, flush=True)
            shown = status
        if status in ("delivered", "read"):
            return
        if status == "failed":
            raise SendError(f"the message failed: {(message.get('error') or {}).get('reason')}")
        if time.monotonic() + pause > deadline:
            raise NotYet(f"the message is still {status}")
        time.sleep(pause)
        pause = min(pause * 1.5, MAX_POLL_SECONDS)


def call(session: requests.Session, method: str, url: str, deadline: float, **options: Any) -> dict[str, Any]:
    """Makes a request and returns the JSON of its answer.

    Repeats the request if the server is busy or unavailable, or if the answer was lost. That is safe for a send because
    every attempt has the same Idempotency-Key: if an earlier attempt was accepted, the answer names that message.
    """
    backoff = 1.0
    while True:
        pause = backoff
        try:
            answer = session.request(method, url, timeout=TIMEOUT_SECONDS, allow_redirects=False, **options)
            if answer.status_code not in (429, 503):
                return checked(answer)
            problem = f"HTTP {answer.status_code}"
            retry_after = answer.headers.get("Retry-After", "")
            pause = float(retry_after) if retry_after.isdecimal() else backoff
        except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
            problem = f"no answer from {API_URL} ({type(error).__name__})"
        if time.monotonic() + pause > deadline:
            raise NotYet(problem)
        print(f"{problem}: next attempt in {pause:g} s", file=sys.stderr, flush=True)
        time.sleep(pause)
        backoff = min(backoff * 2, MAX_BACKOFF_SECONDS)


def checked(answer: requests.Response) -> dict[str, Any]:
    """The JSON of a success. Errors have the form {"success": false, "error": "a sentence", "code": "a_word"}."""
    try:
        body = answer.json()
    except requests.JSONDecodeError:
        raise SendError(f"HTTP {answer.status_code} without JSON: is {API_URL} the API?") from None
    if not answer.ok:
        raise SendError(f"HTTP {answer.status_code} {body.get('code')}: {body.get('error')}")
    return dict(body)


if __name__ == "__main__":
    sys.exit(main())
