"""Receives bisnesctl's webhooks: proves that each is genuine, stores each event once, and handles it afterwards.

    export WEBHOOK_SECRET=…   # register.py prints it
    python receiver.py        # in production: gunicorn --threads 8 'receiver:create_app()'

Needs Python 3.10 or newer and `pip install flask`. Run one process of it: that one handles the events.
"""

import hashlib
import hmac
import json
import os
import re
import sqlite3
import sys
import threading
import time
from contextlib import closing
from typing import Any

from flask import Flask, request
from werkzeug.datastructures import Headers

#: How far X-Webhook-Timestamp may be from this machine's clock.
TOLERANCE_SECONDS = 300
#: How long handled events are remembered, so that a repeated one is recognised. At least EVENTS_KEEP_DAYS of bisnesctl.
KEEP_SECONDS = 30 * 86400
MAX_BODY_BYTES = 4_000_000
DATABASE = os.environ.get("WEBHOOK_DATABASE", "webhook-events.db")
PORT = int(os.environ.get("WEBHOOK_PORT", "8080"))

arrived = threading.Event()


def handle(event: dict[str, Any]) -> None:
    """Your code. May run a second time for the same event if the process is killed while it runs."""
    payload = event["payload"]
    if event["event"] == "message":
        print(f"{payload['chatId']} says: {payload['body']}", flush=True)
    elif event["event"] == "message.ack":
        print(f"message {payload['id']} is {payload['status']}", flush=True)
    else:
        print(f"event {event['event']}", flush=True)


def refusal(secret: str, body: bytes, headers: Headers, now: float) -> str | None:
    """Why a call is refused; None if it is genuine. `body`: the bytes as they came, never JSON that was written again.

    The signature covers the body alone. So the age refuses calls that somebody recorded and plays back as they are;
    against those with a new timestamp, the event's id in the signed body helps: it is known already.
    """
    expected = hmac.new(secret.encode(), body, hashlib.sha512).hexdigest().encode()
    # While a secret is being replaced, the second header is signed with the one before.
    given = [headers.get(name, "").encode() for name in ("X-Webhook-Hmac", "X-Webhook-Hmac-Previous")]
    if not any(hmac.compare_digest(expected, each) for each in given):
        return "wrong signature"
    sent_ms = headers.get("X-Webhook-Timestamp", "")
    if not re.fullmatch("[0-9]{1,15}", sent_ms) or abs(now - int(sent_ms) / 1000) > TOLERANCE_SECONDS:
        return "the timestamp is missing or too far from this machine's clock"
    return None


def create_app() -> Flask:
    """The application, with its thread that handles events. Raises RuntimeError if there is no secret."""
    secret = os.environ.get("WEBHOOK_SECRET")
    if not secret:
        raise RuntimeError("set WEBHOOK_SECRET to the webhook's secret, which register.py prints")
    os.close(os.open(DATABASE, os.O_RDWR | os.O_CREAT, 0o600))  # what customers write is for this user alone
    with closing(connect()) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute(
            "CREATE TABLE IF NOT EXISTS events (id TEXT PRIMARY KEY, body TEXT NOT NULL, handled_at REAL, error TEXT)"
        )
    app = Flask(__name__)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES  # Flask answers 413 to more

    @app.post("/webhooks")
    def receive() -> tuple[str, int]:
        """Store the event and answer at once. Any answer but 2xx makes bisnesctl try again later."""
        body = request.get_data()
        if reason := refusal(secret, body, request.headers, time.time()):
            app.logger.warning("refused a call from %s: %s", request.remote_addr, reason)
            return reason, 401
        event = json.loads(body)
        if not store(event["id"], body):
            return "known already", 200
        arrived.set()
        return "stored", 200

    threading.Thread(target=handle_events, name="handler", daemon=True).start()
    return app


def connect() -> sqlite3.Connection:
    return sqlite3.connect(DATABASE, timeout=5)


def store(event_id: str, body: bytes) -> bool:
    """Stores an event durably; False if it is there already. Events may come more than once, always with one id."""
    with closing(connect()) as database, database:
        statement = "INSERT INTO events (id, body) VALUES (?, ?) ON CONFLICT (id) DO NOTHING"
        return database.execute(statement, (event_id, body.decode())).rowcount == 1


def handle_events() -> None:
    """Handles stored events one after the other, in the order in which they came."""
    while True:
        try:
            with closing(connect()) as database:
                handle_stored(database)
        except sqlite3.Error as error:  # the disk is full, for example: what is stored is handled later
            print(f"the events' database failed: {error}", file=sys.stderr, flush=True)
        arrived.wait(timeout=10)
        arrived.clear()


def handle_stored(database: sqlite3.Connection) -> None:
    waiting = "SELECT id, body FROM events WHERE handled_at IS NULL ORDER BY rowid LIMIT 1"
    while row := database.execute(waiting).fetchone():
        error = None
        try:
            handle(json.loads(row[1]))
        except Exception as failure:  # one bad event must not stop the others; set handled_at to NULL to repeat it
            error = repr(failure)
            print(f"event {row[0]} failed: {error}", file=sys.stderr, flush=True)
        with database:
            database.execute("UPDATE events SET handled_at = ?, error = ? WHERE id = ?", (time.time(), error, row[0]))
    with database:
        database.execute("DELETE FROM events WHERE handled_at < ?", (time.time() - KEEP_SECONDS,))


if __name__ == "__main__":
    try:
        application = create_app()
    except RuntimeError as error:
        sys.exit(f"receiver: {error}")
    application.run(host="127.0.0.1", port=PORT, threaded=True)
