"""Brings the file of an outgoing message to this machine's disk: from our store, or from its link."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from services.connector import Refusal
from services.media import kinds, names
from services.media.fetch import Fetched, Fetcher, FetchFailed, FetchRefused
from services.media.store import MediaMissing, MediaStore, MediaUnavailable
from services.message import Outgoing, Rejected, Retry, Unavailable

#: The code of a link that we cannot fetch.
LINK_CODE = "media_link"
#: Types that WhatsApp wants with a parameter. We detect types by content, and every Ogg file with audio holds Opus.
_FULL_TYPES = {"audio/ogg": "audio/ogg; codecs=opus"}


class NoFile(Exception):
    """There is no file to send; `refusal` is the consequence for the message."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.reason)
        self.refusal = refusal


class OutgoingFile(NamedTuple):
    """A file on this machine's disk."""

    path: Path
    mime_type: str  # as WhatsApp wants it
    filename: str | None  # its name, by its server or by the caller


class Files:
    """Brings files to disk. Safe for threads."""

    def __init__(self, store: MediaStore, fetcher: Fetcher) -> None:
        self._store = store
        self._fetcher = fetcher

    @contextmanager
    def of(self, message: Outgoing) -> Iterator[OutgoingFile]:
        """The message's file, valid inside the block. Raises `NoFile`."""
        media = message.payload["media"]
        try:
            if "link" in media:
                with self._fetcher.fetch(media["link"], kinds.KINDS[_kind(message)].limit) as fetched:
                    _check(_kind(message), fetched)
                    yield OutgoingFile(fetched.path, _full(fetched.mime_type), fetched.filename)
            else:
                with self._store.local_path(media["key"]) as path:
                    yield OutgoingFile(path, _full(media["mimeType"]), media.get("filename"))
        except MediaMissing:
            raise NoFile(Rejected("media_missing", "the file is no longer stored: send it again")) from None
        except MediaUnavailable as error:
            raise NoFile(Unavailable("media_store", str(error))) from error
        except kinds.MediaRefused as refused:
            raise NoFile(Rejected(refused.code, f"the link's file cannot be sent: {refused}")) from None
        except FetchRefused as refused:
            raise NoFile(Rejected(LINK_CODE, f"the link cannot be fetched: {refused}")) from None
        except FetchFailed as failed:
            raise NoFile(Retry(LINK_CODE, f"the link could not be fetched: {failed}")) from None


def given_name(message: Outgoing) -> str | None:
    """The name that the caller gave the file; not one that is only the end of its link."""
    media = message.payload["media"]
    name = message.payload.get("filename") or media.get("filename")
    return None if "link" in media and name == names.of_url(media["link"]) else name


def _full(mime_type: str) -> str:
    return _FULL_TYPES.get(mime_type, mime_type)


def _kind(message: Outgoing) -> str:
    """The message's kind in `kinds.KINDS`, where voice messages are a kind of their own."""
    return "voice" if message.kind == "audio" and message.payload.get("voice") else message.kind


def _check(kind: str, fetched: Fetched) -> None:
    with fetched.path.open("rb") as file:
        kinds.check(kind, fetched.mime_type, fetched.size, kinds.is_animated(file.read(kinds.HEAD)))
