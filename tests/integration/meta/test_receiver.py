"""Meta's webhooks, from the wire into the database."""

import contextlib
import json

import psycopg2
import pytest

from bisnesctl import encryption
from bisnesctl.bots import provider_queries
from services.connectors.meta.receiver import MAX_BODY, PATH, SECRET_HEADER, SIGNATURE_HEADER, Receiver, sign
from services.database.connection import Database
from services.legacy import add_webhooks
from tests.support.api import api, settings_for

NOWHERE = "postgresql://bisnes@127.0.0.1:1/bisnes"
SECRET, TOKEN = "app-secret", "verify-me"
#: Meta escapes what it likes, so the bytes are what counts.
BODY = b'{"object":"whatsapp_business_account",  "entry":[],"text":"Gr\\u00fc\\u00dfe \xf0\x9f\x91\x8b"}'


class Hints:
    """Remembers who was woken, and what was committed by then."""

    def __init__(self, dsn):
        self.dsn, self.told = dsn, []

    def notify(self, queue_name):
        self.told.append((queue_name, len(stored(self.dsn))))


def stored(dsn):
    with contextlib.closing(psycopg2.connect(dsn)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT process_name, body FROM webhook_inbox ORDER BY id")
        return [(process, bytes(body)) for process, body in cursor.fetchall()]


def receiver_settings(dsn, folder, **more):
    return settings_for(dsn, folder, **{"META_APP_SECRET": SECRET, "META_VERIFY_TOKEN": TOKEN} | more)


@contextlib.contextmanager
def receiver(dsn, folder, hints=None, **more):
    settings = receiver_settings(dsn, folder, **more)
    pool = Database(dsn)
    try:
        yield Receiver(settings, pool, hints or Hints(dsn)).test_client()
    finally:
        pool.close()


@pytest.fixture
def client(database, tmp_path):
    with receiver(database, tmp_path) as client:
        yield client


def post(client, body=BODY, signature=None):
    return client.post(
        PATH, data=body, headers={SIGNATURE_HEADER: sign(SECRET, body) if signature is None else signature}
    )


def refusal(answer):
    body = answer.get_json()
    assert body["success"] is False
    assert body["error"]
    return answer.status_code, body["code"]


def test_a_signed_webhook_is_stored_as_it_came_before_anybody_is_woken(database, tmp_path):
    hints = Hints(database)
    with receiver(database, tmp_path, hints) as client:
        assert post(client).status_code == 200
    assert stored(database) == [("meta", BODY)]
    assert hints.told == [("meta-webhooks", 1)]


def test_a_repeated_webhook_is_stored_again_and_answered_alike(client, database):
    assert [post(client).status_code for _ in range(2)] == [200, 200]
    assert len(stored(database)) == 2


@pytest.mark.parametrize(
    "signature", ["", "sha256=", "sha256=00", "sha1=abc", sign("another", BODY), sign(SECRET, b"{}")]
)
def test_a_webhook_without_the_right_signature_leaves_no_trace(client, database, signature):
    assert refusal(post(client, signature=signature)) == (401, "invalid_signature")
    assert stored(database) == []


def test_a_missing_signature_is_refused(client):
    assert refusal(client.post(PATH, data=BODY)) == (401, "invalid_signature")


def test_a_body_of_three_megabytes_passes_and_a_larger_one_does_not(client, database):
    assert post(client, b"x" * MAX_BODY).status_code == 200
    assert refusal(post(client, b"x" * (MAX_BODY + 1))) == (413, "too_large")
    assert len(stored(database)) == 1


def test_without_an_app_secret_every_webhook_is_refused(database, tmp_path):
    with receiver(database, tmp_path, META_APP_SECRET="") as client:
        assert refusal(post(client, signature=sign("", BODY))) == (401, "invalid_signature")


@pytest.fixture
def number(database, tmp_path):
    """A 360dialog number of company 0128: its id, and the secret that it was given when it was linked."""
    with contextlib.closing(psycopg2.connect(database)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO phone_configs (company_id, phone_index, connection_type) VALUES ('0128', 1, '360dialog')"
            " RETURNING id"
        )
        [(bot_id,)] = cursor.fetchall()
    return bot_id, provider_queries.derived_dialog360_secrets(receiver_settings(database, tmp_path), "0128", 1)[0]


def post_360dialog(client, secret, address="0128/1", body=BODY, **headers):
    return client.post(f"/api/360dialog/webhook/{address}", data=body, headers={SECRET_HEADER: secret} | headers)


def test_a_webhook_of_360dialog_with_its_numbers_secret_is_stored_for_that_bot(client, database, number):
    bot_id, secret = number
    assert post_360dialog(client, secret).status_code == 200
    assert post(client).status_code == 200
    assert stored(database) == [("meta", BODY), ("meta", BODY)]
    with contextlib.closing(psycopg2.connect(database)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT bot_id FROM webhook_inbox ORDER BY id")
        assert cursor.fetchall() == [(bot_id,), (None,)]
    assert client.application.counters.processed == 2


@pytest.mark.parametrize("address", ["0128/0", "0129/1", "01/28/1", "0128%00/1"])
def test_a_secret_opens_its_own_address_alone(client, database, number, address):
    assert refusal(post_360dialog(client, number[1], address)) == (401, "invalid_secret")
    assert stored(database) == []


@pytest.mark.parametrize("secret", ["", "sécret", "0" * 64])
def test_a_webhook_of_360dialog_without_the_secret_leaves_no_trace(client, database, number, secret):
    assert refusal(post_360dialog(client, secret)) == (401, "invalid_secret")
    signed = {SIGNATURE_HEADER: sign(SECRET, BODY)}
    assert refusal(post_360dialog(client, secret, **signed)) == (401, "invalid_secret")
    assert stored(database) == []


def test_without_an_encryption_key_every_secret_is_refused(database, tmp_path, number):
    with receiver(database, tmp_path, ENCRYPTION_KEY="") as client:
        for secret in (encryption.derived("", "360dialog webhook", "0128", "1"), ""):
            assert refusal(post_360dialog(client, secret)) == (401, "invalid_secret")


def test_a_webhook_for_a_number_that_was_removed_is_not_stored(client, database, tmp_path):
    secret = provider_queries.derived_dialog360_secrets(receiver_settings(database, tmp_path), "0128", 9)[0]
    assert refusal(post_360dialog(client, secret, "0128/9")) == (404, "unknown_bot")
    assert stored(database) == []


def test_360dialog_asks_for_no_handshake(client):
    assert refusal(client.get("/api/360dialog/webhook/0128/1")) == (405, "method_not_allowed")


def test_the_single_process_takes_the_same_webhooks_without_a_key(database, tmp_path, number):
    with api(receiver_settings(database, tmp_path)) as (context, client):
        add_webhooks(context, client.application)
        assert post(client, b"x" * (2 << 20)).status_code == 200
        assert post_360dialog(client, number[1]).status_code == 200
        assert refusal(post(client, signature="sha256=00")) == (401, "invalid_signature")
        assert refusal(post_360dialog(client, "no")) == (401, "invalid_secret")
        assert handshake(client, mode="subscribe", verify_token=TOKEN, challenge="1").status_code == 200
    assert len(stored(database)) == 2


def handshake(client, **asked):
    return client.get(PATH, query_string={f"hub.{name}": value for name, value in asked.items()})


def test_the_handshake_gives_the_challenge_back_as_it_came(client):
    answer = handshake(client, mode="subscribe", verify_token=TOKEN, challenge="<b>1158201444</b>")
    assert (answer.status_code, answer.data, answer.mimetype) == (200, b"<b>1158201444</b>", "text/plain")


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"mode": "subscribe", "challenge": "1"},
        {"mode": "subscribe", "verify_token": "vérify-me", "challenge": "1"},
        {"mode": "unsubscribe", "verify_token": TOKEN, "challenge": "1"},
    ],
)
def test_a_handshake_without_the_token_is_refused(client, asked):
    assert refusal(handshake(client, **asked)) == (403, "wrong_verify_token")


def test_without_a_verify_token_no_handshake_succeeds(database, tmp_path):
    with receiver(database, tmp_path, META_VERIFY_TOKEN="") as client:
        assert handshake(client, mode="subscribe", verify_token="", challenge="1").status_code == 403


def test_meta_gets_a_503_while_the_database_is_unavailable(tmp_path):
    with receiver(NOWHERE, tmp_path) as client:
        answer = post(client)
        assert refusal(answer) == (503, "database_unavailable")
        assert int(answer.headers["Retry-After"]) > 0
        assert client.get("/health/ready").status_code == 503
        assert client.get("/health/live").status_code == 200


def test_health_needs_no_key_and_says_ready_with_the_database(client):
    assert client.get("/health/live").get_json()["status"] == "ok"
    assert client.get("/health/ready").get_json()["status"] == "ready"


@pytest.mark.parametrize("address", ["/health", "/api/health"])
def test_the_old_addresses_of_health_answer(client, address):
    answer = client.get(address)
    assert (answer.status_code, answer.get_json()["process"], answer.get_json()["success"]) == (200, "meta", True)


def test_all_processes_and_figures_are_shown_as_the_api_shows_them(client):
    names = [each["processName"] for each in client.get("/health/all").get_json()["processes"]]
    assert names == ["api", "meta", "wwebjs"]
    assert client.get("/metrics/meta").get_json()["messagesProcessed"] == 0
    assert refusal(client.get("/metrics/nothing")) == (404, "not_found")


def test_other_addresses_and_methods_are_refused_in_the_one_form(client):
    assert refusal(client.get("/")) == (404, "not_found")
    assert refusal(client.delete(PATH)) == (405, "method_not_allowed")


def test_the_heartbeat_counts_received_webhooks(client):
    post(client)
    post(client, signature="no")
    assert client.application.counters.processed == 1
    assert json.loads(client.get("/health/live").data)["success"] is True
