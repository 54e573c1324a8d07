"""Calls a dead-man switch: a service that notifies somebody when the calls stop, in the form of healthchecks.io.

The address is a secret: no message shows it.
"""

import io
import urllib.parse
from enum import StrEnum

import pycurl

from bisnesctl.settings import Settings

#: Calls until one is accepted, at most.
ATTEMPTS = 3
#: Milliseconds of one call, from the look-up of the name to the end of the answer.
TIMEOUT_MS = 5000
#: Bytes of the text that a call carries, at most; healthchecks.io keeps as many.
MAX_TEXT_BYTES = 10_000
#: HTTP statuses that another attempt would not change: the address is wrong.
_FINAL = range(400, 500)
_TOO_MANY_REQUESTS = 429


class Ping(StrEnum):
    """The meaning of a call; the value is added to the path."""

    START = "/start"
    SUCCESS = ""
    FAIL = "/fail"


def ping(settings: Settings, kind: Ping, text: str = "") -> str:
    """Calls HEALTH_PING_URL; returns why no call was accepted, or an empty text. Without an address it does nothing.

    `text`: for the people who read the log of the service.
    """
    url = settings.health_ping_url.get_secret_value()
    if not url:
        return ""
    reason = ""
    for _ in range(ATTEMPTS):
        reason, final = _call(_address(url, kind), text.encode()[:MAX_TEXT_BYTES])
        if not reason or final:
            break
    return reason


def _address(url: str, kind: Ping) -> str:
    parts = urllib.parse.urlsplit(url)
    return urllib.parse.urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}{kind.value}"))


def _call(url: str, body: bytes) -> tuple[str, bool]:
    """Why a call failed, or an empty text; and whether another one would fail too."""
    curl = pycurl.Curl()
    try:
        curl.setopt(pycurl.URL, url)
        curl.setopt(pycurl.POSTFIELDS, body)
        curl.setopt(pycurl.HTTPHEADER, ["Content-Type: text/plain; charset=utf-8", "User-Agent: bisnesctl", "Expect:"])
        curl.setopt(pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS)
        curl.setopt(pycurl.TIMEOUT_MS, TIMEOUT_MS)
        curl.setopt(pycurl.CONNECTTIMEOUT_MS, TIMEOUT_MS)
        curl.setopt(pycurl.NOSIGNAL, 1)
        curl.setopt(pycurl.WRITEFUNCTION, io.BytesIO().write)
        curl.perform()
        status = int(curl.getinfo(pycurl.RESPONSE_CODE))
    except pycurl.error as error:
        return (
            f"the dead-man switch cannot be reached ({_MEANINGS.get(error.args[0], f'error {error.args[0]} of curl')})",
            False,
        )
    finally:
        curl.close()
    if 200 <= status < 300:
        return "", False
    return f"the dead-man switch answers with HTTP status {status}", status in _FINAL and status != _TOO_MANY_REQUESTS


#: Curl's own words may contain the address.
_MEANINGS = {
    pycurl.E_COULDNT_RESOLVE_HOST: "its name cannot be resolved",
    pycurl.E_COULDNT_CONNECT: "no connection",
    pycurl.E_OPERATION_TIMEDOUT: f"no answer within {TIMEOUT_MS / 1000:g} s",
    pycurl.E_SSL_CONNECT_ERROR: "no TLS connection",
    pycurl.E_PEER_FAILED_VERIFICATION: "its certificate is not accepted",
}
