"""Sends and answers with pywa, a third-party client of Meta's Graph API, against bisnesctl's sandbox.

    export META_APP_SECRET=…   # as in .env: the sandbox signs webhooks with it
    python pywa_sandbox.py     # Ctrl-C ends it

It shows that the sandbox stands in for the Graph API: only the address and the calls that set the sandbox up are
bisnesctl's own. Needs Python 3.11 or newer and `pip install 'pywa>=4.5,<5' flask`.
"""

import os
import secrets
import sys
import threading
from typing import Any

import httpx
from flask import Flask
from pywa import WhatsApp, errors, filters, handlers, types
from werkzeug.serving import BaseWSGIServer, make_server

SANDBOX_URL = os.environ.get("SANDBOX_URL", "http://127.0.0.1:3010")
PORT = int(os.environ.get("WEBHOOK_PORT", "8081"))
#: A number in an account of its own: the webhooks of other accounts still go to bisnesctl.
NUMBER, ACCOUNT = "100000000000200", "200000000000001"
CUSTOMER = "60123456789"
#: Proves to this program that the request to confirm its address comes from the sandbox.
VERIFY_TOKEN = secrets.token_urlsafe()
TIMEOUT_SECONDS = 30


def main() -> int:
    app_secret = os.environ.get("META_APP_SECRET")
    if not app_secret:
        print("pywa_sandbox: set META_APP_SECRET to the value in .env", file=sys.stderr)
        return 2
    client, server = make_client(app_secret)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        run(client)
    except KeyboardInterrupt:
        return 0
    except httpx.HTTPError as error:
        print(f"pywa_sandbox: no sandbox answers at {SANDBOX_URL} ({error})", file=sys.stderr)
    except errors.WhatsAppError as error:
        print(f"pywa_sandbox: the sandbox refuses: {error}", file=sys.stderr)
    finally:
        server.shutdown()
        thread.join(TIMEOUT_SECONDS)
    return 1


def make_client(app_secret: str) -> tuple[WhatsApp, BaseWSGIServer]:
    """pywa's client with the sandbox as the Graph API, and the server that receives its webhooks."""
    app, session = Flask(__name__), httpx.Client(timeout=TIMEOUT_SECONDS)
    client = WhatsApp(
        NUMBER, os.environ.get("META_TOKEN", "sandbox-token"), session=session, server=app, waba_id=ACCOUNT,
        verify_token=VERIFY_TOKEN, app_secret=app_secret, webhook_endpoint="/pywa",
    )  # fmt: skip
    session.base_url = f"{SANDBOX_URL}/v26.0"  # pywa has set Meta's
    client.add_handlers(handlers.MessageHandler(answer, filters.text), handlers.MessageStatusHandler(report))
    return client, make_server("127.0.0.1", PORT, app, threaded=True)


def answer(_: WhatsApp, message: types.Message) -> None:
    """Marks a customer's text as read and replies."""
    print(f"{message.from_user.name} says: {message.text}", flush=True)
    message.mark_as_read()
    message.reply(f"You said: {message.text}", quote=True)


def report(_: WhatsApp, status: types.MessageStatus[Any]) -> None:
    """Prints a new status of a message."""
    reason = f": {status.error}" if status.error else ""
    print(f"{status.id} is {status.status.value}{reason}", flush=True)


def run(client: WhatsApp) -> None:
    """Sets the sandbox up, sends a message, and answers until Ctrl-C."""
    set_up("number", {"phone_number_id": NUMBER, "account": ACCOUNT})
    client.override_waba_callback_url(f"http://127.0.0.1:{PORT}/pywa", VERIFY_TOKEN)
    sent = client.send_message(CUSTOMER, "Hello from pywa")
    print(f"sent as {sent.id}; say something to it: bisnesctl sandbox say --to {NUMBER} Hello", flush=True)
    threading.Event().wait()


def set_up(what: str, fields: dict[str, Any]) -> None:
    """Changes the sandbox itself; Meta has no such call."""
    httpx.post(f"{SANDBOX_URL}/_sandbox/{what}", json=fields, timeout=TIMEOUT_SECONDS).raise_for_status()


if __name__ == "__main__":
    sys.exit(main())
