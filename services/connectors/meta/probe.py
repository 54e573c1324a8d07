"""Whether a provider serves a number again, asked without sending anything."""

from services.connectors.meta import answers
from services.connectors.meta.transfer import ask
from services.message import Unavailable

#: The HTTP statuses of a gateway, or of a server that is broken as a whole.
BROKEN = (500, 502, 503, 504)


def still_out(url: str, header: str, outage: str) -> Unavailable | None:
    """None if the provider answers; what keeps the message from being sent otherwise. `outage`: the code so far."""
    try:
        status, body = ask(url, header)
    except ConnectionError as error:
        return Unavailable("network", str(error))
    if status in BROKEN and answers.error_of(answers.read(body)) is None:
        return Unavailable(outage, f"the provider answers with {answers.shown(status, body)}")
    return None
