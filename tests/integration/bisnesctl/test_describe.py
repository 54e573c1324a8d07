"""`bisnesctl describe`: processes, and bots and messages of a database."""

import uuid

import pytest

from bisnesctl.database.event_log import SPOOLS
from bisnesctl.database.process_events import ProcessEvent, ProcessEventWriter
from bisnesctl.monit import source
from bisnesctl.processes.deployment import SessionProgram, make_folders, record_start, record_stop
from bisnesctl.processes.render import render_session
from bisnesctl.processes.topology import Mode
from tests.support.outbox import accept, add_bot, entry, execute, outbox

TEXT = "the customer's own words"


@pytest.fixture
def settings(database, environment):
    found = environment(DATABASE_URL=database)
    found.home.mkdir(parents=True, exist_ok=True)
    return found


@pytest.fixture
def bot(settings, opened):
    connection, _ = opened
    return add_bot(connection)


def test_a_bot_says_what_it_waits_for_and_what_to_type(settings, opened, bot, tool):
    connection, _ = opened
    accept(connection, entry(bot), entry(bot))
    execute(
        connection,
        "UPDATE bot_pace SET held_until = 'infinity', held_reason = '190: the token expired', hold_code = '190',"
        " held_at = now() WHERE bot_id = %s",
        (bot,),
    )
    said = tool("describe", "0128-0", width=80).text
    for words in (
        "wanted running",
        "actual held",
        "why its number is held: 190: the token expired",
        "next its messages wait; it ends by itself",
        "bisnesctl bots add --company 0128 --phone 0 --token-stdin",
        "waiting 2, the oldest for",
    ):
        assert words in said
    found = tool("show", "0128/0", "--json").json
    assert (found["kind"], found["name"], found["waiting"]) == ("bot", "0128-0", 2)
    assert found["hold"]["cause"] == "190: the token expired"
    assert found["hold"]["since"].endswith("Z")


def test_a_bot_that_does_not_send_is_not_shown_as_sending(settings, opened, bot, tool):
    found = tool("describe", "0128-0", "--json").json
    assert (found["wanted"], found["actual"]) == ("running", "not sending")  # there is no worker
    tool("queue", "pause", "0128/0", "--yes")
    found = tool("describe", "0128-0", "--json").json
    assert (found["wanted"], found["actual"]) == ("paused", "paused")


def test_a_part_that_cannot_be_read_is_named_with_the_reason(settings, opened, bot, tool):
    connection, _ = opened
    execute(connection, "ALTER TABLE webhook RENAME TO webhook_of_another_version")
    [unseen] = tool("describe", "0128-0", "--json").json["unseen"]
    assert unseen.startswith("its company's webhooks: ")
    assert "bisnesctl migrate" in unseen


def test_a_bot_shows_the_webhooks_of_its_company_without_secrets(settings, opened, bot, tool):
    connection, _ = opened
    execute(
        connection,
        "INSERT INTO webhook (id, company_id, url, events, secret_encrypted, failures, last_error) VALUES (%s, '0128',"
        " 'https://u:hush@shop.example/hook?key=hush', '{*}', 'sealed', 3, 'HTTP 500')",
        (str(uuid.uuid4()),),
    )
    said = tool("describe", "0128-0").text
    assert "https://***@shop.example/hook?***: active, 0 pending, 3 failures in a row: HTTP 500" in said
    assert "hush" not in said + tool("describe", "0128-0", "--json").out
    assert "sealed" not in said


def test_a_web_bot_shows_its_session_and_its_block(settings, opened, tool):
    connection, _ = opened
    web = add_bot(connection, index=2, kind="wwebjs")
    execute(connection, "INSERT INTO wa_session (bot_id, state, reason) VALUES (%s, 'FAILED', 'banned')", (web,))
    execute(
        connection,
        "INSERT INTO wa_block (bot_id, kind, reason, until) VALUES (%s, 'banned', 'WhatsApp banned it', 'infinity')",
        (web,),
    )
    said = tool("describe", "0128-2", width=80).text
    assert "actual blocked" in said
    assert "WhatsApp banned it" in said
    assert "bisnesctl bots unblock 0128 2" in said
    assert tool("describe", "0128-2", "--json").json["block"]["until"] is None


def test_a_message_is_its_life_and_its_text_only_if_asked(settings, opened, bot, tool):
    connection, _ = opened
    first, second = entry(bot, text=TEXT), entry(bot)
    accept(connection, first, second)
    said = tool("describe", first.message_id).text
    assert f"message {first.message_id}: outgoing text" in said
    assert "no worker of meta is running" in said
    assert "it leaves as soon as a process of meta sends again" in said
    execute(
        connection,
        "INSERT INTO process_instances (process_name, host, instance, pid, status, started_at)"
        " VALUES ('meta', 'host', 'meta-worker-1', 1, 'healthy', now())",
    )
    page = tool("describe", first.message_id, width=80)
    assert "for its turn" in page.text
    assert TEXT not in page.text
    assert TEXT in tool("describe", first.message_id, "--text").text
    assert f"for the chat's first message {first.message_id}" in tool("describe", second.message_id).text
    outbox().claim(connection, 1)
    assert "meta-worker-1 on host has it in hand" in tool("describe", first.message_id).text
    execute(
        connection,
        "UPDATE outbox SET status = 'failed', error_code = '131026', error = 'not on WhatsApp', timeline = %s"
        " WHERE message_id = %s",
        ('[{"status": "failed", "at": "2026-01-31T08:00:00+00:00", "code": "131026", "attempt": 1}]', first.message_id),
    )
    found = tool("describe", first.message_id, "--json").json
    assert (found["kind"], found["status"]) == ("message", "failed")
    assert found["why"].startswith("it failed: 131026: not on WhatsApp; it was refused permanently")
    assert [(step["status"], step["at"][-1]) for step in found["timeline"]] == [("accepted", "Z"), ("failed", "Z")]
    assert found["commands"] == [f"bisnesctl dead-letters show {first.message_id}"]
    assert found["content"] is None


def test_a_message_of_a_held_bot_names_the_hold(settings, opened, bot, tool):
    connection, _ = opened
    message = entry(bot)
    accept(connection, message)
    execute(connection, "UPDATE bot_pace SET held_until = 'infinity', held_reason = 'paused' WHERE bot_id = %s", (bot,))
    words = "its number is held: paused"
    assert words in tool("describe", message.message_id).text
    assert words in tool("describe", "0128-0").text
    assert words in tool("queue", "show", message.message_id).text
    assert words in tool("queue", "list", "--json").json[0]["reason"]
    assert source._causes(connection, 60.0) == {"0128-0": words}  # of `monit`


@pytest.mark.parametrize(
    ("name", "hint"),
    [("api-7x", "did you mean api-"), ("api-7", "error: there is no instance api-7: there are api-0 and api-1"),
     ("events-2", "error: there is no instance events-2: there is only events"),
     ("0128-1", "did you mean 0128-0"), ("meta-workr", "did you mean meta-worker"),
     (str(uuid.UUID(int=7)), "there is no message"), ("?", "`bisnesctl status` and `bisnesctl bots list` show")],
)  # fmt: skip
def test_an_unknown_name_is_one_line_with_near_names(settings, bot, tool, name, hint):
    said = tool("describe", name, code=2)
    assert hint in said.text
    assert (said.out, said.err.count("\n")) == ("", 1)


def test_a_process_is_described_while_nothing_runs_and_without_the_database(environment, tool):
    settings = environment(DATABASE_URL="postgresql://127.0.0.1:1/none")
    make_folders(settings)
    record_start(settings.run_dir, Mode.MULTIPROCESS, False, ())
    record_stop(settings.run_dir)
    (settings.log_dir / "api-0.log").write_text("".join(f"line {number}\n" for number in range(30)))
    writer = ProcessEventWriter(settings.home / SPOOLS["guard"], "")
    writer.record(ProcessEvent("api", "api-0", "process_failed", "critical", 1.7e9, {"reason": "it was killed"}))
    said = tool("describe", "api-0", width=80)
    for words in ("wanted stopped", "services.api.asgi:app", "stopped on purpose", "bisnesctl start --multiprocess",
                  "line 29", "it was killed; the guard does not start it again"):  # fmt: skip
        assert words in said.text
    assert "line 19 " not in said.text
    assert max(map(len, said.out.splitlines())) <= 80
    found = tool("describe", "api", "--json").json
    assert (found["kind"], [each["name"] for each in found["instances"]]) == ("program", ["api-0", "api-1"])


def test_without_the_database_a_web_bot_is_described_by_its_session(environment, tool):
    settings = environment(DATABASE_URL="postgresql://127.0.0.1:1/none")
    make_folders(settings)
    session = SessionProgram("0128", 2).instance(settings)
    render_session(settings, session).write(settings.run_dir)
    said = tool("describe", "0128-2", width=80).text
    assert "wwebjs-session-0128-2: a WhatsApp Web bot with its browser" in said
    assert "Not seen the bot itself, its hold, limits, messages and webhooks: PostgreSQL cannot be reached" in said


def test_without_the_database_an_unknown_name_is_answered_in_sentences(environment, tool):
    environment(DATABASE_URL="postgresql://127.0.0.1:1/none")
    assert "there are api-0 and api-1\n" in tool("describe", "api-7", code=2).err
    said = tool("describe", "?", code=2).err
    assert "show all names. Bots cannot be looked up, because PostgreSQL is unavailable\n" in said


def test_without_the_database_a_bot_or_message_cannot_be_looked_up(environment, tool):
    environment(DATABASE_URL="postgresql://127.0.0.1:1/none")
    for name in ("0128-0", str(uuid.uuid4())):
        said = tool("describe", name, code=4)
        assert "PostgreSQL cannot be reached" in said.text
        assert said.err.count("\n") == 1
