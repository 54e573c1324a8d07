"""Which failures of a message may pass: what failed for them is known not to have left, and may be tried again."""

import re

#: The codes under which messages wait and are tried again before they fail. Meta's are told by the connector's table,
#: with which a test compares them.
CODES = frozenset({
    "network", "provider_unreachable", "upload", "media_store", "media_link", "preparation", "steps", "http_429",
    "360dialog_429", "page", "page_error", "not_sent", "number_check", "error_network",
    "1", "2", "4", "17", "613", "80007", "130429", "131000", "131016", "131056", "131057", "133004",
})  # fmt: skip

# Whatever the code: the delivery says so of what it tried several times.
#: A pattern for Python and PostgreSQL.
GAVE_UP = r"\(gave up after [0-9]+ attempts\)$"


def is_transient(code: str | None, error: str | None) -> bool:
    """Whether a failed message may be tried again."""
    return code in CODES or bool(re.search(GAVE_UP, error or ""))
