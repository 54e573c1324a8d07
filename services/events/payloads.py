"""The payloads of events, as webhooks and the stream carry them: one model for each event name.

SQL builds the payloads, in the transaction that causes the event (`services.events.payload_sql`, and the functions
`bot_status_event` and `session_status_event` in `sql/`). The models describe them for the OpenAPI document and the
reference. The tests validate every event that they cause against its model.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from services.events.names import TEST

#: The headers of a webhook's call that are our own, with their meaning. `services.events.sender` makes them.
CALL_HEADERS = {
    "X-Webhook-Request-Id": "A UUID of this call; another one for each attempt. The event's `id` stays the same.",
    "X-Webhook-Timestamp": "When this call was made, in milliseconds since the epoch.",
    "X-Webhook-Attempt": "1, 2, 3, …",
    "X-Webhook-Hmac-Algorithm": "`sha512`.",
    "X-Webhook-Hmac": "HMAC-SHA512 in hex over the body as it was received, with the webhook's secret.",
    "X-Webhook-Hmac-Previous": "The same with the previous secret; present only while a rotation overlaps.",
}

_ID = "01934f7e-5b1c-7d3a-9c55-2f6a7be1d0c4"
_WAMID = "wamid.HBgLNjAxMjM0NTY3ODk"
_CHAT = "60123456789"
_SECONDS = 1738310400
_SHA256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"


def _field(description: str, example: Any, **more: Any) -> Any:
    return Field(description=description, examples=[example], **more)


class Payload(BaseModel):
    """The payload of an event."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True, strict=True)


class PayloadMedia(Payload):
    """The file of a message."""

    url: str | None = _field(
        "Its URL: the link that was sent, or our copy.",
        f"https://bots.example.com/api/v2/media/0128/{_ID}",
    )
    mimetype: str | None = _field("Its MIME type.", "image/jpeg")
    filename: str | None = _field("Its name, if the sender gave one.", None)
    sha256: str | None = _field("SHA-256 of its content, in hex or as the provider writes it.", _SHA256)
    voice: bool | None = _field("Whether it is a voice message.", False)
    animated: bool | None = _field("Whether it is an animated sticker or picture.", None, default=None)


class PayloadReference(Payload):
    """Another message."""

    id: str = _field("The provider's ID of it.", _WAMID)


class MessagePayload(Payload):
    """A message, received or sent."""

    id: str = _field("Our ID of the message.", _ID)
    providerId: str | None = _field("The provider's ID.", _WAMID)
    timestamp: int = _field("When it was sent, in seconds since the epoch.", _SECONDS)
    chatId: str = _field("The chat: a phone number, a group (`…@g.us`) or a hidden number (`…@lid`).", _CHAT)
    from_: str | None = _field("The sender: the chat, or your number.", _CHAT, alias="from")
    to: str | None = _field("The recipient: your number, or the chat.", "60111222333")
    fromMe: bool = _field("Whether your company sent it.", False)
    type: str = _field("Its kind, as the provider calls it.", "text")
    body: str | None = _field("The text, caption or title.", "Hello")
    hasMedia: bool = _field("Whether it has a file.", False)
    media: PayloadMedia | None = _field("The file.", None)
    replyTo: PayloadReference | None = _field("The message that it replies to.", None)
    name: str | None = _field("The name in the sender's profile.", "Aina")
    userId: str | None = _field("The provider's ID of the user.", None)
    author: str | None = _field(
        "The author of a message in a group. Missing for messages that we sent.", None, default=None
    )
    content: dict[str, Any] | None = _field(
        "The message as the provider has it, if it says more than the other fields do.", None
    )
    username: str | None = _field("The sender's user name, if they have one.", None, default=None)
    referral: dict[str, Any] | None = _field(
        "The advertisement or post that led to the message, as the provider reports it.", None, default=None
    )
    referredProduct: dict[str, Any] | None = _field("The product that it asks about.", None, default=None)
    forwarded: bool | None = _field("Present if it was forwarded.", None, default=None)
    frequentlyForwarded: bool | None = _field("Present if it was forwarded many times.", None, default=None)
    mentions: list[str] | None = _field("The chats of the people that it mentions.", None, default=None)
    errors: list[dict[str, Any]] | None = _field(
        "The provider's errors, if it could not pass on the message or its file.", None, default=None
    )


class PayloadError(Payload):
    """Why a message failed, or may have."""

    code: str | None = _field("The code; see [Errors](errors.md).", "131026")
    reason: str | None = _field("A sentence for people.", "the message cannot be delivered")


class AckPayload(Payload):
    """The status of a message that your company sent."""

    id: str = _field("Our ID of the message.", _ID)
    providerId: str | None = _field("The provider's ID, once it has accepted the message.", _WAMID)
    chatId: str = _field("The chat.", _CHAT)
    requestId: str | None = _field(
        "The `X-Request-Id` of the answer to the request that it came with.", "5f0c2a91be03d7a4-1f", default=None
    )
    status: Literal["unknown", "sent", "delivered", "read", "failed"] = _field(
        "The new status; see [Statuses](statuses.md).", "delivered"
    )
    ack: Literal[-1, 0, 1, 2, 3] = _field(
        "The status as a number: -1 failed, 0 unknown, 1 sent, 2 delivered, 3 read.", 2
    )
    ackName: Literal["ERROR", "PENDING", "SERVER", "DEVICE", "READ"] = _field("The same as a name.", "DEVICE")
    timestamp: int = _field("When it reached the status, in seconds since the epoch.", _SECONDS)
    error: PayloadError | None = _field("Why, if it is `failed` or `unknown`.", None)
    pricing: dict[str, Any] | None = _field(
        "The price, as the provider reports it.", {"billable": True, "pricing_model": "PMP"}, default=None
    )
    conversation: dict[str, Any] | None = _field("The conversation, as the provider reports it.", None, default=None)
    errors: list[Any] | None = _field("The provider's errors as it reports them.", None, default=None)
    recipient_id: str | None = _field("The recipient's number as the provider knows it.", None, default=None)
    recipient_user_id: str | None = _field("The provider's ID of the recipient.", None, default=None)
    recipient_parent_user_id: str | None = _field(
        "The recipient's ID for all businesses of the portfolio.", None, default=None
    )
    recipient_identity_key_hash: str | None = _field(
        "The hash of the recipient's identity key, if its changes are checked.", None, default=None
    )
    played: bool | None = _field("Present if a voice message was played.", None, default=None)


class PayloadReaction(Payload):
    """An emoji on a message."""

    text: str | None = _field("The emoji; empty if the reaction was removed.", "👍")
    messageId: str | None = _field("Our ID of the message; null if we do not have it.", _ID)
    providerId: str = _field("The provider's ID of the message.", _WAMID)


class ReactionPayload(Payload):
    """A reaction to a message, or its removal."""

    chatId: str = _field("The chat.", _CHAT)
    providerId: str | None = _field("The provider's ID of the reaction.", "wamid.HBgLReaction")
    fromMe: bool = _field("Whether your company reacted, for example on the phone.", False)
    timestamp: int = _field("When, in seconds since the epoch.", _SECONDS)
    name: str | None = _field("The name in the profile of the person.", "Aina")
    reaction: PayloadReaction = Field(description="The reaction and its message.")


class EditedPayload(Payload):
    """A message that was edited."""

    chatId: str = _field("The chat.", _CHAT)
    messageId: str | None = _field("Our ID of the message; null if we do not have it.", _ID)
    providerId: str = _field("The provider's ID of the message.", _WAMID)
    body: str | None = _field("The new text.", "Hello!")
    timestamp: int = _field("When, in seconds since the epoch.", _SECONDS)


class RevokedPayload(Payload):
    """A message that was deleted for everyone."""

    chatId: str = _field("The chat.", _CHAT)
    messageId: str | None = _field("Our ID of the message; null if we do not have it.", _ID)
    providerId: str = _field("The provider's ID of the message.", _WAMID)
    timestamp: int = _field("When, in seconds since the epoch.", _SECONDS)


class UserChangedPayload(Payload):
    """A customer with another phone number or user ID."""

    chatId: str = _field("The chat from now on.", "60198765432")
    previousChatId: str = _field("The chat before; the same if only the user ID changed.", _CHAT)
    userId: str | None = _field("The provider's new ID of the user.", None)
    previousUserId: str | None = _field("The provider's former ID of the user.", None)
    name: str | None = _field("The name in the profile of the person.", "Aina")
    timestamp: int = _field("When, in seconds since the epoch.", _SECONDS)


class CallPayload(Payload):
    """A call that a WhatsApp Web number received."""

    id: str = _field("The provider's ID of the call.", "3EB0D1A2")
    chatId: str = _field("The chat of the caller.", _CHAT)
    from_: str = _field("The caller, the same as `chatId`.", _CHAT, alias="from")
    name: str | None = _field("The name in the caller's profile.", "Aina")
    isVideo: bool = _field("Whether it is a video call.", False)
    isGroup: bool = _field("Whether it is a call of a group.", False)
    timestamp: int = _field("When, in seconds since the epoch.", _SECONDS)


class BotStatusPayload(Payload):
    """The state of a bot."""

    status: Literal["active", "waiting", "unavailable", "warning", "error"] = _field(
        "`active`: it sends. `waiting`: an operator must act first, or paused it. `unavailable`: its provider cannot "
        "be reached. `warning`, `error`: a check found a problem.",
        "waiting",
    )
    phoneIndex: int = _field("The index of the bot.", 0)
    connectionType: str = _field("`meta_direct`, `meta_embedded`, `360dialog` or `wwebjs`.", "meta_direct")
    reason: str | None = _field("Why; null if it is `active`.", "the access token is not valid")


class SessionStatusPayload(Payload):
    """The state of a WhatsApp Web session."""

    status: Literal["STOPPED", "STARTING", "SCAN_QR_CODE", "WORKING", "FAILED"] = _field(
        "The state; `SCAN_QR_CODE`: a phone must be linked. `WORKING`: it sends and receives.", "SCAN_QR_CODE"
    )
    reason: str | None = _field("Why, if there is a reason.", None)
    phoneIndex: int = _field("The index of the bot.", 0)
    timestamp: int = _field("When, in seconds since the epoch.", _SECONDS)


class NoticePayload(Payload):
    """A change of a template, an account or a number, as the provider reports it."""

    field: str = _field("The provider's name of the notice.", "message_template_status_update")
    account: str | None = _field("The provider's ID of the business account.", "102290129340398")
    value: dict[str, Any] = _field("The notice itself.", {"event": "APPROVED", "message_template_name": "order_ready"})


class WebhookTestPayload(Payload):
    """A test of a webhook."""

    webhookId: str = _field("The webhook that was tested.", _ID)


#: The payload of each event, by the event's name.
PAYLOADS: dict[str, type[Payload]] = {
    "message": MessagePayload,
    "message.any": MessagePayload,
    "message.ack": AckPayload,
    "message.reaction": ReactionPayload,
    "message.edited": EditedPayload,
    "message.revoked": RevokedPayload,
    "user.changed": UserChangedPayload,
    "call": CallPayload,
    "bot.status": BotStatusPayload,
    "session.status": SessionStatusPayload,
    "template.status": NoticePayload,
    "account.update": NoticePayload,
    "number.quality": NoticePayload,
    "account.capability": NoticePayload,
    "account.alert": NoticePayload,
    "user.preferences": NoticePayload,
    "provider.update": NoticePayload,
    TEST: WebhookTestPayload,
}


def example(payload: type[Payload]) -> dict[str, Any]:
    """An example of a payload, from the examples of its fields."""
    found = {}
    for name, field in payload.model_fields.items():
        nested = field.annotation
        if isinstance(nested, type) and issubclass(nested, Payload):
            found[name] = example(nested)
        elif field.is_required() or field.examples != [None]:
            found[field.alias or name] = (field.examples or [None])[0]
    return found
