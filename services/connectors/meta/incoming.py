"""Meta's webhooks: the status reports in them (Cloud API reference, "Webhooks")."""

import time
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import orjson

from services.connectors.meta.errors import read_error
from services.message import Status, StatusUpdate, Update

#: What Meta reports of a message; `played` is said of a voice message that was listened to.
_STATUSES = {
    "sent": Status.SENT,
    "delivered": Status.DELIVERED,
    "read": Status.READ,
    "played": Status.READ,
    "failed": Status.FAILED,
}
#: Seconds since the epoch above which a timestamp must be in milliseconds (the year 5138).
_MILLISECONDS_FROM = 1e11


def parse(body: bytes) -> list[Update]:
    """The status reports in a webhook, in their order; what it holds beside them is passed over.

    Raises ValueError where it is no WhatsApp webhook.
    """
    webhook = orjson.loads(body)
    if _field(webhook, "object") != "whatsapp_business_account" or not isinstance(webhook.get("entry"), list):
        raise ValueError("not a webhook of a WhatsApp Business account")
    return [update for status in _statuses(webhook) if (update := _update(status))]


def _field(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None


def _objects(value: Any, name: str) -> list[Any]:
    """The list under a name, or an empty one where there is no such list."""
    found = _field(value, name)
    return found if isinstance(found, list) else []


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and value != "" and value.isprintable()


def _statuses(webhook: Any) -> Iterator[Any]:
    for entry in _objects(webhook, "entry"):
        for change in _objects(entry, "changes"):
            yield from _objects(_field(change, "value"), "statuses")


def _update(status: Any) -> StatusUpdate | None:
    """One report, or None for one that is not of a message's life."""
    provider_id, word = _field(status, "id"), _field(status, "status")
    known = _STATUSES.get(word) if isinstance(word, str) else None
    if known is None or not _is_name(provider_id):
        return None
    message_id, at = _message_id(status.get("biz_opaque_callback_data")), _seconds(status.get("timestamp"))
    if known is not Status.FAILED:
        return StatusUpdate(provider_id, known, at, message_id)
    error = next(filter(None, map(read_error, _objects(status, "errors"))), None)
    if error is None:
        return StatusUpdate(provider_id, known, at, message_id, None, "Meta gave no reason")
    return StatusUpdate(provider_id, known, at, message_id, str(error.code), error.message)


def _message_id(echoed: Any) -> str | None:
    """Our id of the message; None where what is echoed was put there by somebody else."""
    try:
        return str(UUID(echoed)) if isinstance(echoed, str) else None
    except ValueError:
        return None


def _seconds(timestamp: Any) -> float:
    """Seconds since the epoch from Meta's seconds or milliseconds, text or number; now where it is neither."""
    try:
        at = float(timestamp)
    except (TypeError, ValueError, OverflowError):
        return time.time()
    if at >= _MILLISECONDS_FROM:
        at /= 1000
    return at if 0 < at < _MILLISECONDS_FROM else time.time()
