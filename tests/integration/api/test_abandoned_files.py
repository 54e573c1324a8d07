"""Files whose process died before it accepted their message are removed, and no other file is."""

import contextlib
import io
from pathlib import Path

import pytest
from psycopg2.extras import Json
from uuid_utils import uuid7

from bisnesctl.paths import shipped_folder
from bisnesctl.retention.run import run
from services import retention
from services.database.connection import Database
from services.media.base import MediaUnavailable
from tests.support.api import CHAT, COMPANY, KEY, OTHER, add_company, api, refusal, settings_for
from tests.support.file_beginnings import PDF
from tests.support.outbox import execute

MIME = "application/pdf"


@pytest.fixture
def settings(database, tmp_path):
    add_company(database)
    return settings_for(database, tmp_path)


@pytest.fixture
def connection(settings):
    with contextlib.closing(Database(settings.database_dsn).connect()) as opened:
        yield opened


@pytest.fixture
def server(settings):
    """The context and a client of the API."""
    with api(settings) as served:
        yield served


def die_after_storing(server, content):
    """Leave the traces of a process that dies between storing a file and accepting its message."""
    server[0].media.put(COMPANY, io.BytesIO(content), MIME, 1 << 20, message_id=str(uuid7()))


def upload(server, content, key=None):
    return server[1].post(
        f"/api/v2/messages/document/{COMPANY}/{CHAT}", data={"file": (io.BytesIO(content), "a.pdf")},
        headers={"X-Api-Key": KEY} | ({"Idempotency-Key": key} if key else {}),
    )  # fmt: skip


def let_a_day_pass(connection):
    execute(connection, "UPDATE media_upload SET since = since - interval '25 hours'")


def clean(connection, settings):
    """The number of files that a clean-up removed."""
    outcome = run(connection, settings, lambda: retention.remove_files(settings, connection))
    assert outcome.failed == {}
    return outcome.deleted.get("files", 0)


def files(settings):
    return {each.read_bytes() for each in Path(settings.media_dir).rglob("*.pdf")}


def test_the_file_of_a_process_that_died_is_removed_after_a_day(connection, server, settings):
    die_after_storing(server, PDF)
    assert clean(connection, settings) == 0, "its message may be accepted at this moment"
    assert files(settings) == {PDF}
    let_a_day_pass(connection)
    assert clean(connection, settings) == 1
    assert files(settings) == set()
    assert execute(connection, "SELECT (SELECT count(*) FROM media_file), (SELECT count(*) FROM media_upload)") == [
        (0, 0)
    ]
    assert clean(connection, settings) == 0


def test_the_file_of_an_accepted_message_stays(connection, server, settings):
    message = upload(server, PDF).get_json()["messageId"]
    assert execute(connection, "SELECT message_id::text FROM media_upload") == [(message,)]
    let_a_day_pass(connection)
    assert clean(connection, settings) == 0
    assert files(settings) == {PDF}
    assert execute(connection, "SELECT * FROM media_upload") == []
    assert execute(connection, "SELECT uses FROM media_file") == [(1,)]


@pytest.mark.parametrize("first", [True, False])
def test_a_file_that_another_message_has_or_gets_stays(connection, server, settings, first):
    if first:
        assert upload(server, PDF).status_code == 202
    die_after_storing(server, PDF)
    let_a_day_pass(connection)
    if not first:
        assert upload(server, PDF).status_code == 202  # at the moment of the clean-up
    assert clean(connection, settings) == 0
    assert files(settings) == {PDF}
    assert execute(connection, "SELECT uses FROM media_file") == [(1,)]


def test_the_file_of_a_refused_message_leaves_no_row(connection, server, settings):
    accepted = upload(server, PDF, "order-1").get_json()["messageId"]
    assert refusal(upload(server, PDF + b"other", "order-1")) == (409, "idempotency_conflict")
    assert upload(server, PDF, "order-1").status_code == 202
    assert execute(connection, "SELECT message_id::text FROM media_upload") == [(accepted,)]
    assert files(settings) == {PDF}


def test_a_store_that_is_unavailable_delays_the_removal(connection, server, settings, monkeypatch):
    def unavailable(_):
        raise MediaUnavailable("not mounted")

    die_after_storing(server, PDF)
    let_a_day_pass(connection)
    with monkeypatch.context() as patched:
        patched.setattr(retention, "open_media_store", unavailable)
        outcome = run(connection, settings, lambda: retention.remove_files(settings, connection))
    assert outcome.failed == {"files": "not mounted"}
    assert files(settings) == {PDF}
    assert clean(connection, settings) == 1


def test_another_store_than_that_of_the_database_is_left_alone(connection, server, settings, tmp_path):
    die_after_storing(server, PDF)
    let_a_day_pass(connection)
    other = settings.copy_with(media_store=str(tmp_path / "elsewhere"))
    execute(connection, "INSERT INTO media_store (id, place) VALUES ('mine', 'here')")
    outcome = run(connection, other, lambda: retention.remove_files(other, connection))
    assert "is not the store of this database" in outcome.failed["files"]
    assert execute(connection, "SELECT count(*) FROM media_upload") == [(1,)]


def finish(connection, status, days=100):
    """All messages ended so, and that long ago."""
    execute(connection, "UPDATE outbox SET status = %s, accepted_at = now() - %s * interval '1 day',"
        " updated_at = now() - %s * interval '1 day'", (status, days, days))  # fmt: skip


def age_ids(connection):
    """The ids of messages are as old as the messages."""
    execute(connection, "UPDATE outbox SET message_id = ('01000000' || substr(message_id::text, 9))::uuid")


def test_the_file_of_a_message_goes_with_it(connection, server, settings):
    upload(server, PDF)
    finish(connection, "failed")
    let_a_day_pass(connection)
    assert clean(connection, settings) == 0, "its id says that it is new"
    age_ids(connection)
    assert clean(connection, settings) == 1
    assert execute(connection, "SELECT count(*) FROM outbox") == [(0,)]
    assert files(settings) == set()
    assert execute(connection, "SELECT count(*) FROM media_file") == [(0,)]


def test_the_files_of_a_run_without_a_store_are_left_to_the_process_that_has_one(connection, server, settings):
    upload(server, PDF)
    assert not run(connection, settings).unfinished
    finish(connection, "failed")
    age_ids(connection)
    assert run(connection, settings).unfinished
    assert files(settings) == {PDF}
    assert clean(connection, settings) == 1
    assert not run(connection, settings).unfinished


def test_the_file_of_a_message_in_the_history_stays(connection, server, settings):
    upload(server, PDF)
    finish(connection, "sent")
    age_ids(connection)
    execute(connection, "INSERT INTO messages (id, message_id, company_id, contact_id, media_metadata)"
        " SELECT message_id, message_id::text, company_id, 'c', payload -> 'media' FROM outbox")  # fmt: skip
    assert clean(connection, settings) == 0
    assert execute(connection, "SELECT count(*) FROM outbox") == [(0,)]
    assert files(settings) == {PDF}
    assert execute(connection, "SELECT uses FROM media_file") == [(1,)]


def test_a_file_that_another_message_has_survives_the_first(connection, server, settings):
    first, second = upload(server, PDF).get_json()["messageId"], upload(server, PDF).get_json()["messageId"]
    assert execute(connection, "SELECT uses FROM media_file") == [(2,)]
    finish(connection, "failed")
    execute(connection, "UPDATE outbox SET updated_at = now() WHERE message_id = %s", (second,))
    age_ids(connection)
    assert clean(connection, settings) == 0
    assert files(settings) == {PDF}
    assert execute(connection, "SELECT uses FROM media_file") == [(1,)]
    assert first != second


def test_files_from_before_the_quotas_count(connection):
    def key(company, n):
        return f"{company}/2025-01/{n:064x}.pdf"

    def payload(n, size):
        return Json({"media": {"key": key(COMPANY, n), "size": size}})

    ((bot,),) = execute(
        connection, "SELECT id FROM phone_configs WHERE company_id = %s AND phone_index = 0", (COMPANY,)
    )
    one = str(uuid7())
    sent = "INSERT INTO outbox (bot_id, chat_id, message_id, company_id, phone_index, kind, payload)"
    for message, content in ((one, payload(1, 100)), (str(uuid7()), payload(1, 100)), (str(uuid7()), payload(2, 70))):
        execute(connection, f"{sent} VALUES (%s, '6011', %s, %s, 0, 'document', %s)", (bot, message, COMPANY, content))
    history = "INSERT INTO messages (id, message_id, company_id, contact_id, media_metadata)"
    metadata = {
        one: (COMPANY, {"key": key(COMPANY, 1), "size": 100}),
        str(uuid7()): (OTHER, {"key": key(OTHER, 3), "size": 5}),
        str(uuid7()): (OTHER, {"key": key(OTHER, 4)}),
        str(uuid7()): (OTHER, {"key": "the former server's own", "size": 9}),
        str(uuid7()): (OTHER, {"size": 9}),
    }
    for message, (company, content) in metadata.items():
        execute(connection, f"{history} VALUES (%s, %s, %s, 'c', %s)", (message, message, company, Json(content)))
    counted = "INSERT INTO media_file (key, company_id, bytes, uses) VALUES (%s, %s, 70, 9)"
    execute(connection, counted, (key(COMPANY, 2), COMPANY))  # since there are quotas
    migration = (shipped_folder("sql") / "014_media_uploads.sql").read_text()
    for _ in range(2):
        execute(connection, migration)
        assert execute(connection, "SELECT company_id, key, bytes, uses FROM media_file ORDER BY key") == [
            (COMPANY, key(COMPANY, 1), 100, 2),
            (COMPANY, key(COMPANY, 2), 70, 9),
            (OTHER, key(OTHER, 3), 5, 1),
            (OTHER, key(OTHER, 4), 0, 1),
        ]
