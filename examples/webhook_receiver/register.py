"""Registers a webhook for messages and their statuses, and prints its secret.

    export BISNES_API_KEY=…   # of the company
    (umask 077; python register.py https://shop.example/webhooks >webhook.secret)

If the address is registered already, it gets a new secret; calls are signed with the old one as well for an hour.
Needs Python 3.10 or newer and `pip install requests`.
"""

import os
import sys
from typing import Any

import requests

API_URL = os.environ.get("BISNES_API_URL", "http://127.0.0.1:3000")
EVENTS = ["message", "message.ack"]
OVERLAP_SECONDS = 3600
TIMEOUT_SECONDS = 30


def main() -> int:
    api_key = os.environ.get("BISNES_API_KEY")
    if len(sys.argv) != 2 or not api_key:
        print("usage: BISNES_API_KEY=… register.py URL", file=sys.stderr)
        return 2
    try:
        with requests.Session() as session:
            session.headers["X-Api-Key"] = api_key
            print(register(session, sys.argv[1]))
    except requests.RequestException as error:
        print(f"register: {error}", file=sys.stderr)
        return 1
    return 0


def register(session: requests.Session, url: str) -> str:
    """Registers the address, or rotates its secret; returns the secret, which the API shows this once."""
    for webhook in call(session, "GET", "/api/webhooks")["webhooks"]:
        if webhook["url"] == url:
            rotation = {"overlapSeconds": OVERLAP_SECONDS}
            return str(call(session, "POST", f"/api/webhooks/{webhook['id']}/rotate", rotation)["secret"])
    return str(call(session, "POST", "/api/webhooks", {"url": url, "events": EVENTS})["secret"])


def call(session: requests.Session, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """The JSON of a success. Raises requests.RequestException with the API's own sentence for an error."""
    answer = session.request(method, f"{API_URL}{path}", json=body, timeout=TIMEOUT_SECONDS, allow_redirects=False)
    found = answer.json()
    if not answer.ok:
        raise requests.HTTPError(f"HTTP {answer.status_code} {found.get('code')}: {found.get('error')}")
    return dict(found)


if __name__ == "__main__":
    sys.exit(main())
