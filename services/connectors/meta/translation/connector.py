"""Meta's Cloud API, directly or through 360dialog: messages out, webhooks in."""

from functools import partial
from typing import Any

from bisnesctl.settings import Settings
from services.connectors.base import NO_ANSWER, Again, Preparation
from services.connectors.meta import outage_probe
from services.connectors.meta.provider import Provider
from services.connectors.meta.translation import incoming, limits, outgoing, responses
from services.connectors.meta.uploads import Uploads
from services.connectors.outgoing_files import Files
from services.http_client import HttpRequest
from services.media.fetch import Fetcher
from services.media.store import MediaStore, media_store
from services.message import Bot, Outcome, Outgoing, Payload, Rejected, Sent, Unknown, Update


class MetaConnector:
    """Translates between messages and Meta's Graph API."""

    process_name = "meta"

    def __init__(self, settings: Settings, store: MediaStore | None = None, fetcher: Fetcher | None = None) -> None:
        """`store` holds the files that messages name by key; without it and `fetcher`, those of the settings."""
        self._provider = Provider(settings)
        files = Files(store or media_store(settings), fetcher or Fetcher(settings.open_networks))
        self._uploads = Uploads(self._provider, files, settings.send_timeout_ms)

    def check(self, kind: str, chat_id: str, payload: Payload) -> None:
        """Refuse what Meta could never send; raises `Unsupported`."""
        limits.check(kind, chat_id, payload)

    def request(self, bot: Bot, message: Outgoing) -> HttpRequest | Preparation:
        """The request that sends the message, or the upload that must come first."""
        try:
            file = self._uploads.file_of(bot, message) if message.kind in outgoing.MEDIA_KINDS else None
            if isinstance(file, Preparation):
                return file
            headers = (self._provider.header(bot), "Content-Type: application/json")
            return HttpRequest(self._provider.url(bot, "messages"), headers, outgoing.body(message, file))
        except KeyError as missing:
            # One that a newer version accepted, say: it must not stop those behind it.
            refused = Rejected("payload", f"this version cannot send messages of type {message.kind} without {missing}")
            return Preparation(lambda: refused)

    def probe(self, bot: Bot, outage: str) -> Preparation | None:
        """Ask for the number, where the outage would leave open what became of the next message."""
        if outage != NO_ANSWER and not outage.startswith(responses.outage(0)[:-1]):
            return None
        return Preparation(partial(outage_probe.still_out, *self._provider.number(bot), outage))

    def outcome(self, message: Outgoing, status: int, body: bytes) -> Outcome | Again:
        """What an answer means; one that makes no sense may have been cut by a gateway after the message had left."""
        answer = responses.read(body)
        if 200 <= status < 300 and (sent := _sent(message.kind, answer)):
            return sent
        if (error := responses.error_of(answer)) and self._uploads.knows_another_way(message, error):
            return Again()
        if refusal := responses.refusal(status, body):
            return refusal
        return Unknown(f"the answer makes no sense ({responses.shown(status, body)})", responses.outage(status))

    def parse(self, body: bytes) -> list[Update]:
        """What a webhook tells, in its order. Raises ValueError where it is no WhatsApp webhook."""
        return incoming.parse(body)


def _sent(kind: str, answer: Any) -> Sent | None:
    """The success that an answer tells of, if it does; a read receipt is no message and has no id."""
    if kind == "read":
        return Sent() if responses.field(answer, "success") is True else None
    messages = responses.field(answer, "messages")
    found = responses.field(messages[0], "id") if isinstance(messages, list) and messages else None
    return Sent(found) if isinstance(found, str) and found != "" and found.isprintable() else None
