"""The links of messages, which the API fetches after it has accepted a message (Cloud API, "Media")."""

from typing import Literal
from urllib.parse import urlsplit

import requests

from services.sandbox.meta.media import KIND_LIMITS
from services.sandbox.meta.message_kinds import Attachment
from services.sandbox.meta.request_fields import GraphError

#: A link with this word is refused at once.
UNFETCHABLE = "unfetchable"
#: A link with this word is accepted, and the message fails later.
UNFETCHABLE_LATER = "unfetchable-later"
#: How long a server may take to connect, and between two pieces of its answer.
FETCH_TIMEOUT_SECONDS = 5
#: The hosts that can be reached from every machine.
LOCAL_HOSTS = ("127.0.0.1", "localhost", "::1")

_CHUNK_BYTES = 1 << 16

Fetched = Literal["local", "all", "none"]


class Links:
    """Fetches links: by default those of this machine, because a sandbox may have no internet."""

    def __init__(self) -> None:
        self.fetched: Fetched = "local"

    def failure(self, attachment: Attachment | None) -> str | None:
        """Why a message with this file fails later. Raises `GraphError` 131053 if it fails at once."""
        link = attachment.link if attachment else None
        if attachment is None or link is None:
            return None
        if UNFETCHABLE_LATER in link:
            return f"the link cannot be fetched: {link}"
        if UNFETCHABLE in link:
            raise GraphError(131053, f"the link cannot be fetched: {link}")
        local = urlsplit(link).hostname in LOCAL_HOSTS
        return _fetch(link, attachment.kind) if self.fetched == "all" or (local and self.fetched == "local") else None


def _fetch(link: str, kind: str) -> str | None:
    """Why a link is of no use for this kind of message."""
    types, limit = KIND_LIMITS[kind]
    with requests.Session() as session:
        session.trust_env = False
        try:
            answer = session.get(link, timeout=FETCH_TIMEOUT_SECONDS, stream=True)
            if answer.status_code != 200:
                return f"Downloading media from weblink failed with http code {answer.status_code}"
            found = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
            if kind != "document" and found not in types:
                return f"Unsupported {kind} type {found or 'unknown'}. Supported types: {', '.join(types)}"
            size = 0
            for chunk in answer.iter_content(_CHUNK_BYTES):
                size += len(chunk)
                if size > limit:
                    return f"The {kind} has more than {limit} bytes"
        except (requests.RequestException, ValueError) as error:
            return f"Downloading media from weblink failed: {type(error).__name__}"
    return None
