"""Webhooks as Meta documents them, one of each kind: `MESSAGES` by type, `VALUES` by the other fields."""

from collections.abc import Sequence
from typing import Any

Json = dict[str, Any]
Path = Sequence[str | int]

AINA = "60123456789"


def message(kind: str, content: object, **more: Any) -> Json:
    """A message of Aina's."""
    found = {"from": AINA, "id": f"wamid.{kind}", "timestamp": "1790000000", "type": kind, kind: content}
    return found | more


def value(*messages: Json, **more: Any) -> Json:
    """The value of a change of the field `messages`."""
    contacts = [{"profile": {"name": "Aina"}, "wa_id": AINA}]
    metadata = {"display_phone_number": "60311112222", "phone_number_id": "1055"}
    return {"messaging_product": "whatsapp", "metadata": metadata, "contacts": contacts, "messages": [*messages]} | more


def webhook(*values: Json, field: str = "messages", account: str = "W1") -> Json:
    """The body of a webhook with these values."""
    changes = [{"field": field, "value": each} for each in values]
    return {"object": "whatsapp_business_account", "entry": [{"id": account, "changes": changes}]}


def _file(mime_type: str, **more: Any) -> Json:
    return {"mime_type": mime_type, "sha256": "c2hhMjU2", "id": "4490"} | more


_UNKNOWN_TYPE = {"code": 131051, "title": "Message type unknown", "error_data": {"details": "not supported"}}

MESSAGES = {
    "text": message("text", {"body": "Hello"}),
    "image": message("image", _file("image/jpeg", caption="Look")),
    "video": message("video", _file("video/mp4")),
    "audio": message("audio", _file("audio/ogg; codecs=opus", voice=True)),
    "document": message("document", _file("application/pdf", filename="offer.pdf", caption="The offer")),
    "sticker": message("sticker", _file("image/webp", animated=True)),
    "location": message("location", {"latitude": 3.1, "longitude": 101.7, "name": "Office", "address": "Jalan 1"}),
    "contacts": message("contacts", [{"name": {"formatted_name": "Siti"}, "phones": [{"phone": "+60 1"}]}]),
    "button": message("button", {"text": "Yes", "payload": "yes"}),
    "button_reply": message("interactive", {"type": "button_reply", "button_reply": {"id": "b1", "title": "Confirm"}}),
    "list_reply": message(
        "interactive", {"type": "list_reply", "list_reply": {"id": "r1", "title": "Monday", "description": "9:00"}}
    ),
    "nfm_reply": message(
        "interactive", {"type": "nfm_reply", "nfm_reply": {"name": "flow", "body": "Sent", "response_json": "{}"}}
    ),
    "reaction": message("reaction", {"message_id": "wamid.ours", "emoji": "👍"}),
    "order": message("order", {"catalog_id": "c", "text": "Two please", "product_items": [{"quantity": 2}]}),
    "system": message("system", {"body": "Aina changed number", "type": "user_changed_number", "wa_id": "60199"}),
    "unsupported": message("unsupported", {}, errors=[_UNKNOWN_TYPE]),
    "request_welcome": message("request_welcome", {}),
    "edit": message("edit", {"original_message_id": "wamid.text", "message": {"type": "text", "text": {"body": "Hi"}}}),
    "revoke": message("revoke", {"original_message_id": "wamid.text"}),
    "hologram": message("hologram", {"depth": 3}),
}

VALUES: dict[str, tuple[str, Json]] = {
    "message_template_status_update": ("template.status", {"event": "APPROVED", "message_template_name": "hello"}),
    "account_update": ("account.update", {"event": "DISABLED_UPDATE", "ban_info": {"waba_ban_state": "DISABLE"}}),
    "phone_number_quality_update": ("number.quality", {"event": "THROUGHPUT_UPGRADE", "display_phone_number": "603"}),
    "business_capability_update": ("account.capability", {"max_daily_conversation_per_phone": 1000}),
    "account_alerts": ("account.alert", {"alert_severity": "CRITICAL"}),
    "user_preferences": ("user.preferences", {"user_preferences": [{"wa_id": AINA, "value": "stop"}]}),
    "flows": ("provider.update", {"event": "FLOW_STATUS_CHANGE"}),
    "tomorrows_field": ("provider.update", {"new": True}),
}

#: All messages in one webhook, for tests that change parts of it.
ALL = webhook(
    value(
        *MESSAGES.values(),
        statuses=[
            {
                "id": "wamid.ours", "status": "failed", "timestamp": "1790000000", "recipient_id": AINA,
                "biz_opaque_callback_data": "0190c0de-0000-7000-8000-000000000001",
                "errors": [{"code": 131047, "title": "Re-engagement message"}],
            }
        ],
    )
)  # fmt: skip


def places(found: Any) -> list[tuple[str | int, ...]]:
    """All paths into a JSON value."""
    items: Any = found.items() if isinstance(found, dict) else enumerate(found) if isinstance(found, list) else ()
    return [()] + [(key, *path) for key, inner in items for path in places(inner)]


def replaced(found: Any, path: Path, by: Any) -> Any:
    """A copy of the value with another value at the path."""
    if not path:
        return by
    copy = found.copy()
    copy[path[0]] = replaced(found[path[0]], path[1:], by)
    return copy
