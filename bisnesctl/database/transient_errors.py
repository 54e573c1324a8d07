"""Temporary failures: a message that failed with one of them was certainly not sent and may be retried."""

import re

#: Error codes with which messages are retried before they fail. Meta's codes come from the connector's table; a test
#: compares them.
CODES = frozenset({
    "network", "provider_unreachable", "upload", "media_store", "media_link", "preparation", "steps", "http_429",
    "360dialog_429", "page", "page_error", "not_sent", "number_check", "error_network",
    "worker_suspended",
    "1", "2", "4", "17", "613", "80007", "130429", "131000", "131016", "131056", "131057", "133004",
})  # fmt: skip

#: Pattern for Python and PostgreSQL: the end of the error of a message that failed after several attempts.
GAVE_UP_PATTERN = r"\(gave up after [0-9]+ attempts\)$"


def is_transient(code: str | None, error: str | None) -> bool:
    """Whether a failed message may be retried."""
    return code in CODES or bool(re.search(GAVE_UP_PATTERN, error or ""))
