"""Whether a provider serves a number again, asked without sending anything."""

from services.connectors.meta.translation import responses
from services.connectors.meta.upload_request import ask
from services.message import Unavailable


def still_out(url: str, header: str, outage: str) -> Unavailable | None:
    """None if the provider answers; what keeps the message from being sent otherwise. `outage`: the code so far."""
    try:
        status, body = ask(url, header)
    except ConnectionError as error:
        return Unavailable("network", str(error))
    if _leaves_open(status, body):
        return Unavailable(outage, f"the provider answers with {responses.shown(status, body)}")
    return None


def _leaves_open(status: int, body: bytes) -> bool:
    """Whether nobody could tell from such an answer what became of a message: a page, of whatever status, say."""
    success = 200 <= status < 300 and isinstance(responses.read(body), dict)
    return not success and responses.refusal(status, body) is None
