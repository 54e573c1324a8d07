"""The rule by which each message leaves WhatsApp Web once, whatever breaks: a pure function.

Every message has a key, written down before the page gets the message. Whoever comes to it later, after a deadline that
passed, a page that was lost or a process that died, asks the message's chat for that key and decides by these cases.
"""

from dataclasses import dataclass
from enum import Enum

from services.connectors.base import Refusal
from services.message import Outcome, Retry, Sent, Unknown

#: Seconds that WhatsApp may keep a message before it acknowledges it, and how many more for each byte of a file.
PATIENCE, PER_BYTE = 60.0, 1 / 50_000


@dataclass(frozen=True, slots=True)
class Sighting:
    """What the page knows of a key."""

    ack: int | None  # WhatsApp's acknowledgement: below 0 failed, 0 none yet, 1 sent, 2 delivered …; None: not there
    running: bool = False  # whether a call that sends under this key has not come to its end


@dataclass(frozen=True, slots=True)
class Handed:
    """A message that the page was given, or may have been."""

    key: str
    until: float  # when waiting for WhatsApp is over
    refusal: Refusal | None = None  # what the page said instead of taking it


class Step(Enum):
    """What comes next for a message whose outcome is not known."""

    HAND_OVER = "give it to the page under the same key: it is known not to be there"
    LOOK_AGAIN = "ask for it once more, a little later"
    RENEW_PAGE = "a call for it neither ends nor does anything: the page must be loaded anew, which ends the call"


def judge(handed: Handed, seen: Sighting, now: float) -> Outcome | Step:
    """What became of a message, or what to do next. `now` and `handed.until` are seconds of the same clock."""
    if seen.ack is not None and seen.ack > 0:
        return Sent(handed.key)
    if seen.ack is not None and seen.ack < 0:
        return Retry("not_sent", "WhatsApp says that it could not send the message")
    if seen.ack is None and not seen.running:
        return handed.refusal or Step.HAND_OVER
    if now < handed.until:
        return Step.LOOK_AGAIN
    if seen.ack is None:
        return Step.RENEW_PAGE
    return Unknown("WhatsApp has the message in its own queue and sends it when it can; its report decides")
