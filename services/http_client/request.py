"""An HTTP request that sends one message."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One POST that sends one message."""

    url: str
    headers: tuple[str, ...] = field(repr=False)  # "Name: value" lines; one of them holds the credential
    body: bytes
