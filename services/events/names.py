"""The names of all events, for which webhooks and streams may ask."""

from collections.abc import Iterable

#: Stands for all events.
ALL = "*"
#: The event that tests a webhook.
TEST = "webhook.test"

#: Name and meaning; `services.events.payloads` describes what each carries.
CATALOGUE = {
    "message": "A message was received.",
    "message.any": "A message was received or sent.",
    "message.ack": "A message that your company sent reached another status.",
    "message.reaction": "Somebody reacted to a message, or removed the reaction.",
    "message.edited": "A received message was edited.",
    "message.revoked": "A received message was deleted for everyone.",
    "user.changed": "A customer has another phone number or user ID; their chat continues under it.",
    "call": "Somebody called.",
    "bot.status": "A bot waits for an operator or its provider, works again, or a check found a problem.",
    "session.status": "The state of a WhatsApp Web session changed.",
    "template.status": "A template was approved, rejected, paused or changed.",
    "account.update": "The business account changed.",
    "number.quality": "The quality, limit or name of a number changed.",
    "account.capability": "The limits of the business account changed.",
    "account.alert": "The provider warns about the account.",
    "user.preferences": "A customer wants marketing messages, or no longer wants them.",
    "provider.update": "The provider reported something else.",
    TEST: "`POST /api/webhooks/<id>/test` was called.",
}


def unknown(names: Iterable[str]) -> list[str]:
    """The names that are no event's."""
    return [name for name in names if name != ALL and name not in CATALOGUE]
