"""WhatsApp Web sessions over HTTP. The session itself is its row in the database, and a thread that answers it."""

import contextlib
import threading

import pytest

from bisnesctl.bots import qr_codes, web_sessions
from services.api.schemas.sessions import OneSession, PairingCode, QrCode, SessionList
from tests.support.api import COMPANY, KEY, OPERATOR_KEY, OTHER_KEY, REVOKED_KEY, refusal
from tests.support.outbox import execute

PHONE = 4
HERE = f"/api/sessions/{COMPANY}/{PHONE}"
CODE = "2@" + "qr/+" * 55 + ",noise,identity,adv,1"


@pytest.fixture
def bot(connection):
    """The id of a WhatsApp Web number that nobody has started."""
    ((bot,),) = execute(
        connection,
        "INSERT INTO phone_configs (company_id, phone_index, connection_type) VALUES (%s, %s, 'wwebjs') RETURNING id",
        (COMPANY, PHONE),
    )
    execute(connection, "INSERT INTO wa_session (bot_id) VALUES (%s)", (bot,))
    return bot


@pytest.fixture
def become(connection, bot):
    """Changes the session's row, as the session would."""

    def change(**columns):
        setting = ", ".join(f"{name} = %s" for name in columns)
        execute(connection, f"UPDATE wa_session SET {setting} WHERE bot_id = %s", (*columns.values(), bot))

    return change


@pytest.fixture
def scanning(become):
    """It shows a QR code."""
    become(state="SCAN_QR_CODE", qr=CODE, qr_expires_at="infinity")


def get(client, path=HERE, key=KEY, **headers):
    return client.get(path, headers={"X-Api-Key": key} | headers)


def post(client, what, key=KEY, **body):
    return client.post(f"{HERE}/{what}", json=body or None, headers={"X-Api-Key": key})


def stored(connection, bot):
    return execute(connection, "SELECT wanted, started_at FROM wa_session WHERE bot_id = %s", (bot,))[0]


def commands(connection, bot):
    return [
        name for (name,) in execute(connection, "SELECT command FROM wa_command WHERE bot_id = %s ORDER BY id", (bot,))
    ]


@contextlib.contextmanager
def answering(context, answer=None, error=None):
    """A session that does the next command, or cannot."""

    def do():
        with context.database.connection() as connection, connection.cursor() as cursor:
            done = "UPDATE wa_command SET done_at = now(), answer = %s, error = %s RETURNING arguments"
            while not stopped.is_set():
                cursor.execute(done, (answer, error))
                told.extend(arguments for (arguments,) in cursor.fetchall())
                if told:
                    return
                stopped.wait(0.02)

    told, stopped = [], threading.Event()
    thread = threading.Thread(target=do)
    thread.start()
    try:
        yield told
    finally:
        stopped.set()
        thread.join()


def test_a_session_shows_how_it_is(client, become):
    found = get(client).json
    OneSession.model_validate(found, extra="forbid")
    assert (found["session"]["status"], found["session"]["name"]) == ("STOPPED", f"{COMPANY}-{PHONE}")
    become(state="WORKING", own_number="60123456789", beat_at="now", memory_mb=412.5, versions='{"waJs": "4.6.1"}')
    found = get(client).json["session"]
    assert (found["status"], found["number"], found["memoryMb"]) == ("WORKING", "60123456789", 412.5)
    assert found["reason"] is None


def test_a_session_that_says_nothing_any_more_shows_that(client, become):
    become(state="WORKING", beat_at="2020-01-01T00:00Z")
    assert "no heartbeat" in get(client).json["session"]["reason"]


def test_a_company_sees_its_own_sessions_alone(client, bot):
    assert refusal(get(client, key=OTHER_KEY)) == (403, "foreign_company")
    assert refusal(get(client, key=REVOKED_KEY)) == (401, "invalid_key")
    assert refusal(client.get(HERE)) == (401, "no_key")
    assert refusal(get(client, f"/api/sessions?company={COMPANY}", OTHER_KEY)) == (403, "foreign_company")
    for what in ("start", "stop", "restart", "logout", "pairing-code"):
        assert refusal(post(client, what, OTHER_KEY)) == (403, "foreign_company")
    assert refusal(get(client, f"{HERE}/qr", OTHER_KEY)) == (403, "foreign_company")

    def listed(key, query=""):
        found = get(client, f"/api/sessions{query}", key).json
        SessionList.model_validate(found, extra="forbid")
        return [each["name"] for each in found["sessions"]]

    assert listed(KEY) == listed(OPERATOR_KEY) == listed(OPERATOR_KEY, f"?company={COMPANY}") == [f"{COMPANY}-{PHONE}"]
    assert listed(OTHER_KEY) == []


def test_only_whatsapp_web_numbers_have_sessions(client, bot):
    assert refusal(get(client, f"/api/sessions/{COMPANY}/0")) == (409, "unsupported_by_channel")
    assert refusal(get(client, f"/api/sessions/{COMPANY}/9")) == (404, "unknown_bot")
    assert refusal(get(client, f"/api/sessions/{COMPANY}/x")) == (400, "invalid_request")


def test_start_and_stop_say_what_is_wanted(client, connection, bot, become):
    become(started_at="now")
    assert post(client, "stop").status_code == 202
    assert stored(connection, bot)[0] is False
    answer = post(client, "start")
    assert answer.status_code == 202
    OneSession.model_validate(answer.json, extra="forbid")
    assert stored(connection, bot) == (True, None), "it is to be started again"


def test_a_running_session_is_not_started_again(client, connection, bot, become):
    become(state="WORKING", started_at="now")
    assert post(client, "start").status_code == 202
    wanted, started_at = stored(connection, bot)
    assert wanted
    assert started_at is not None


def test_a_blocked_session_is_not_started(client, connection, bot):
    execute(
        connection,
        "INSERT INTO wa_block (bot_id, kind, reason, until) VALUES (%s, 'logged_out', 'logged out', 'infinity')",
        (bot,),
    )
    for what in ("start", "restart"):
        answer = post(client, what)
        assert refusal(answer) == (409, "blocked")
        assert "bots unblock" in answer.json["error"]
    found = get(client).json
    OneSession.model_validate(found, extra="forbid")
    assert (found["session"]["block"]["kind"], found["session"]["block"]["until"]) == ("logged_out", None)
    execute(connection, "UPDATE wa_block SET until = now() - interval '1 second'")
    assert post(client, "start").status_code == 202


def test_only_a_running_session_accepts_commands(client, connection, bot, become):
    assert refusal(post(client, "logout")) == (409, "not_running")
    assert post(client, "restart").status_code == 202, "it is started"
    assert commands(connection, bot) == []
    become(state="WORKING")
    assert post(client, "restart").status_code == post(client, "logout").status_code == 202
    assert commands(connection, bot) == ["restart", "logout"]


def test_the_qr_code_comes_in_every_form(client, scanning):
    shown = {
        "svg": ("image/svg+xml", qr_codes.svg(CODE)),
        "png": ("image/png", qr_codes.png(CODE)),
        "text": ("text/plain", f"{qr_codes.drawn(CODE)}\n".encode()),
    }
    for name, (kind, content) in shown.items():
        for answer in (get(client, f"{HERE}/qr?format={name}"), get(client, f"{HERE}/qr", Accept=kind)):
            assert (answer.status_code, answer.mimetype, answer.data) == (200, kind, content)
            assert answer.headers["Cache-Control"] == "no-store"
    assert max(map(len, qr_codes.drawn(CODE).splitlines())) < 80
    answer = get(client, f"{HERE}/qr")
    QrCode.model_validate(answer.json, extra="forbid")
    assert answer.json["qr"] == CODE
    assert answer.headers["Cache-Control"] == "no-store"
    assert refusal(get(client, f"{HERE}/qr?format=gif")) == (400, "invalid_request")


def test_a_qr_code_is_in_no_other_answer_and_no_repr(client, connection, scanning):
    for path in (HERE, "/api/sessions", f"/api/sessions?company={COMPANY}"):
        assert CODE not in get(client, path).get_data(as_text=True)
    found = web_sessions.find_one(connection, COMPANY, PHONE)
    assert found.qr is not None
    assert found.qr.text == CODE
    assert CODE not in repr(found) + repr(found.qr)


@pytest.mark.parametrize("state", ["STOPPED", "STARTING", "SCAN_QR_CODE", "WORKING", "FAILED"])
def test_without_a_qr_code_the_answer_says_how_the_session_is(client, become, state):
    become(state=state, reason="because", qr=CODE, qr_expires_at="2020-01-01T00:00Z")
    answer = get(client, f"{HERE}/qr")
    assert refusal(answer) == (409, "not_scanning")
    assert (answer.json["status"], answer.json["reason"]) == (state, "because")
    assert answer.headers["Cache-Control"] == "no-store"
    assert CODE not in answer.text + get(client).text


def test_a_pairing_code_is_asked_of_the_session(client, context, scanning):
    with answering(context, '{"code": "ABCD-EFGH", "expiresAt": "2030-01-01T00:00:00+00:00"}') as told:
        answer = post(client, "pairing-code", phoneNumber="+60123456789")
    PairingCode.model_validate(answer.json, extra="forbid")
    assert (answer.status_code, answer.json["code"]) == (200, "ABCD-EFGH")
    assert answer.headers["Cache-Control"] == "no-store"
    assert told == [{"phoneNumber": "60123456789"}]


def test_a_pairing_code_that_is_not_to_be_had(client, context, become, scanning, monkeypatch):
    assert refusal(post(client, "pairing-code", phoneNumber="none")) == (400, "invalid_request")
    with answering(context, error="too many attempts"):
        answer = post(client, "pairing-code", phoneNumber="60123456789")
    assert refusal(answer) == (502, "session_failed")
    assert "too many attempts" in answer.json["error"]
    monkeypatch.setattr("services.api.routes.sessions.PAIRING_TIMEOUT_SECONDS", 0.0)
    assert refusal(post(client, "pairing-code", phoneNumber="60123456789")) == (503, "session_silent")
    become(state="WORKING")
    assert refusal(post(client, "pairing-code", phoneNumber="60123456789")) == (409, "not_scanning")
