"""Meta's Cloud API: text messages out, status reports in (Cloud API reference, "Messages" and "Webhooks")."""

from typing import Any

import orjson

from services.connectors.base import HttpRequest, Unsupported
from services.connectors.meta import incoming
from services.connectors.meta.errors import classify, read_error
from services.message import MAX_TEXT, Bot, Held, Outcome, Outgoing, Sent, Unknown, Update

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
        """What a webhook tells, in its order. Raises ValueError where it is no WhatsApp webhook."""
        return incoming.parse(body)


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
