"""Brings the file of an outgoing message to this machine's disk: from our store, or from its link."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from services.connectors.base import Refusal
from services.media import kinds
from services.media.fetch import Fetched, Fetcher, FetchFailed, FetchRefused
from services.media.store import MediaMissing, MediaStore, MediaUnavailable
from services.message import Outgoing, Rejected, Retry, Unavailable

#: Types that WhatsApp wants with a parameter. We detect types by content, and every Ogg file with audio holds Opus.
_FULL_TYPES = {"audio/ogg": "audio/ogg; codecs=opus"}


class NoFile(Exception):
    """There is no file to send; `refusal` is the consequence for the message."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.reason)
        self.refusal = refusal


class Files:
    """Brings files to disk. Safe for threads."""

    def __init__(self, store: MediaStore, fetcher: Fetcher) -> None:
        self._store = store
        self._fetcher = fetcher

    @contextmanager
    def of(self, message: Outgoing) -> Iterator[tuple[Path, str]]:
        """The message's file, valid inside the block, and its MIME type as WhatsApp wants it. Raises `NoFile`."""
        media = message.payload["media"]
        try:
            if "link" in media:
                with self._fetcher.fetch(media["link"], kinds.KINDS[_kind(message)].limit) as fetched:
                    _check(_kind(message), fetched)
                    yield fetched.path, _FULL_TYPES.get(fetched.mime_type, fetched.mime_type)
            else:
                with self._store.local_path(media["key"]) as path:
                    yield path, _FULL_TYPES.get(media["mimeType"], media["mimeType"])
        except MediaMissing:
            raise NoFile(Rejected("media_missing", "the file is no longer stored: send it again")) from None
        except MediaUnavailable as error:
            raise NoFile(Unavailable("media_store", str(error))) from error
        except kinds.MediaRefused as refused:
            raise NoFile(Rejected(refused.code, f"the link's file cannot be sent: {refused}")) from None
        except FetchRefused as refused:
            raise NoFile(Rejected("media_link", f"the link cannot be fetched: {refused}")) from None
        except FetchFailed as failed:
            raise NoFile(Retry("media_link", f"the link could not be fetched: {failed}")) from None


def _kind(message: Outgoing) -> str:
    """The message's kind in `kinds.KINDS`, where voice messages are a kind of their own."""
    return "voice" if message.kind == "audio" and message.payload.get("voice") else message.kind


def _check(kind: str, fetched: Fetched) -> None:
    with fetched.path.open("rb") as file:
        kinds.check(kind, fetched.mime_type, fetched.size, kinds.is_animated(file.read(kinds.HEAD)))
