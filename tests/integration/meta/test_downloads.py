"""Received files are downloaded from the provider and stored once, despite any failure meanwhile."""

import base64
import contextlib
import hashlib
import json
import threading
import uuid
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from bisnesctl.encryption import EncryptionError
from services.connectors.meta import downloads
from services.connectors.meta.downloads import MAX_DOWNLOADS, MAX_DOWNLOADS_PER_BOT, Downloads
from services.media import pending
from services.media.pending import digest_of
from services.media.store import media_store
from services.message import Bot, Secret
from tests.support.api import settings_for
from tests.support.outbox import add_bot, execute, open_database
from tests.support.remote.file_provider import KEY, TOKEN, FileProvider
from tests.support.remote.file_server import FileServer
from tests.support.sandbox import Sandbox, free_port
from tests.support.waiting import Patience

JPEG = b"\xff\xd8\xff\xe0" + bytes(range(256)) * 200
OPUS = b"OggS\x00\x02" + bytes(20) + b"\x01\x13OpusHead\x01\x01" + bytes(500)


#: Seconds between attempts in these tests, so that none is due while a slow machine still works at something else.
LONG = 3600


@pytest.fixture(autouse=True)
def _patience(monkeypatch):
    monkeypatch.setattr(pending, "BACKOFF", replace(pending.BACKOFF, first_seconds=LONG))


@pytest.fixture
def provider():
    provider = FileProvider()
    yield provider
    provider.close()


class Stage:
    """A company with bots whose customers send files."""

    def __init__(self, dsn, folder, provider, **settings):
        lines = {
            "META_GRAPH_URL": provider.url, "DIALOG360_URL": f"{provider.url}/360",
            "ALLOWED_NETWORKS": "127.0.0.1/32", "MEDIA_MAX_MB": "1",
        }  # fmt: skip
        self.settings = settings_for(dsn, folder, **lines | settings)
        self.provider = provider
        self.database, self.connection = open_database(dsn)
        self.store = media_store(self.settings)
        self.bots = {}
        self.downloads = self.another()

    def another(self):
        """Another process that does the same."""
        return Downloads(self.settings, self.database, self.bot, self.store)

    def bot(self, bot_id):
        bot = self.bots.get(bot_id)
        if isinstance(bot, Exception):
            raise bot
        return bot

    def add_bot(self, kind="meta_direct", index=0):
        number = add_bot(self.connection, index=index, kind=kind)
        secret = Secret(KEY if kind == "360dialog" else TOKEN)
        self.bots[number] = Bot(number, "0128", index, "meta", kind, f"10{index}", secret)
        return number

    def receive(self, bot, name, data=JPEG, **media):
        """A message with a file comes in; returns the message's id."""
        if data is not None:
            self.provider.files[name] = data
        message_id, facts = str(uuid.uuid4()), json.dumps({"id": name, "mimeType": "image/jpeg"} | media)
        execute(
            self.connection,
            "WITH m AS (INSERT INTO messages (id, message_id, company_id, message_type, media_metadata, direction)"
            " VALUES (%(id)s, %(id)s, '0128', 'image', %(media)s, 'inbound'))"
            "INSERT INTO media_download (message_id, bot_id, company_id, media)"
            " VALUES (%(id)s, %(bot)s, '0128', %(media)s)",
            {"id": message_id, "bot": bot, "media": facts},
        )
        return message_id

    def work(self, worker=None):
        """Do what is due, until nothing is."""
        patience = Patience(60)
        while (worker or self.downloads).work(self.connection):
            assert not patience.is_over()

    def kept(self, message_id):
        """The message's file and what is known of it."""
        ((facts,),) = execute(self.connection, "SELECT media_metadata FROM messages WHERE id = %s", (message_id,))
        if "key" not in facts:
            return None, facts
        with self.store.open(facts["key"]) as file:
            return file.read(), facts

    def waiting(self, message_id):
        """(attempts, error, seconds until the next attempt or None for never), or None when it is done."""
        rows = execute(
            self.connection,
            "SELECT attempts, error, CASE WHEN due < 'infinity' THEN extract(epoch FROM due - now())::float END"
            " FROM media_download WHERE message_id = %s",
            (message_id,),
        )
        return rows[0] if rows else None

    def let_pass(self, seconds):
        """Let `seconds` pass."""
        execute(
            self.connection,
            "UPDATE media_download SET due = due - %(s)s * interval '1 second', created_at = created_at - %(s)s *"
            " interval '1 second', tried_at = tried_at - %(s)s * interval '1 second'",
            {"s": seconds},
        )

    def close(self):
        self.connection.close()
        self.database.close()


@pytest.fixture
def stage(database, tmp_path, provider):
    with contextlib.closing(Stage(database, tmp_path, provider)) as stage:
        yield stage


@pytest.mark.parametrize("kind", ["meta_direct", "meta_embedded", "360dialog"])
def test_a_file_is_fetched_with_the_bot_s_credential_and_kept(stage, kind):
    message = stage.receive(stage.add_bot(kind), "990")
    stage.work()
    data, facts = stage.kept(message)
    assert data == JPEG
    digest = hashlib.sha256(JPEG).hexdigest()
    assert facts.items() >= {"id": "990", "mimeType": "image/jpeg", "size": len(JPEG), "sha256": digest}.items()
    assert stage.waiting(message) is None
    assert stage.provider.served == {"990": 1}


def test_the_announced_type_counts_if_it_fits_the_content(stage):
    bot = stage.add_bot()
    stage.provider.types |= {"1": "audio/ogg; codecs=opus", "2": "image/png", "3": "application/pdf"}
    messages = [stage.receive(bot, "1", OPUS), stage.receive(bot, "2"), stage.receive(bot, "3", b"<script>")]
    stage.work()
    types = [stage.kept(message)[1]["mimeType"] for message in messages]
    assert types == ["audio/ogg; codecs=opus", "image/jpeg", "application/octet-stream"]


def test_the_digest_of_the_webhook_counts_if_the_provider_has_none(stage):
    bot = stage.add_bot()
    stage.provider.told["good"] = stage.provider.told["bad"] = {"sha256": None, "file_size": None}
    good = stage.receive(bot, "good", sha256=base64.b64encode(hashlib.sha256(JPEG).digest()).decode())
    bad = stage.receive(bot, "bad", sha256=base64.b64encode(hashlib.sha256(b"other").digest()).decode())
    stage.work()
    assert stage.kept(good)[0] == JPEG
    assert stage.kept(bad)[0] is None
    assert "SHA-256" in stage.waiting(bad)[1]


@pytest.mark.parametrize("told", [{"sha256": hashlib.sha256(b"other").hexdigest()}, {"file_size": 17}])
def test_a_file_that_is_not_the_announced_one_is_not_kept(stage, told):
    stage.provider.told["990"] = told
    message = stage.receive(stage.add_bot(), "990")
    stage.work()
    assert stage.kept(message)[0] is None
    del stage.provider.told["990"]
    stage.let_pass(LONG)
    stage.work()
    assert stage.kept(message)[0] == JPEG


def test_a_failed_attempt_is_repeated_when_it_is_due(stage):
    message = stage.receive(stage.add_bot(), "990")
    stage.provider.broken["990"] = 503
    for attempt in (1, 2, 3):
        stage.work()
        stage.work()  # not before it is due
        attempts, error, due = stage.waiting(message)
        assert attempts == attempt == stage.provider.served["990"]
        assert "503" in error
        assert LONG - 300 < due <= LONG
        stage.let_pass(LONG)
    stage.provider.broken.clear()
    stage.work()
    assert stage.kept(message)[0] == JPEG


def test_a_download_is_abandoned_after_a_week(stage):
    message = stage.receive(stage.add_bot(), "990")
    stage.provider.broken["990"] = 503
    stage.let_pass(7 * 86400 + 1)
    stage.work()
    assert stage.waiting(message)[2] is None
    assert "503" in stage.waiting(message)[1]


@pytest.mark.parametrize("refusal", [
    (400, {"error": {"code": 100, "error_subcode": 33, "message": "no such object"}}),
    (404, {"error": {"code": 100, "message": "gone"}}),
    (404, {"meta": {"http_code": 404, "developer_message": "media not found", "success": False}}),
])  # fmt: skip
def test_a_file_that_the_provider_lost_is_abandoned_at_once_and_stays_listed(stage, refusal):
    message = stage.receive(stage.add_bot(), "990")
    stage.provider.refusals["990"] = refusal
    stage.work()
    attempts, error, due = stage.waiting(message)
    assert (attempts, due) == (1, None)
    assert error


@pytest.mark.parametrize("refusal", [
    (401, {"error": {"code": 190, "message": "the token has expired"}}),
    (400, {"error": {"code": 4, "message": "too many calls"}}),
    (500, {"error": {"code": 131000, "message": "something went wrong"}}),
    (502, "a gateway's page"),
    (404, "a page of the host that has this address now"),
    (200, {"no": "url"}),
    (200, ["no object"]),
    (302, {}),
])  # fmt: skip
def test_failures_that_may_be_temporary_are_retried(stage, refusal):
    message = stage.receive(stage.add_bot(), "990")
    stage.provider.refusals["990"] = refusal
    stage.work()
    assert stage.waiting(message)[2] is not None
    stage.provider.refusals.clear()
    stage.let_pass(LONG)
    stage.work()
    assert stage.kept(message)[0] == JPEG


def test_a_file_that_is_not_found_three_times_is_abandoned(stage):
    message = stage.receive(stage.add_bot(), "990")
    stage.provider.broken["990"] = 404
    for _ in range(2):
        stage.work()
        assert stage.waiting(message)[2] is not None
        stage.let_pass(LONG)
    stage.work()
    assert stage.waiting(message)[2] is None


def test_a_file_that_is_too_large_is_abandoned_with_or_without_an_announced_size(stage):
    bot, large = stage.add_bot(), JPEG + bytes(1 << 20)
    told, untold = stage.receive(bot, "told", large), stage.receive(bot, "untold", large)
    stage.provider.told["untold"] = {"file_size": None}
    stage.work()
    for message in (told, untold):
        assert stage.waiting(message)[2] is None
        assert "bytes" in stage.waiting(message)[1]
    assert stage.provider.served["told"] == 0


def test_no_credential_goes_to_another_server(stage):
    other = FileServer()
    try:
        bot, dialog = stage.add_bot(), stage.add_bot("360dialog", 1)
        stage.provider.elsewhere["direct"] = stage.provider.elsewhere["key"] = other.offer("direct", JPEG)
        stage.provider.elsewhere["way redirected"] = other.offer("redirected", JPEG)
        stage.provider.broken["way"] = 302
        messages = [stage.receive(bot, "direct"), stage.receive(bot, "way"), stage.receive(dialog, "key")]
        stage.work()
        assert [stage.kept(message)[0] for message in messages] == [JPEG] * 3
        seen = json.dumps(other.headers)
        assert set(other.headers) == {"direct", "redirected"}
        assert TOKEN not in seen
        assert KEY not in seen
    finally:
        other.close()


def test_an_address_within_our_own_network_is_not_fetched(stage):
    inner = FileServer("127.0.0.2")
    try:
        message = stage.receive(stage.add_bot(), "990")
        stage.provider.elsewhere["990"] = inner.offer("secret", JPEG)
        stage.work()
        assert stage.kept(message)[0] is None
        assert "not a public address" in stage.waiting(message)[1]
        assert not inner.asked
    finally:
        inner.close()


def test_neither_credentials_nor_addresses_are_shown(stage):
    bot = stage.add_bot()
    stage.provider.broken |= {"1": 500, "2": 404}
    stage.provider.refusals["3"] = (401, {"error": {"code": 190, "message": f"Malformed access token {TOKEN}"}})
    messages = [stage.receive(bot, name) for name in "123"]
    with capture_logs() as logs:
        stage.work()
    shown = json.dumps([logs, [stage.waiting(message)[1] for message in messages]])
    assert len(logs) == 3
    assert TOKEN not in shown
    assert "secret-of-the-address" not in shown


def test_a_bot_whose_credential_cannot_be_read_waits_and_a_removed_one_is_given_up(stage):
    message = stage.receive(stage.add_bot(), "990")
    (bot,), known = stage.bots, dict(stage.bots)
    stage.bots[bot] = EncryptionError("ENCRYPTION_KEY is another")
    stage.work()
    assert stage.waiting(message)[1:2] == ("ENCRYPTION_KEY is another",)
    stage.bots.update(known)
    stage.let_pass(LONG)
    stage.work()
    assert stage.kept(message)[0] == JPEG
    stage.bots.clear()
    orphan = stage.receive(bot, "991")
    stage.work()
    assert stage.waiting(orphan)[2] is None


def test_a_file_is_kept_pending_while_the_store_is_unavailable(database, tmp_path, provider):
    (tmp_path / "file").write_text("no folder")
    with contextlib.closing(Stage(database, tmp_path, provider, MEDIA_STORE="file/below")) as stage:
        message = stage.receive(stage.add_bot(), "990")
        stage.work()
        assert stage.waiting(message)[2] is not None
        (tmp_path / "file").unlink()
        stage.let_pass(LONG)
        stage.work()
        assert stage.kept(message)[0] == JPEG


def test_a_slow_number_leaves_room_for_the_others(stage):
    slow, quick = stage.add_bot(), stage.add_bot(index=1)
    names = [f"slow-{number}" for number in range(6)]
    stage.provider.held |= {name: threading.Event() for name in names}
    held = [stage.receive(slow, name) for name in names]
    done = [stage.receive(quick, f"quick-{number}") for number in range(6)]
    patience = Patience(60)
    while any(stage.waiting(message) for message in done):
        assert stage.downloads.work(stage.connection)
        assert not patience.is_over()
    assert all(stage.waiting(message) for message in held)
    for event in stage.provider.held.values():
        event.set()
    stage.work()
    assert not any(stage.waiting(message) for message in held)
    assert stage.provider.most["s"] <= MAX_DOWNLOADS_PER_BOT
    assert stage.provider.most["q"] <= MAX_DOWNLOADS_PER_BOT <= MAX_DOWNLOADS


def test_several_processes_fetch_each_file_once(stage):
    bots = [stage.add_bot(index=index) for index in range(3)]
    messages = [stage.receive(bots[number % 3], f"f{number}") for number in range(24)]
    workers = [stage.another() for _ in range(3)]

    def work(worker):
        with stage.database.connection() as connection:
            while worker.work(connection):
                pass

    threads = [threading.Thread(target=work, args=(worker,)) for worker in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not any(stage.waiting(message) for message in messages)
    assert set(stage.provider.served.values()) == {1}
    assert len(stage.provider.served) == 24


def test_a_download_of_a_killed_process_is_claimed_again_after_its_lease(stage):
    message = stage.receive(stage.add_bot(), "990")
    assert downloads.claim(stage.connection, []) is not None  # and the claiming process is gone
    stage.work()
    assert stage.provider.asked == {}
    stage.let_pass(pending.LEASE_SECONDS)
    stage.work()
    assert stage.kept(message)[0] == JPEG


def test_360dialog_is_never_asked_often_enough_to_block_the_number(stage, monkeypatch):
    monkeypatch.setattr(pending, "BACKOFF", replace(pending.BACKOFF, first_seconds=2))
    bot = stage.add_bot("360dialog")
    messages = [stage.receive(bot, f"f{number}") for number in range(12)]
    stage.provider.broken |= {f"f{number}": 503 for number in range(12)}
    workers, counts = [stage.downloads, stage.another()], []
    for _ in range(24):  # two hours, five minutes at a time
        for worker in workers:
            stage.work(worker)
        counts.append(stage.provider.served.total())
        stage.let_pass(300)
    assert max(later - earlier for earlier, later in zip([0, *counts], counts[11:], strict=False)) <= 20
    assert counts[-1] > 20  # downloads continue nevertheless
    stage.provider.broken.clear()
    for _ in range(12):
        stage.let_pass(3600)
        stage.work()
    assert [stage.kept(message)[0] for message in messages] == [JPEG] * 12


def test_files_of_360dialog_that_succeed_are_not_held_back(stage):
    bot = stage.add_bot("360dialog")
    messages = [stage.receive(bot, f"f{number}") for number in range(10)]
    stage.work()
    assert not any(stage.waiting(message) for message in messages)


@pytest.mark.parametrize("kind", ["meta_direct", "360dialog"])
def test_the_simulator_s_files_come_the_same_way(database, tmp_path, provider, kind):
    (tmp_path / "sandbox").mkdir()
    sandbox = Sandbox(tmp_path / "sandbox", free_port(), free_port())
    try:
        sandbox.say({"file": ("cat.jpg", JPEG, "image/jpeg")}, **{"from": "60123456789"}, to="1055")
        port = {"SANDBOX": "true", "SANDBOX_PORT": str(sandbox.port), "ALLOWED_NETWORKS": ""}
        with contextlib.closing(Stage(database, tmp_path, provider, **port)) as stage:
            message = stage.receive(stage.add_bot(kind), sandbox.inbound()[0]["media"], None)
            stage.work()
            assert stage.kept(message)[0] == JPEG
    finally:
        sandbox.end()


def test_waits_grow_to_an_hour(monkeypatch):
    monkeypatch.setattr(pending, "BACKOFF", replace(pending.BACKOFF, first_seconds=2))
    assert [pending.BACKOFF.pause(attempt) for attempt in range(1, 9)] == [2, 8, 32, 128, 512, 2048, 3600, 3600]
    assert pending.BACKOFF.pause(32_000) == 3600


@given(st.binary(min_size=32, max_size=32))
def test_a_digest_is_read_in_both_its_forms(digest):
    assert digest_of(digest.hex()) == digest
    assert digest_of(digest.hex().upper()) == digest
    assert digest_of(base64.b64encode(digest).decode()) == digest


@given(st.text())
def test_an_invalid_digest_is_none(text):
    found = digest_of(text)
    assert found is None or len(found) == 32
