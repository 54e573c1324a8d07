"""Downloads of a WhatsApp Web number despite any fault of its page; PostgreSQL and the store are real."""

import base64
import hashlib
import time
from dataclasses import replace

import pytest

from services.connectors.meta import downloads
from services.connectors.wwebjs.browser.page import Blob, CallFailed, CallTimeout, PageLost, TooLarge
from services.connectors.wwebjs.session.media_downloads import MediaDownloads
from services.media import pending
from services.media.folder import FolderStore
from tests.support.outbox import add_bot, execute, open_database
from tests.support.waiting import Patience
from tests.support.web_events import CHAT, WebBot, said

KEY = f"false_{CHAT}_3A01"
OPUS = b"OggS\x00\x02" + bytes(20) + b"\x01\x13OpusHead\x01\x01" + bytes(500)


class Page:
    """A page that gives a file, or fails."""

    def __init__(self):
        self.failure, self.data, self.asked = None, OPUS, []

    def download(self, function, key, *, path, limit, deadline):
        self.asked.append(key)
        path.write_bytes(self.data)
        if self.failure:
            raise self.failure
        return Blob(len(self.data), "audio/ogg")


class Stage:
    """A number to which somebody spoke."""

    def __init__(self, connection, pool, folder):
        self.connection, self.pool, self.bot, self.folder = connection, pool, WebBot(connection, pool), folder
        self.store = FolderStore(folder / "media")
        self.page, self.downloads = Page(), self.another()

    def another(self):
        """The work of the next process."""
        return MediaDownloads(self.pool, self.bot.id, self.store, 1 << 20, self.folder / "downloads")

    def hear(self, **more):
        """A voice message comes in; returns its id."""
        self.bot.tell(said(KEY, type="ptt", mimetype="audio/ogg; codecs=opus", **more))
        return self.bot.events("message")[-1]["id"]

    def work(self):
        """Fetch what is due until it is kept or put off, and nothing of it is on its way any more."""
        patience = Patience(60)
        while ((waiting := self.waits()) and waiting[2]) or list((self.folder / "downloads").iterdir()):
            assert not patience.is_over()
            self.downloads.turn(self.page)
            time.sleep(0.01)

    def waits(self):
        """(attempts, error, whether it is due or under way), or None once the file is kept."""
        rows = execute(
            self.connection,
            "SELECT attempts, error, error IS NULL AND due < 'infinity' OR due <= now() FROM media_download",
        )
        return rows[0] if rows else None

    def file(self, message_id):
        """The file and what is known of it."""
        ((facts,),) = execute(self.connection, "SELECT media_metadata FROM messages WHERE id = %s", (message_id,))
        with self.store.open(facts["key"]) as file:
            return file.read(), facts

    def due(self):
        """The time until the next attempt goes by."""
        execute(self.connection, "UPDATE media_download SET due = now(), error = NULL")


@pytest.fixture
def stage(database, tmp_path, monkeypatch):
    monkeypatch.setattr(pending, "BACKOFF", replace(pending.BACKOFF, first_seconds=3600))
    pool, connection = open_database(database)
    yield Stage(connection, pool, tmp_path)
    connection.close()
    pool.close()


def test_a_voice_message_is_fetched_by_its_key_and_kept_with_its_type(stage):
    message = stage.hear(filehash=base64.b64encode(hashlib.sha256(OPUS).digest()).decode())
    stage.work()
    data, facts = stage.file(message)
    assert (data, facts["mimeType"], facts["voice"]) == (OPUS, "audio/ogg; codecs=opus", True)
    assert stage.page.asked == [KEY]
    assert list((stage.folder / "downloads").iterdir()) == []


@pytest.mark.parametrize("failure", [PageLost("the page crashed"), CallTimeout("too slow"), CallFailed("x", "no")])
def test_a_file_outlives_its_page(stage, failure):
    message = stage.hear()
    stage.page.failure = failure
    if isinstance(failure, CallFailed):
        assert stage.downloads.turn(stage.page)
    else:  # which is the session's to know
        with pytest.raises(type(failure)):
            stage.downloads.turn(stage.page)
    assert stage.waits() == (1, str(failure), False)
    stage.page.failure = None
    stage.due()
    stage.work()
    assert stage.file(message)[0] == OPUS
    assert list((stage.folder / "downloads").iterdir()) == []


def test_a_file_that_is_too_large_or_not_the_announced_one_is_not_stored(stage):
    stage.hear(filehash=hashlib.sha256(b"another").hexdigest())
    stage.work()
    assert "SHA-256" in stage.waits()[1]
    stage.page.failure = TooLarge("9 bytes are more than 8")
    stage.due()
    assert stage.downloads.turn(stage.page)
    assert execute(stage.connection, "SELECT error FROM media_download WHERE due = 'infinity'") == [
        ("9 bytes are more than 8",)
    ]


def test_a_file_is_kept_pending_while_the_store_is_unavailable(stage):
    message = stage.hear()
    folder = stage.folder / "media"
    folder.write_text("no folder")
    stage.work()
    assert stage.waits()[0] == 1
    folder.unlink()
    stage.due()
    stage.work()
    assert stage.file(message)[0] == OPUS


def test_a_session_downloads_only_its_own_files_and_metas_job_none_of_them(stage):
    stage.hear()
    other = add_bot(stage.connection, index=5, kind="wwebjs")
    execute(stage.connection, "UPDATE media_download SET bot_id = %s", (other,))
    assert not stage.downloads.turn(stage.page)
    assert downloads.claim(stage.connection, []) is None
    execute(stage.connection, "UPDATE phone_configs SET connection_type = 'meta_direct' WHERE id = %s", (other,))
    assert downloads.claim(stage.connection, []) is not None


def test_temporary_files_of_a_dead_process_are_removed(stage):
    (stage.folder / "downloads" / "left").write_bytes(OPUS)
    stage.another()
    assert list((stage.folder / "downloads").iterdir()) == []
