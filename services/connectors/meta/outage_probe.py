"""The check of whether a provider serves a bot again, which sends no message."""

from services.connectors.meta.translation import errors
from services.connectors.meta.upload_request import get
from services.message import Unavailable


def still_out(url: str, header: str, outage: str) -> Unavailable | None:
    """None if the provider answers; otherwise why the message cannot be sent. `outage`: the code of the outage."""
    try:
        status, body = get(url, header)
    except ConnectionError as error:
        return Unavailable("network", str(error))
    if _leaves_open(status, body):
        return Unavailable(outage, f"the provider answers with {errors.shown(status, body)}")
    return None


def _leaves_open(status: int, body: bytes) -> bool:
    """Whether such an answer to a send would leave the message's outcome unknown: an HTML page, for instance."""
    success = 200 <= status < 300 and isinstance(errors.read(body), dict)
    return not success and errors.refusal(status, body) is None
