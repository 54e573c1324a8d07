"""Meta's Cloud API: text messages out, status reports in (Cloud API reference, "Messages" and "Webhooks")."""

import time
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import orjson

from services.connectors.base import HttpRequest, Unsupported
from services.connectors.meta.errors import classify, read_error
from services.message import MAX_TEXT, Bot, Held, Outcome, Outgoing, Sent, Status, StatusUpdate, Unknown, Update

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
#: Bytes of a strange answer that are shown.
_SHOWN = 200


class MetaConnector:
    """Translates between messages and Meta's Graph API."""

    process_name = "meta"

    def __init__(self, graph_url: str, version: str) -> None:
        """`graph_url`: base URL without a slash at its end; `version`: such as v26.0."""
        self._base = f"{graph_url}/{version}/"

    def check(self, kind: str, chat_id: str, payload: dict[str, Any]) -> None:
        """Refuse what Meta could never send; raises `Unsupported`."""
        if kind != "text":
            raise Unsupported(f"messages of type {kind} cannot be sent through Meta bots yet; send a text")
        if chat_id.endswith("@g.us"):
            raise Unsupported("Meta bots cannot write to groups; write to each member, or use a WhatsApp Web bot")
        if chat_id.endswith("@lid"):
            raise Unsupported("Meta bots cannot write to hidden numbers (…@lid); name the contact's phone number")
        if len(payload["message"]) > MAX_TEXT:
            raise Unsupported(f"a text has at most {MAX_TEXT} characters; split it into several messages")

    def request(self, bot: Bot, message: Outgoing) -> HttpRequest:
        """The request that sends the text; Meta gives our message id back in every status report."""
        fields = {
            "messaging_product": "whatsapp",
            "recipient_type": "individual",
            "to": f"+{message.chat_id}",
            "type": "text",
            "text": {"body": message.payload["message"], "preview_url": True},
            "biz_opaque_callback_data": message.message_id,
        }
        if quoted := message.payload.get("quoted_provider_id"):
            fields["context"] = {"message_id": quoted}
        headers = (f"Authorization: Bearer {bot.access_token.value}", "Content-Type: application/json")
        return HttpRequest(f"{self._base}{bot.phone_number_id}/messages", headers, orjson.dumps(fields))

    def outcome(self, message: Outgoing, status: int, body: bytes) -> Outcome:
        """What an answer means; one that makes no sense may have been cut by a gateway after the message had left."""
        try:
            answer = orjson.loads(body)
        except orjson.JSONDecodeError:
            answer = None
        if 200 <= status < 300 and (provider_id := _provider_id(answer)):
            return Sent(provider_id)
        if error := read_error(_field(answer, "error")):
            return classify(error.code, error.message)
        shown = f"HTTP {status}: {body[:_SHOWN].decode(errors='replace')}".replace("\0", "")
        if 300 <= status < 500:
            # Not sent, and no message's fault: the queue is kept until an operator has looked.
            advice = "not an answer of the Graph API: check META_GRAPH_URL, then resume with bisnesctl bots add"
            return Held(f"http_{status}", f"{advice} ({shown})")
        return Unknown(f"the answer makes no sense ({shown})")

    def parse(self, body: bytes) -> list[Update]:
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


def _provider_id(answer: Any) -> str | None:
    messages = _objects(answer, "messages")
    found = _field(messages[0], "id") if messages else None
    return found if _is_name(found) else None


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
