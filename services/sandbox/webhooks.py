"""Status reports of the simulator: signed, batched and repeated until they are answered with 200, as Meta's are."""

import random
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import orjson
import requests
import structlog

from services.connectors.meta.errors import TABLE
from services.connectors.meta.signature import HEADER, sign
from services.sandbox.behaviour import Behaviour
from services.sandbox.graph import Message
from services.sandbox.store import Report, Store

#: Reports in one webhook, at most (Meta's are up to 1000).
BATCH = 200
#: Seconds that a receiver may take.
TIMEOUT = 5
#: Seconds between looks where nothing is due, and after a webhook, so that reports gather for the next.
IDLE, GATHER = 60.0, 0.02
ACCOUNT_ID = "100000000000001"

log = structlog.get_logger()


def reports(message: Message, wamid: str, phone_number_id: str, behaviour: Behaviour, now: float) -> Iterator[Report]:
    """What will be reported of a message that is taken `now`, in seconds since the epoch."""
    said = [status for status in behaviour.statuses for _ in range(1 + behaviour.duplicate_webhooks)]
    if behaviour.shuffle_webhooks:
        random.shuffle(said)
    for n, status in enumerate(said, 1):
        due = now + n * behaviour.webhook_delay_ms / 1000
        body = orjson.dumps(_status(message, wamid, status, behaviour, due)).decode()
        yield Report(wamid, phone_number_id, status, body, due)


def _status(message: Message, wamid: str, status: str, behaviour: Behaviour, at: float) -> dict[str, Any]:
    found: dict[str, Any] = {
        "id": wamid, "status": status, "timestamp": str(int(at)), "recipient_id": message.recipient,
    }  # fmt: skip
    if message.callback_data is not None:
        found["biz_opaque_callback_data"] = message.callback_data
    if status in ("sent", "delivered"):
        found["pricing"] = {"billable": False, "pricing_model": "PMP", "category": "service", "type": "regular"}
    if status == "failed":
        found["errors"] = [_error(behaviour.failed_code)]
    return found


def _error(code: int) -> dict[str, Any]:
    about = TABLE[code].about if code in TABLE else "an error that is not documented"
    details = {"details": "the sandbox was told to report so"}
    return {"code": code, "title": about, "message": about, "error_data": details}


def webhook(found: Sequence[dict[str, Any]]) -> bytes:
    """The body that brings these reports; each has `phone_number_id` and its JSON `body`."""
    by_number = defaultdict(list)
    for each in found:
        by_number[each["phone_number_id"]].append(orjson.Fragment(each["body"]))
    changes = [{"field": "messages", "value": _value(number, said)} for number, said in by_number.items()]
    return orjson.dumps({"object": "whatsapp_business_account", "entry": [{"id": ACCOUNT_ID, "changes": changes}]})


def _value(phone_number_id: str, said: list[orjson.Fragment]) -> dict[str, Any]:
    metadata = {"display_phone_number": phone_number_id, "phone_number_id": phone_number_id}
    return {"messaging_product": "whatsapp", "metadata": metadata, "statuses": said}


class Reporter:
    """Delivers what is due from a thread of its own."""

    def __init__(self, store: Store, receivers: Sequence[str], app_secret: str) -> None:
        """`receivers`: URLs, of which the first that takes a webhook gets it."""
        self._store, self._receivers, self._secret = store, receivers, app_secret
        self._session = requests.Session()
        self._session.trust_env = False  # a proxy of the environment does not know this machine's ports
        self._woken = threading.Event()
        self._stopped = self._away = False
        self._thread = threading.Thread(target=self._report_on, name="reporter", daemon=True)

    def start(self) -> None:
        """Begin, with what an earlier process left."""
        self._thread.start()

    def wake(self) -> None:
        """There are new reports."""
        self._woken.set()

    def stop(self) -> None:
        """End after the webhook that is under way."""
        self._stopped = True
        self._woken.set()
        self._thread.join(TIMEOUT)

    def _report_on(self) -> None:
        while not self._stopped:
            self._woken.clear()
            found = self._store.due(time.time(), BATCH)
            if found:
                self._report(found)
                time.sleep(GATHER)
            else:
                self._woken.wait(self._pause())

    def _pause(self) -> float:
        due = self._store.next_due()
        return IDLE if due is None else min(max(due - time.time(), 0.005), IDLE)

    def _report(self, found: list[dict[str, Any]]) -> None:
        ids = [each["id"] for each in found]
        body = webhook(found)
        if any(self._takes(receiver, body) for receiver in self._receivers):
            self._store.mark_delivered(ids, time.time())
            self._away = False
            return
        self._store.postpone(ids, time.time())
        if not self._away:
            log.warning("no receiver takes the webhooks, they are repeated", receivers=" ".join(self._receivers))
        self._away = True

    def _takes(self, receiver: str, body: bytes) -> bool:
        headers = {"Content-Type": "application/json", HEADER: sign(self._secret, body)}
        try:
            return self._session.post(receiver, body, headers=headers, timeout=TIMEOUT).status_code == 200
        except requests.RequestException as error:
            log.debug("a receiver cannot be reached", receiver=receiver, reason=str(error))
            return False
