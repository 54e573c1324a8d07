"""Which starts of a session count as failed, and when they block it: pure functions."""

from enum import Enum

#: Consecutive starts that must fail until the session is blocked.
MAX_FAILED_STARTS = 3


class StartEvent(Enum):
    """An event in the course of a start."""

    BEGUN = "begun"
    CAME_UP = "came_up"  # it shows a QR code, or works
    FAILED = "failed"  # its own process says so: no browser came up
    INTERRUPTED = "interrupted"  # stopped, killed, restarted or without a database, which is not the bot's fault
    FORGIVEN = "forgiven"  # its block expired, or an operator lifted it


def count(failed: int, event: StartEvent) -> int:
    """The number of consecutive failed starts after `event`."""
    match event:
        case StartEvent.CAME_UP | StartEvent.FORGIVEN:
            return 0
        case StartEvent.FAILED:
            return failed + 1
    return failed


def is_blocked(failed: int, state: str) -> bool:
    """Whether a session in this state is to be blocked: never while another start is under way."""
    return failed >= MAX_FAILED_STARTS and state == "FAILED"
