"""Status reports in Meta's webhooks (Cloud API, "Webhooks reference: messages", `statuses`)."""

from typing import Any
from uuid import UUID

from services.connectors.meta.translation.errors import read_error
from services.connectors.untrusted_json import field, name_of, objects, seconds
from services.message import Status, StatusUpdate

#: What Meta reports of a message; `played` is said of a voice message that was listened to.
_STATUSES = {
    "sent": Status.SENT,
    "delivered": Status.DELIVERED,
    "read": Status.READ,
    "played": Status.READ,
    "failed": Status.FAILED,
}
#: What is kept of a report beside its status.
_DETAILS = ("pricing", "conversation", "recipient_user_id")


def report(status: dict[str, Any], number: str) -> StatusUpdate | None:
    """One report of a number's message, or None for one that is not of a message's life."""
    provider_id, word = name_of(status, "id"), status.get("status")
    known = _STATUSES.get(word) if isinstance(word, str) else None
    if known is None or provider_id is None:
        return None
    message_id, at = _message_id(status.get("biz_opaque_callback_data")), seconds(status.get("timestamp"))
    details = {name: status[name] for name in _DETAILS if status.get(name)}
    code, reason = _error(status) if known is Status.FAILED else (None, None)
    return StatusUpdate(provider_id, known, at, message_id, code, reason, details, number)


def _error(status: dict[str, Any]) -> tuple[str | None, str]:
    error = next(filter(None, map(read_error, objects(status, "errors"))), None)
    return (str(error.code), error.message) if error else (None, "Meta gave no reason")


def _message_id(echoed: Any) -> str | None:
    """Our id of the message; None where what is echoed was put there by somebody else."""
    try:
        return str(UUID(echoed)) if isinstance(echoed, str) else None
    except ValueError:
        return None


def errors_of(message: dict[str, Any]) -> str | None:
    """What the errors of a message say, for people."""
    found = [read_error(each) for each in objects(message, "errors")] or [read_error(field(message, "error"))]
    return "; ".join(error.message for error in found if error) or None
