"""WhatsApp Web through a browser's page: messages out, the page's events in."""

from contextlib import ExitStack
from functools import partial

from bisnesctl.settings import Settings
from services.connectors.base import Again, LocalFile, PageRequest, Preparation, Refusal
from services.connectors.outgoing_files import Files, NoFile
from services.connectors.wwebjs.translation import incoming, limits, outgoing
from services.media.fetch import Fetcher
from services.media.store import MediaStore, media_store
from services.message import Bot, Outcome, Outgoing, Payload, Rejected, Unknown, Update


class WwebjsConnector:
    """Translates between messages and what the page of WhatsApp Web does and tells. Safe for threads."""

    process_name = "wwebjs"

    def __init__(self, settings: Settings, store: MediaStore | None = None, fetcher: Fetcher | None = None) -> None:
        """`store` holds the files that messages name by key; without it and `fetcher`, those of the settings."""
        self._files = Files(store or media_store(settings), fetcher or Fetcher(settings.open_networks))
        self._ready: dict[int, LocalFile] = {}  # files that were brought to disk for a message

    def check(self, kind: str, chat_id: str, payload: Payload) -> None:
        """Refuse what WhatsApp Web could never send; raises `Unsupported`."""
        limits.check(kind, chat_id, payload)

    def request(self, bot: Bot, message: Outgoing) -> PageRequest | Preparation:
        """What the page is to send, or that its file must be brought to disk first."""
        try:
            if message.kind not in outgoing.FILES:
                _ = outgoing.text(message, "") if message.kind == "text" else outgoing.acts(message)
                return PageRequest(message)
            outgoing.file_options(message, "", "")
        except KeyError as missing:
            # One that a newer version accepted, say: it must not stop those behind it.
            refused = Rejected("payload", f"this version cannot send messages of type {message.kind} without {missing}")
            return Preparation(lambda: refused)
        file = self._ready.pop(message.id, None)
        return PageRequest(message, file) if file else Preparation(partial(self._prepare, message))

    def probe(self, bot: Bot, outage: str) -> None:
        """Nothing: the session knows by itself whether its page works."""

    def outcome(self, message: Outgoing, status: int, body: bytes) -> Outcome | Again:
        """Never asked: a page's window knows the outcome itself."""
        return Unknown(f"WhatsApp Web gave an answer of HTTP ({status})")

    def parse(self, body: bytes) -> list[Update]:
        """What one event of the page tells. Raises ValueError where it is none."""
        return incoming.parse(body)

    def _prepare(self, message: Outgoing) -> Refusal | None:
        kept = ExitStack()
        try:
            path, mime_type = kept.enter_context(self._files.of(message))
        except NoFile as error:
            return error.refusal
        self._ready[message.id] = LocalFile(path, mime_type, kept.close)
        return None
