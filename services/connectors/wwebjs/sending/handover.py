"""The rule by which a message of WhatsApp Web leaves once.

Before the page gets a message, a key (its WhatsApp id) is generated and stored. If the outcome is uncertain afterwards
(a timeout, a lost page, a dead process), we look up that key in the message's chat, and `judge` decides.
"""

from dataclasses import dataclass
from enum import Enum

from services.connector import Refusal
from services.message import Outcome, Retry, Sent, Unknown

#: The code of messages that WhatsApp did not acknowledge in time.
NOT_ACKNOWLEDGED = "not_acknowledged"


@dataclass(frozen=True, slots=True)
class Sighting:
    """The page's knowledge of a key."""

    ack: int | None  # WhatsApp's acknowledgement: < 0 failed, 0 none yet, 1 sent, 2 delivered …; None: no such message
    running: bool = False  # whether a call that sends under this key has not ended


@dataclass(frozen=True, slots=True)
class Handover:
    """A message that was, or may have been, handed to the page."""

    key: str
    until: float  # when to stop waiting for WhatsApp
    refusal: Refusal | None = None  # the error with which the page's function ended


class Step(Enum):
    """The next step for a message whose outcome is uncertain."""

    HAND_OVER = "hand it to the page under the same key: it is certainly not there"
    LOOK_AGAIN = "look up its key again, a little later"
    RENEW_PAGE = "reload the page, which ends a call that neither returns nor has any effect"


def judge(handover: Handover, seen: Sighting, now: float) -> Outcome | Step:
    """The outcome of a message, or the next step. `now` and `handover.until` are seconds of the same clock."""
    if seen.ack is not None and seen.ack > 0:
        return Sent(handover.key)
    if seen.ack is not None and seen.ack < 0:
        return Retry("not_sent", "WhatsApp says that it could not send the message")
    if seen.ack is None and not seen.running:
        return handover.refusal or Step.HAND_OVER
    if now < handover.until:
        return Step.LOOK_AGAIN
    if seen.ack is None:
        return Step.RENEW_PAGE
    return Unknown(
        "WhatsApp has the message in its own queue and sends it when it can; its report decides", code=NOT_ACKNOWLEDGED
    )
