"""`bisnesctl bots` about WhatsApp Web numbers, as it is typed: link one, its blocks and limits, how it is listed."""

import json
import time
from types import SimpleNamespace

import pytest

from bisnesctl.bots import check_records, qr_codes
from bisnesctl.clients import session_linking
from bisnesctl.database import postgres
from bisnesctl.database.api_keys import register
from tests.support.api import serving
from tests.support.outbox import execute

KEY = "bk_operator"
CODES = ["2@" + letter * 220 + ",noise,identity,adv,1" for letter in "AB"]


@pytest.fixture
def settings(environment, database):
    return environment(DATABASE_URL=database, OPERATOR_KEY=KEY)


@pytest.fixture
def connection(settings):
    with postgres.connected(settings.database_dsn) as connection:
        register(connection, KEY, None, "operator")
        yield connection


@pytest.fixture
def bot(tool, connection):
    """The id of a WhatsApp Web number."""
    tool("bots", "add", "--company", "0128", "--phone", "1", "--wwebjs")
    ((bot,),) = execute(connection, "SELECT id FROM phone_configs")
    execute(connection, "INSERT INTO wa_session (bot_id) VALUES (%s) ON CONFLICT DO NOTHING", (bot,))
    return bot


@pytest.fixture
def api(settings, connection, monkeypatch):
    """The API where the tool looks for it, and the heartbeat of a manager of sessions."""
    execute(
        connection,
        "INSERT INTO process_instances (process_name, host, instance, pid, status, started_at, last_heartbeat)"
        " VALUES ('wwebjs', 'here', 'wwebjs', 1, 'healthy', now(), 'infinity')",
    )
    with serving(settings) as url:
        monkeypatch.setattr("bisnesctl.clients.api_client.api_url", lambda *_: url)
        yield url


def block(connection, bot, until="infinity"):
    execute(
        connection,
        "INSERT INTO wa_block (bot_id, kind, reason, until) VALUES (%s, 'logged_out', 'logged out on the phone', %s)",
        (bot, until),
    )


@pytest.fixture
def play(connection, bot, monkeypatch):
    """Has the session take these states one after the other, each while the tool waits for its next look."""

    def become(columns):
        setting = ", ".join(f"{name} = %s" for name in columns)
        values = (*columns.values(), bot)
        execute(
            connection, f"UPDATE wa_session SET {setting}, changed_at = clock_timestamp() WHERE bot_id = %s", values
        )

    def plan(*states):
        become(states[0])
        left = list(states[1:])
        sleep = lambda _: become(left.pop(0)) if left else time.sleep(0.05)  # noqa: E731
        monkeypatch.setattr(session_linking, "time", SimpleNamespace(sleep=sleep, monotonic=time.monotonic))

    return plan


def scan(code):
    return {"state": "SCAN_QR_CODE", "qr": code, "qr_expires_at": "infinity"}


#: Every command is done at once.
ANSWERING = """
CREATE FUNCTION answer_command() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.done_at := now();
    NEW.answer := '{"code": "ABCD-EFGH"}';
    RETURN NEW;
END $$;
CREATE TRIGGER answer_command BEFORE INSERT ON wa_command FOR EACH ROW EXECUTE FUNCTION answer_command()"""
WORKING = {"state": "WORKING", "own_number": "60123456789", "qr": None}


def test_a_web_number_is_added_and_the_next_step_is_said(tool, connection):
    said = tool("bots", "add", "--company", "0128", "--phone", "1", "--wwebjs")
    assert "bisnesctl bots link 0128 1" in said.err
    assert execute(connection, "SELECT connection_type, process_name, status FROM phone_configs") == [
        ("wwebjs", "wwebjs", "pending")
    ]
    words = ("--company", "0128", "--phone", "2", "--wwebjs", "--type", "360dialog")
    assert "contradict" in tool("bots", "add", *words, code=2).err


@pytest.mark.parametrize("width", [80, 200])
def test_each_qr_code_is_drawn_until_a_phone_is_linked(tool, api, connection, bot, play, width):
    play({"state": "STOPPED"}, {"state": "STARTING"}, scan(CODES[0]), scan(CODES[0]), scan(CODES[1]), WORKING)
    said = tool("bots", "link", "0128", "1", width=width)
    for code in CODES:
        assert said.out.count(qr_codes.drawn(code)) == 1
    assert "linked: +60123456789" in said.text
    assert not any(code in said.text for code in CODES)
    assert execute(connection, "SELECT wanted, started_at FROM wa_session") == [(True, None)], "it was to be started"


def test_the_reason_for_a_missing_qr_code_is_printed_once(tool, api, play):
    away = {"state": "STARTING", "reason": "WhatsApp Web cannot be reached: [net]"}
    play({"state": "STOPPED"}, away, away, {"state": "STARTING", "reason": None}, WORKING)
    said = tool("bots", "link", "0128", "1").text
    assert said.count("cannot be reached: [net]") == 1
    assert "linked" in said


def test_without_a_manager_of_sessions_there_is_nothing_to_wait_for(tool, api, connection, play):
    play({"state": "STOPPED"})
    execute(connection, "DELETE FROM process_instances")
    said = tool("bots", "link", "0128", "1", code=6).err
    assert "no process starts the session of bot 1 of company 0128. See `bisnesctl why 0128-1`" in said


def test_a_window_that_is_too_narrow_is_told_what_else_there_is(tool, api, play):
    play(scan(CODES[0]))
    assert "--pairing-code" in tool("bots", "link", "0128", "1", width=50, code=1).text


def test_a_pairing_code_links_as_well(tool, api, connection, play):
    execute(connection, ANSWERING)
    play(scan(CODES[0]), scan(CODES[1]), WORKING)
    said = tool("bots", "link", "0128", "1", "--pairing-code", "+60123456789")
    assert said.out == "ABCD-EFGH\n"
    assert "linked: +60123456789" in said.text
    assert execute(connection, "SELECT command, arguments FROM wa_command") == [
        ("pair", {"phoneNumber": "60123456789"})
    ]
    assert "international form" in tool("bots", "link", "0128", "1", "--pairing-code", "none", code=2).text


def test_a_failed_link_prints_its_reason(tool, api, connection, bot, play):
    assert "no bot with phoneIndex 7" in tool("bots", "link", "0128", "7", code=2).text
    play(
        {"state": "FAILED", "reason": "an old one"}, {"state": "STARTING"}, {"state": "FAILED", "reason": "no Chromium"}
    )
    assert "no Chromium" in tool("bots", "link", "0128", "1", code=1).text
    block(connection, bot)
    assert "bisnesctl bots unblock 0128 1" in tool("bots", "link", "0128", "1", code=6).text


@pytest.mark.parametrize("width", [80, 200])
def test_blocks_are_shown_and_ended(tool, connection, bot, width):
    assert "no WhatsApp Web bot is blocked" in tool("bots", "blocked").err
    block(connection, bot)
    shown = tool("bots", "blocked", width=width).text
    assert "logged out on the phone" in shown
    assert "until you unblock it" in shown
    (found,) = tool("bots", "blocked", "--json").json
    assert (found["company"], found["block"]["kind"], found["block"]["until"]) == ("0128", "logged_out", None)
    execute(connection, "UPDATE wa_session SET state = 'SCAN_QR_CODE', qr = '2@secret', qr_expires_at = 'infinity'")
    said = tool("bots", "blocked", "--json")
    assert said.json[0]["state"] == "SCAN_QR_CODE"
    assert "qr" not in said.json[0]
    assert "2@secret" not in said.text
    assert "unblocked" in tool("bots", "unblock", "0128", "1").text
    assert execute(connection, "SELECT 1 FROM wa_block") == []
    assert "was not blocked" in tool("bots", "unblock", "0128", "1").text
    assert "bots list" in tool("bots", "unblock", "0128", "9", code=2).text


@pytest.mark.parametrize("width", [80, 200])
def test_the_list_shows_sessions_and_blocks(tool, connection, bot, width):
    execute(connection, "UPDATE wa_session SET state = 'WORKING'")
    assert "WORKING" in tool("bots", "list", width=width).text
    assert tool("bots", "list", "--json").json[0]["session"] == "WORKING"
    execute(connection, "UPDATE wa_session SET state = 'STARTING', reason = 'no way'")
    assert "starting: no way" in tool("bots", "list", width=width).text
    block(connection, bot, "2100-01-01T00:00Z")
    shown = tool("bots", "list", width=width).text
    assert "blocked until 2100-01-01" in shown
    assert "logged out on the phone" in shown


def test_the_list_shows_recent_hangs(tool, settings, connection, bot):
    execute(connection, "UPDATE wa_session SET state = 'WORKING'")
    settings.run_dir.mkdir(parents=True, exist_ok=True)
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    history = {"hangs": [now - 7200, now - 60, now], "hung": "no heartbeat for 130 s"}
    told = {"pid": 1, "beat_boottime": 0, "instances": {}, "histories": {"wwebjs-session-0128-1": history}}
    (settings.run_dir / "guard.json").write_text(json.dumps(told))
    shown = " ".join(tool("bots", "list", width=200).text.split())
    assert "working: hung 2 times within an hour" in shown
    assert "no heartbeat for 130 s" in tool("bots", "list", "--json").json[0]["session_reason"]


def test_warm_up_limits_are_set_and_shown(tool, connection, bot):
    def limit(*words, **options):
        return tool("bots", "limit", "0128", "1", *words, **options).text

    def stored():
        return execute(connection, "SELECT per_hour, per_day, new_chats_per_day FROM wa_limit")

    assert "no limit" in limit()
    assert stored() == []
    assert "20 messages an hour" in limit("--per-hour", "20", "--per-day", "100")
    assert "20 messages an hour, 100 messages a day, 5 new chats a day" in limit("--new-chats-per-day", "5")
    assert stored() == [(20, 100, 5)]
    assert "more than" in limit("--per-hour", "200", code=2)
    assert "no limit" in limit("--none")
    assert stored() == [(None, None, None)]
    assert limit("--per-day", "0", code=2)


def test_sessions_that_need_an_operator_are_listed_with_the_next_command(settings, connection, bot):
    def told():
        return [(each.status, f"{each.reason} ({each.hint})") for each in check_records.troubled(settings)]

    assert told() == []
    execute(connection, "UPDATE wa_session SET state = 'SCAN_QR_CODE', started_at = now()")
    ((status, reason),) = told()
    assert (status, "bots link 0128 1" in reason) == ("note", True), "no failure: no phone was ever linked"
    execute(connection, "UPDATE wa_session SET bound_number = '60111'")
    ((status, reason),) = told()
    assert (status, "bots link 0128 1" in reason) == ("unlinked", True)
    execute(connection, "UPDATE wa_session SET state = 'FAILED', reason = 'Chromium is missing'")
    assert told() == [("failed", "Chromium is missing (bisnesctl bots list)")]
    execute(connection, "UPDATE wa_session SET state = 'STARTING', reason = 'no way', changed_at = now()")
    assert told() == [], "it may take a moment"
    execute(connection, "UPDATE wa_session SET changed_at = now() - interval '125 seconds'")
    assert told() == [("starting", "for 2m 5s: no way (bisnesctl logs wwebjs-session-0128-1)")]
    block(connection, bot)
    ((status, reason),) = told()
    assert status == "blocked"
    assert "logged out on the phone" in reason
    assert "bots unblock 0128 1" in reason
    execute(connection, "UPDATE wa_session SET wanted = false")
    execute(connection, "DELETE FROM wa_block")
    assert told() == [], "somebody stopped it"


def test_another_number_is_accepted_only_with_the_option(tool, connection, bot):
    execute(connection, "UPDATE wa_session SET bound_number = '60111'")
    execute(connection, "UPDATE phone_configs SET display_phone_number = '60111'")
    bound = "SELECT bound_number, display_phone_number FROM wa_session JOIN phone_configs c ON c.id = bot_id"
    tool("bots", "unblock", "0128", "1")
    assert execute(connection, bound) == [("60111", "60111")]
    tool("bots", "unblock", "0128", "1", "--new-number")
    assert execute(connection, bound) == [(None, None)]
    execute(connection, "UPDATE wa_session SET bound_number = '60111'")
    execute(connection, "UPDATE phone_configs SET display_phone_number = 'the shop'")
    tool("bots", "unblock", "0128", "1", "--new-number")
    assert execute(connection, bound) == [(None, "the shop")]
