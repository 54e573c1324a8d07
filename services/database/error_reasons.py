"""The reasons of PostgreSQL's errors, in words that an operator can act on."""

import psycopg2

#: By SQLSTATE.
_WORDS = {
    "25006": "it is read-only: a standby, or a failover is under way",
    "53000": "it lacks resources",
    "53100": "its disk is full",
    "53200": "it is out of memory",
    "53300": "it has no connection left",
    "53400": "a limit of its configuration is reached",
    "57014": "it took too long",
    "57P01": "it is shutting down",
    "57P02": "it crashed and is starting up again",
    "57P03": "it is starting up",
    "58030": "its disk fails (input/output error)",
    "XX001": "its data are damaged",
    "XX002": "an index of it is damaged",
}
#: By its messages while it refuses connections, for which psycopg2 knows no SQLSTATE.
_SAID = {
    "too many clients": "53300",
    "remaining connection slots": "53300",
    "too many connections for": "53300",
    "starting up": "57P03",
    "not yet accepting connections": "57P03",
    "in recovery mode": "57P02",
    "shutting down": "57P01",
    "No space left on device": "53100",
    "out of memory": "53200",
    "Read-only file system": "58030",
}


def why(error: BaseException) -> str | None:
    """The reason with its SQLSTATE, such as `its disk is full (SQLSTATE 53100)`; None if there is no known one."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, psycopg2.Error):
            text = str(cause)
            code = cause.pgcode or next((code for words, code in _SAID.items() if words in text), "")
            if code in _WORDS:
                return f"{_WORDS[code]} (SQLSTATE {code})"
        cause = cause.__cause__
    return None
