"""Webhooks as Meta sends them: signed, batched, and retried until they are answered with 200."""

import random
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import orjson
import requests
import structlog

from services.connectors.meta.receiver import SIGNATURE_HEADER, sign
from services.sandbox.meta.behaviour import Behaviour, Behaviours, Delivery
from services.sandbox.meta.customers import customer_fields
from services.sandbox.meta.destinations import Destination, Destinations
from services.sandbox.meta.errors import ERRORS, UNDOCUMENTED
from services.sandbox.meta.graph import Message
from services.sandbox.meta.store import Store, WebhookUpdate

#: How long a receiver may take to answer.
RECEIVER_TIMEOUT_SECONDS = 5
#: The longest pause between two queries for due updates.
IDLE_PAUSE_SECONDS = 60.0
#: The shortest one.
MIN_PAUSE_SECONDS = 0.005
#: Updates in one webhook, at most, unless a setting says otherwise.
MAX_BATCH = 200
#: Updates that are due together, up to which each gets a webhook of its own, as Meta mostly does.
MAX_ALONE = 30
#: Pause after an error of the database.
RETRY_SECONDS = 1.0

log = structlog.get_logger()


def status_updates(
    message: Message, wamid: str, phone_number_id: str, behaviour: Behaviour, now: float
) -> Iterator[WebhookUpdate]:
    """The statuses to report of a message that is accepted `now`, in seconds since the epoch."""
    statuses = [status for status in behaviour.statuses for _ in range(1 + behaviour.duplicate_webhooks)]
    if behaviour.shuffle_webhooks:
        random.shuffle(statuses)
    for n, status in enumerate(statuses, 1):
        due = now + n * behaviour.webhook_delay_ms / 1000
        body = orjson.dumps(_status(message, wamid, status, behaviour, due)).decode()
        yield WebhookUpdate(wamid, phone_number_id, status, body, due)


def _status(message: Message, wamid: str, status: str, behaviour: Behaviour, at: float) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "id": wamid, "status": status, "timestamp": str(int(at)), **_recipient(message),
    }  # fmt: skip
    if message.callback_data is not None:
        fields["biz_opaque_callback_data"] = message.callback_data
    if status in ("sent", "delivered"):
        category = "utility" if message.kind == "template" else "service"
        fields["pricing"] = {"billable": False, "pricing_model": "PMP", "category": category, "type": "regular"}
    if status == "failed":
        fields["errors"] = [_error(behaviour.failed_code, behaviour.failed_details)]
    return fields


def _recipient(message: Message) -> dict[str, str]:
    if message.to_group:
        return {"recipient_id": message.recipient, "recipient_type": "group"}
    return customer_fields(message.recipient, "recipient_id", "recipient_user_id")


def _error(code: int, details: str) -> dict[str, Any]:
    title = ERRORS.get(code, UNDOCUMENTED).title
    return {"code": code, "title": title, "message": title, "error_data": {"details": details}}


def webhook_body(updates: Sequence[dict[str, Any]]) -> bytes:
    """The body that delivers updates: rows of `webhook_update`, each with the `metadata` of its number."""
    changes_of: dict[str, list[dict[str, Any]]] = defaultdict(list)  # by account
    statuses_of: dict[tuple[str, str], list[dict[str, Any]]] = {}  # by account and number
    for update in updates:
        key, changes = (update["account"], update["phone_number_id"]), changes_of[update["account"]]
        if not update["status"]:
            changes.append({"field": update["field"], "value": orjson.Fragment(update["body"])})
            continue
        if key not in statuses_of:
            statuses_of[key] = []
            changes.append({"field": "messages", "value": _statuses_value(update["metadata"], statuses_of[key])})
        statuses_of[key].append(orjson.loads(update["body"]))
    for changes in changes_of.values():
        _add_contacts(changes)
    entry = [{"id": account, "changes": changes} for account, changes in changes_of.items()]
    return orjson.dumps({"object": "whatsapp_business_account", "entry": entry})


def _statuses_value(metadata: dict[str, str], statuses: list[dict[str, Any]]) -> dict[str, Any]:
    return {"messaging_product": "whatsapp", "metadata": metadata, "contacts": [], "statuses": statuses}


def _add_contacts(changes: list[dict[str, Any]]) -> None:
    """Fill in `contacts`: the recipients of all statuses but the failed ones."""
    for value in [change["value"] for change in changes if isinstance(change["value"], dict)]:
        succeeded = [
            status for status in value["statuses"] if status["status"] != "failed" and "recipient_type" not in status
        ]
        chats = dict.fromkeys(status.get("recipient_id", status["recipient_user_id"]) for status in succeeded)
        value["contacts"] = [{"profile": {}, **customer_fields(chat, "wa_id", "user_id")} for chat in chats]
        if not chats:
            del value["contacts"]


class WebhookSender:
    """A thread that delivers the updates that are due."""

    def __init__(self, store: Store, destinations: Destinations, behaviours: Behaviours, app_secret: str) -> None:
        self._store = store
        self._destinations = destinations
        self._behaviours = behaviours
        self._secret = app_secret
        self._session = requests.Session()
        self._session.trust_env = False  # the receivers are on this machine, where a proxy does not lead
        self._wakeup = threading.Event()
        self._stopped = False
        self.error: str | None = None  # why no webhook can be sent
        self._unreachable = set[Destination | None]()
        self._thread = threading.Thread(target=self._run, name="webhook-sender", daemon=True)

    def start(self) -> None:
        """Start with the updates that an earlier process left."""
        self._thread.start()

    def wake(self) -> None:
        """Look for new updates."""
        self._wakeup.set()

    def stop(self) -> None:
        """Stop after the current webhook."""
        self._stopped = True
        self._wakeup.set()
        self._thread.join(RECEIVER_TIMEOUT_SECONDS)

    def _run(self) -> None:
        while not self._stopped:
            self._wakeup.clear()
            try:
                self._deliver_due()
                self.error = None
            except Exception as error:  # a full disk, for example: the updates stay due, and the thread lives on
                self.error = f"{type(error).__name__}: {error}"
                log.warning("sandbox.webhooks_stopped", reason=self.error, retry_seconds=RETRY_SECONDS)
                self._wakeup.wait(RETRY_SECONDS)

    def _deliver_due(self) -> None:
        delivery = self._behaviours.delivery
        updates = self._store.due_updates(time.time(), delivery.batch or MAX_BATCH)
        alone = delivery.batch is None and len(updates) <= MAX_ALONE
        for destination, batch in self._by_destination(updates).items():
            for part in [[update] for update in batch] if alone else [batch]:
                self._deliver(destination, part, delivery)
        if not updates:
            self._wakeup.wait(self._pause())
        elif not alone:
            time.sleep(delivery.gather_ms / 1000)

    def _by_destination(self, updates: list[dict[str, Any]]) -> dict[Destination | None, list[dict[str, Any]]]:
        """Group updates by their receiver, and fill in the account of each."""
        groups = defaultdict(list)
        for update in updates:
            number = update["phone_number_id"]
            update["account"] = self._destinations.account(number, update["account"])
            update["metadata"] = self._destinations.metadata(number)
            groups[self._destinations.find(number, update["account"])].append(update)
        return groups

    def _pause(self) -> float:
        due = self._store.next_due()
        return IDLE_PAUSE_SECONDS if due is None else min(max(due - time.time(), MIN_PAUSE_SECONDS), IDLE_PAUSE_SECONDS)

    def _deliver(self, destination: Destination | None, updates: list[dict[str, Any]], delivery: Delivery) -> None:
        ids = [update["id"] for update in updates]
        if destination is None or self._post(destination, webhook_body(updates), delivery.repeat):
            self._store.mark_delivered(ids, time.time())
            self._unreachable.discard(destination)
            return
        self._store.postpone(ids, time.time(), delivery.retry_first_ms / 1000, delivery.retry_last_ms / 1000)
        if destination not in self._unreachable:
            log.warning("sandbox.webhook_failed", urls=" ".join(destination.urls), updates=len(updates))
        self._unreachable.add(destination)

    def _post(self, destination: Destination, body: bytes, repeat: int) -> bool:
        headers = {"Content-Type": "application/json"} | dict(destination.headers)
        if destination.signed:
            headers[SIGNATURE_HEADER] = sign(self._secret, body)
        for url in destination.urls:
            if self._post_to(url, body, headers):
                return all(self._post_to(url, body, headers) for _ in range(repeat))
        return False

    def _post_to(self, url: str, body: bytes, headers: dict[str, str]) -> bool:
        try:
            return self._session.post(url, body, headers=headers, timeout=RECEIVER_TIMEOUT_SECONDS).status_code == 200
        except (requests.RequestException, ValueError) as error:
            log.debug("sandbox.receiver_unreachable", url=url, reason=str(error))
            return False
