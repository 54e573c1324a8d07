"""The simulator's webhooks: signed, batched and repeated until they are answered with 200, as Meta's are."""

import random
import sqlite3
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import orjson
import requests
import structlog

from services.connectors.meta.receiver import SIGNATURE_HEADER, sign
from services.sandbox.errors import ERRORS, UNDOCUMENTED
from services.sandbox.meta.behaviour import Behaviour, Behaviours, Delivery
from services.sandbox.meta.customers import named
from services.sandbox.meta.destinations import Destination, Destinations
from services.sandbox.meta.graph import Message
from services.sandbox.meta.store import Report, Store

#: Seconds that a receiver may take.
TIMEOUT = 5
#: Seconds between looks where nothing is due.
IDLE = 60.0
#: Seconds before the simulator asks its database again.
PAUSE_SECONDS = 1.0

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
        "id": wamid, "status": status, "timestamp": str(int(at)),
        **named(message.recipient, "recipient_id", "recipient_user_id"),
    }  # fmt: skip
    if message.callback_data is not None:
        found["biz_opaque_callback_data"] = message.callback_data
    if status in ("sent", "delivered"):
        category = "utility" if message.kind == "template" else "service"
        found["pricing"] = {"billable": False, "pricing_model": "PMP", "category": category, "type": "regular"}
    if status == "failed":
        found["errors"] = [_error(behaviour.failed_code)]
    return found


def _error(code: int) -> dict[str, Any]:
    title = ERRORS.get(code, UNDOCUMENTED).title
    details = {"details": "the sandbox was told to report so"}
    return {"code": code, "title": title, "message": title, "error_data": details}


def webhook(found: Sequence[dict[str, Any]]) -> bytes:
    """The body that brings these reports, which are as the store has them with the `account` of each."""
    entries: dict[str, list[dict[str, Any]]] = defaultdict(list)
    said: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for each in found:
        whose, changes = (each["account"], each["phone_number_id"]), entries[each["account"]]
        if not each["status"]:
            changes.append({"field": each["field"], "value": orjson.Fragment(each["body"])})
            continue
        if whose not in said:
            said[whose] = []
            changes.append({"field": "messages", "value": _value(each["phone_number_id"], said[whose])})
        said[whose].append(orjson.loads(each["body"]))
    for changes in entries.values():
        _name_recipients(changes)
    entry = [{"id": account, "changes": changes} for account, changes in entries.items()]
    return orjson.dumps({"object": "whatsapp_business_account", "entry": entry})


def _value(phone_number_id: str, said: list[dict[str, Any]]) -> dict[str, Any]:
    return {"messaging_product": "whatsapp", "metadata": metadata(phone_number_id), "contacts": [], "statuses": said}


def _name_recipients(changes: list[dict[str, Any]]) -> None:
    """Put the recipients of a value's reports into it, but for those of failures, which have none."""
    for value in [each["value"] for each in changes if isinstance(each["value"], dict)]:
        told = [each for each in value["statuses"] if each["status"] != "failed"]
        chats = dict.fromkeys(each.get("recipient_id", each["recipient_user_id"]) for each in told)
        value["contacts"] = [{"profile": {}, **named(chat, "wa_id", "user_id")} for chat in chats]
        if not chats:
            del value["contacts"]


def metadata(phone_number_id: str) -> dict[str, str]:
    """How a webhook names the number that it is about."""
    return {"display_phone_number": phone_number_id, "phone_number_id": phone_number_id}


class Reporter:
    """Delivers what is due from a thread of its own."""

    def __init__(self, store: Store, destinations: Destinations, behaviours: Behaviours, app_secret: str) -> None:
        self._store, self._destinations, self._behaviours = store, destinations, behaviours
        self._secret = app_secret
        self._session = requests.Session()
        self._session.trust_env = False  # a proxy of the environment does not know this machine's ports
        self._woken = threading.Event()
        self._stopped, self._away = False, set[Destination | None]()
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
            try:
                self._report_due()
            except sqlite3.Error as error:  # its disk is full, say: what is due stays so
                log.warning("the simulator's database refused, trying again", reason=str(error))
                self._woken.wait(PAUSE_SECONDS)

    def _report_due(self) -> None:
        delivery = self._behaviours.delivery
        found = self._store.due(time.time(), delivery.batch)
        for destination, reports in self._sorted(found).items():
            self._report(destination, reports, delivery)
        if found:
            time.sleep(delivery.gather_ms / 1000)
        else:
            self._woken.wait(self._pause())

    def _sorted(self, found: list[dict[str, Any]]) -> dict[Destination | None, list[dict[str, Any]]]:
        """The reports by where they go, each with its account."""
        by_destination = defaultdict(list)
        for each in found:
            each["account"] = self._destinations.account(each["phone_number_id"], each["account"])
            by_destination[self._destinations.of(each["phone_number_id"], each["account"])].append(each)
        return by_destination

    def _pause(self) -> float:
        due = self._store.next_due()
        return IDLE if due is None else min(max(due - time.time(), 0.005), IDLE)

    def _report(self, destination: Destination | None, found: list[dict[str, Any]], delivery: Delivery) -> None:
        ids = [each["id"] for each in found]
        if destination is None or self._takes(destination, webhook(found), delivery.repeat):
            self._store.mark_delivered(ids, time.time())
            self._away.discard(destination)
            return
        self._store.postpone(ids, time.time(), delivery.retry_first_ms / 1000, delivery.retry_last_ms / 1000)
        if destination not in self._away:
            log.warning("no receiver takes the webhooks, they are repeated", receivers=" ".join(destination.urls))
        self._away.add(destination)

    def _takes(self, destination: Destination, body: bytes, repeat: int) -> bool:
        headers = {"Content-Type": "application/json"} | dict(destination.headers)
        if destination.signed:
            headers[SIGNATURE_HEADER] = sign(self._secret, body)
        for url in destination.urls:
            if self._posts(url, body, headers):
                return all(self._posts(url, body, headers) for _ in range(repeat))
        return False

    def _posts(self, url: str, body: bytes, headers: dict[str, str]) -> bool:
        try:
            return self._session.post(url, body, headers=headers, timeout=TIMEOUT).status_code == 200
        except (requests.RequestException, ValueError) as error:
            log.debug("a receiver cannot be reached", receiver=url, reason=str(error))
            return False
