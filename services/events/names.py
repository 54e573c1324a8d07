"""The names of all events that a webhook or a stream may ask for."""

from collections.abc import Iterable

#: Stands for every event.
ALL = "*"
#: The event that a webhook receives on request, as a test.
TEST = "webhook.test"

#: Name and meaning; what each carries stands in the README.
CATALOGUE = {
    "message": "a message came in",
    "message.any": "a message came in, or one of ours was sent",
    "message.ack": "a message of ours reached another status",
    "message.reaction": "somebody reacted to a message, or took the reaction back",
    "message.edited": "a message that came in was changed",
    "message.revoked": "a message that came in was taken back",
    "call": "somebody rang",
    "bot.status": "a number waits for an operator or its provider, or works again",
    "session.status": "a WhatsApp Web session was linked or lost",
    "template.status": "a template was approved, refused or paused",
    "account.update": "the business account changed",
    "number.quality": "the quality or the limit of a number changed",
    "account.capability": "what the business account may do changed",
    "account.alert": "the provider warns of something",
    "user.preferences": "a customer wants marketing messages, or none",
    "provider.update": "the provider reported something else",
    TEST: "a webhook was asked to be tried",
}


def unknown(names: Iterable[str]) -> list[str]:
    """Those of the names that no event has."""
    return [name for name in names if name != ALL and name not in CATALOGUE]
