"""Which starts of a number count as failed, and when they block it: pure functions."""

from enum import Enum

#: Starts in a row that must fail until the number is blocked.
MAX_FAILED_STARTS = 3


class StartEvent(Enum):
    """What happens to a start."""

    BEGUN = "begun"
    CAME_UP = "came_up"  # it shows a QR code, or works
    FAILED = "failed"  # its own process says so: browser after browser came to nothing
    INTERRUPTED = "interrupted"  # stopped, killed, restarted, or without a database: not the number's fault
    FORGIVEN = "forgiven"  # its block ended, or an operator ended it


def count(failed: int, event: StartEvent) -> int:
    """The starts in a row that have failed, after `event`."""
    match event:
        case StartEvent.CAME_UP | StartEvent.FORGIVEN:
            return 0
        case StartEvent.FAILED:
            return failed + 1
    return failed


def is_blocked(failed: int, state: str) -> bool:
    """Whether a session in this state is to be blocked: never while another start is under way."""
    return failed >= MAX_FAILED_STARTS and state == "FAILED"
