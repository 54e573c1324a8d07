"""What no channel of WhatsApp can send, whichever way it is reached: raises `Unsupported`, which says what to do."""

import re
from collections.abc import Callable

from services.connectors.base import Unsupported
from services.message import MAX_TEXT, MediaPayload, Payload, ReactionPayload, TextPayload

#: Characters in a caption, at most.
MAX_CAPTION = 1024
#: Code points in one emoji, at most: the longest are families and couples with skin tones.
MAX_EMOJI = 16

_PICTURE = (
    "[\u00a9\u00ae\u203c\u2049\u2122\u2139\u2190-\u21ff\u2300-\u23ff\u24c2\u25a0-\u27bf\u2900-\u297f\u2b00-\u2bff"
    "\u3030\u303d\u3297\u3299\U0001f000-\U0001f1e5\U0001f200-\U0001f3fa\U0001f400-\U0001faff]"
    "[\ufe0e\ufe0f]?[\U0001f3fb-\U0001f3ff]?[\U000e0020-\U000e007f]*"
)
#: One emoji as a person sees it: a flag, a key cap, or pictures joined into one (Unicode TR 51, without its tables).
_EMOJI = re.compile(f"[\U0001f1e6-\U0001f1ff]{{2}}|[0-9#*]\ufe0f?\u20e3|{_PICTURE}(?:\u200d{_PICTURE})*")


def text(payload: TextPayload) -> None:
    """A text may not be too long."""
    if len(payload["message"]) > MAX_TEXT:
        raise Unsupported(f"a text has at most {MAX_TEXT} characters; split it into several messages")


def captioned(payload: MediaPayload) -> None:
    """A caption may not be too long."""
    if len(payload.get("caption") or "") > MAX_CAPTION:
        raise Unsupported(f"a caption has at most {MAX_CAPTION} characters; send the rest as a text")


def uncaptioned(payload: MediaPayload) -> None:
    """Some kinds have no caption."""
    if payload.get("caption"):
        raise Unsupported("audio and stickers have no caption; send it as a text of its own")


def reaction(payload: ReactionPayload) -> None:
    """A reaction is one emoji or none."""
    emoji = payload["reaction"]
    if emoji and (len(emoji) > MAX_EMOJI or not _EMOJI.fullmatch(emoji)):
        raise Unsupported("a reaction is one emoji, or an empty text to take it back; send anything else as a text")


def anything(_: Payload) -> None:
    """Whatever is said is said."""


#: What is checked of each kind that every channel has.
CHECKS: dict[str, Callable[[Payload], None]] = {
    "text": text,
    "image": captioned,
    "video": captioned,
    "document": captioned,
    "audio": uncaptioned,
    "sticker": uncaptioned,
    "reaction": reaction,
    "read": anything,
}
