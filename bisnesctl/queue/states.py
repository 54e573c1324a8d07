"""The states of messages, and the size of a page. Imports nothing; the command line needs it for `--help`."""

from enum import StrEnum

#: Messages that one call returns, at most.
MAX_PAGE = 1000


class State(StrEnum):
    """The state of a message, in the words of the former system, and `unknown`."""

    WAITING = "waiting"  # for its turn
    ACTIVE = "active"  # in the hands of a worker
    DELAYED = "delayed"  # its bot is held or paused, or it waits for its next attempt
    FAILED = "failed"
    UNKNOWN = "unknown"  # it may have been sent
