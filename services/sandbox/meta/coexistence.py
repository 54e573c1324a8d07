"""The chats and contacts that a number shares if it is also used with the WhatsApp Business app (Cloud API, "Onboarding
WhatsApp Business app users", webhooks `history` and `smb_app_state_sync`)."""

import secrets
import time
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import orjson

from services.sandbox.meta.registry import Facts, Registry
from services.sandbox.meta.request_fields import GraphError, check_product, required
from services.sandbox.meta.store import Store, WebhookUpdate

#: Messages of each side that a history has, at most.
MAX_MESSAGES = 1000
#: The last day of each phase of a history, counted back from now.
PHASE_DAYS = (1, 90, 180)

_DAY_SECONDS = 86400
_NOT_SHARED = {
    "code": 2593109, "title": "History sharing is turned off by the business from the WhatsApp Business App",
    "message": "History sharing is turned off by the business from the WhatsApp Business App",
    "error_data": {"details": "The number's fact `shares_history` is false, see /_sandbox/number"},
}  # fmt: skip


class Coexistence:
    """Synchronises the chats and contacts that the simulator knows."""

    def __init__(self, registry: Registry, store: Store) -> None:
        self._registry = registry
        self._store = store

    def synchronise(self, number: str, fields: Facts) -> tuple[Facts, list[WebhookUpdate]]:
        """The answer to a request for synchronisation, and the updates that deliver what it asks for."""
        check_product(fields)
        kind = required(fields, "sync_type")
        if kind not in ("history", "smb_app_state_sync"):
            raise GraphError(100, "sync_type must be history or smb_app_state_sync")
        values = self._history(number) if kind == "history" else self._contacts(number)
        head = {"messaging_product": "whatsapp", "metadata": self._registry.metadata(number)}
        now = time.time()
        updates = [WebhookUpdate("", number, "", orjson.dumps(head | value).decode(), now, kind) for value in values]
        return {"messaging_product": "whatsapp", "request_id": secrets.token_hex(8)}, updates

    def _history(self, number: str) -> Iterator[Facts]:
        """The values of the history's webhooks: one for each phase."""
        if not self._registry.facts("number", number).get("shares_history", True):
            yield {"history": [{"errors": [_NOT_SHARED]}]}
            return
        messages, earliest = self._messages(number), 0
        for phase, days in enumerate(PHASE_DAYS):
            chats: dict[str, list[Facts]] = defaultdict(list)
            for chat, age, message in messages:
                if earliest <= age < days * _DAY_SECONDS:
                    chats[chat].append(message)
            earliest = days * _DAY_SECONDS
            metadata = {"phase": phase, "chunk_order": 1, "progress": days * 100 // PHASE_DAYS[-1]}
            threads = [{"id": chat, "messages": found} for chat, found in chats.items()]
            yield {"history": [{"metadata": metadata, "threads": threads}]}

    def _messages(self, number: str) -> list[tuple[str, float, Facts]]:
        """Chat, age in seconds, and message: of both sides, the oldest first."""
        own, now = self._registry.phone_number(number), time.time()
        found: list[tuple[str, float, Facts]] = []
        for row in self._store.latest_messages(MAX_MESSAGES):
            if row["phone_number_id"] == number and row["wamid"]:
                content = {"from": own, "to": row["to"], **_content(row["type"], row["text"])}
                found.append((row["to"], now - row["at"], _message(row, content)))
        for row in self._store.latest_inbound(MAX_MESSAGES):
            if row["phone_number_id"] == number:
                content = {"from": row["chat"], **_content(row["kind"], row["text"])}
                found.append((row["chat"], now - row["at"], _message(row, content)))
        return sorted(found, key=lambda each: -each[1])

    def _contacts(self, number: str) -> Iterator[Facts]:
        """The values of the webhooks about the contacts: one, if there are any."""
        chats = dict.fromkeys(chat for chat, _, _ in self._messages(number) if chat.isdigit())
        changes = [
            {"type": "contact", "action": "add", "metadata": {"timestamp": str(int(time.time()))},
             "contact": {"full_name": f"Customer {chat}", "first_name": "Customer", "phone_number": chat}}
            for chat in chats
        ]  # fmt: skip
        if changes:
            yield {"state_sync": changes}


def _message(row: dict[str, Any], content: Facts) -> Facts:
    head = {"id": row["wamid"], "timestamp": str(int(row["at"])), "history_context": {"status": "READ"}}
    return content | head


def _content(kind: str, text: str) -> Facts:
    """The content of a message of the history, which has no ids of files."""
    if kind == "text":
        return {"type": "text", "text": {"body": text}}
    return {"type": "media_placeholder"}
