"""`bisnesctl keys`, `bots`, `send` and `migrate`, as they are typed, on a real database and in front of a real API."""

import contextlib
import hashlib
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from bisnesctl import encryption
from bisnesctl.processes.deployment import record_start
from bisnesctl.processes.topology import Mode
from services.database.connection import Database
from services.message import Scope, Status
from services.outbox import holds
from services.outbox.outcome_policy import Fault, Hold, Pauses
from tests.support.api import serving
from tests.support.outbox import accept, entry, execute, outbox, result
from tests.support.waiting import HANG_SECONDS

NOWHERE = "postgresql://bisnes:secret@127.0.0.1:1/bisnes"
SECRET_KEY = "0123456789abcdef" * 4
OPERATOR_KEY = "bk_operator_of_the_env_file"
CHAT = "60123456789"
SCRIPTS = Path(__file__).parents[3] / "scripts"


@pytest.fixture
def settings(environment, database):
    return environment(DATABASE_URL=database)


@pytest.fixture
def connection(settings):
    with contextlib.closing(Database(settings.database_dsn).connect()) as opened:
        yield opened


@pytest.fixture
def api(environment, settings, tool):
    """A listening API with bot 0 of company 0128, and the operator's key in `.env`; answers its base URL."""
    database = settings.database_dsn
    with serving(settings) as url:
        port = urlsplit(url).port
        environment(DATABASE_URL=database, API_PORT=port, API_HOST="0.0.0.0", OPERATOR_KEY=OPERATOR_KEY)
        add_meta(tool)
        register(database, OPERATOR_KEY)
        yield url


def add_meta(tool, *more, phone=0, token="EAAG-token"):
    words = ("--company", "0128", "--phone", str(phone), "--type", "meta_direct", "--phone-number-id", "1055")
    return tool("bots", "add", *words, "--no-verify", "--token-stdin", *more, given=f"{token}\n")


def register(dsn, key, company=None):
    with contextlib.closing(Database(dsn).connect()) as opened:
        execute(
            opened,
            "INSERT INTO api_keys (key_hash, prefix, company_id) VALUES (%s, %s, %s)",
            (hashlib.sha256(key.encode()).digest(), key[:8], company),
        )


def bot_id(connection, phone=0):
    return execute(connection, "SELECT id FROM phone_configs WHERE phone_index = %s", (phone,))[0][0]


@contextlib.contextmanager
def worker(dsn, status, **extra):
    """Gives every message this outcome as soon as it is due."""
    stopped = threading.Event()

    def serve():
        with contextlib.closing(Database(dsn).connect()) as mine:
            while not stopped.is_set():
                for message in outbox().claim(mine, 10):
                    outbox().record(mine, [result(message, status, **extra)])
                time.sleep(0.01)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


# Keys


def test_a_new_key_is_printed_alone_and_only_its_hash_is_kept(tool, connection):
    said = tool("keys", "create", "--company", "0128", "--label", "web shop")
    key = said.out.strip()
    assert key.startswith("bk_")
    assert len(key) >= 40
    assert key not in said.err
    row = execute(connection, "SELECT key_hash, prefix, company_id, label, to_jsonb(api_keys)::text FROM api_keys")[0]
    assert (bytes(row[0]), row[1:4]) == (hashlib.sha256(key.encode()).digest(), (key[:8], "0128", "web shop"))
    assert key not in row[4]


def test_an_operators_key_belongs_to_no_company(tool, connection):
    made = tool("keys", "create", "--operator", "--json").json
    assert made["company"] is None
    assert execute(connection, "SELECT company_id, prefix FROM api_keys") == [(None, made["key"][:8])]


@pytest.mark.parametrize("words", [(), ("--operator", "--company", "0128"), ("--company", " ")])
def test_a_new_key_needs_a_company_or_an_operator(tool, settings, words):
    assert "company" in tool("keys", "create", *words, code=2).text


def test_the_list_shows_the_owners_of_keys_but_no_key(tool, settings):
    keys = [tool("keys", "create", *words).out.strip() for words in (("--company", "0128"), ("--operator",))]
    said = tool("keys", "list")
    assert all(key[:8] in said.out and key not in said.out for key in keys)
    assert "0128" in said.out
    assert "operator" in said.out
    assert [each["prefix"] for each in tool("keys", "list", "--json").json] == [key[:8] for key in keys]
    assert [each["company"] for each in tool("keys", "list", "--company", "0128", "--json").json] == ["0128"]


@pytest.mark.parametrize("name", [lambda key: "1", lambda key: key[:8], lambda key: key])
def test_a_key_is_revoked_by_its_id_its_prefix_or_itself(tool, settings, name):
    key = tool("keys", "create", "--company", "0128").out.strip()
    assert "0128" in tool("keys", "revoke", name(key)).err
    at = tool("keys", "list", "--json").json[0]["revoked_at"]
    assert at is not None
    assert "already" in tool("keys", "revoke", name(key)).err
    assert tool("keys", "list", "--json").json[0]["revoked_at"] == at


def test_a_prefix_of_several_keys_revokes_none(tool, connection, settings):
    for key in ("bk_same_one", "bk_same_two"):
        register(settings.database_dsn, key)
    said = tool("keys", "revoke", "bk_same_", code=2)
    assert "1, 2" in said.err
    assert execute(connection, "SELECT count(revoked_at) FROM api_keys") == [(0,)]


def test_an_unknown_key_cannot_be_revoked(tool, settings):
    tool("keys", "create", "--company", "0128")
    assert "keys list" in tool("keys", "revoke", "77", code=2).err
    assert "keys list" in tool("keys", "revoke", "1", "--company", "0999", code=2).err


# Bots


def test_a_bots_token_is_encrypted_and_never_shown(tool, connection):
    said = add_meta(tool, "--waba-id", "77", "--display-number", "+60 12 345", token="EAAG-very-secret")
    stored, row = execute(connection, "SELECT meta_access_token_encrypted, to_jsonb(c)::text FROM phone_configs c")[0]
    assert encryption.decrypt(SECRET_KEY, stored) == "EAAG-very-secret"
    listed = tool("bots", "list")
    assert all("EAAG" not in text for text in (row, said.text, listed.text, tool("bots", "list", "--json").out))
    assert all(shown in listed.out for shown in ("0128", "meta_direct", "active", "+60 12 345", "1055"))


def test_a_token_is_not_accepted_on_the_command_line(tool, settings):
    tool("bots", "add", "--company", "0128", "--phone-number-id", "1", "--token", "EAAG", code=2)


def test_a_360dialog_bot_has_an_api_key(tool, connection):
    tool("bots", "add", "--company", "0128", "--type", "360dialog", "--no-verify", "--token-stdin", given="d360\n")
    row = execute(connection, "SELECT api_key_encrypted, meta_access_token_encrypted, process_name FROM phone_configs")[
        0
    ]
    assert (encryption.decrypt(SECRET_KEY, row[0]), *row[1:]) == ("d360", None, "meta")


@pytest.mark.parametrize("company", ["a\nb", "a\x9bb", "a\x7f", "a\u2028b", "x" * 256])
def test_a_company_that_no_line_can_show_is_refused(tool, settings, company):
    assert "control characters" in tool("bots", "add", "--company", company, "--type", "wwebjs", code=2).text


@pytest.mark.parametrize("company", ["acme\xa0;co", "a\u3000#b", "50% & 'more'", '"q" \\'])
def test_a_company_with_odd_characters_is_added(tool, settings, company):
    tool("bots", "add", "--company", company, "--type", "wwebjs")
    [found] = tool("bots", "list", "--json").json
    assert found["company"] == company


def test_a_whatsapp_web_bot_waits_to_be_linked(tool, settings):
    tool("bots", "add", "--company", "0128", "--phone", "2", "--type", "wwebjs")
    bot = tool("bots", "list", "--json").json[0]
    assert (bot["phone"], bot["process"], bot["status"], bot["waiting"]) == (2, "wwebjs", "pending", 0)


@pytest.mark.parametrize(
    ("words", "given", "named"),
    [
        (("--token-stdin",), "EAAG\n", "--phone-number-id"),
        (("--phone-number-id", "1"), "", "--token-stdin"),
        (("--phone-number-id", "1", "--token-stdin"), "\n", "token"),
        (("--phone-number-id", "1", "--token-stdin"), "two words\n", "token"),
        (("--type", "360dialog"), "", "--token-stdin"),
        (("--type", "telegram"), "", "telegram"),
        (("--type", "wwebjs", "--phone", "-1"), "", "phone"),
    ],
)
def test_a_bot_without_required_properties_is_not_added(tool, connection, words, given, named):
    assert named in tool("bots", "add", "--company", "0128", *words, given=given, code=2).text
    assert execute(connection, "SELECT count(*) FROM phone_configs") == [(0,)]


def test_a_bot_added_again_keeps_what_is_not_named(tool, connection):
    add_meta(tool, "--waba-id", "77", "--display-number", "+60 12 345")
    said = tool("bots", "add", "--company", "0128", "--phone-number-id", "1056", "--no-verify")
    assert "changed" in said.err
    row = execute(
        connection,
        "SELECT meta_phone_number_id, meta_waba_id, display_phone_number, meta_access_token_encrypted"
        " FROM phone_configs",
    )[0]
    assert row[:3] == ("1056", "77", "+60 12 345")
    assert encryption.decrypt(SECRET_KEY, row[3]) == "EAAG-token"


def test_a_held_bot_shows_its_reason_and_resumes_when_it_is_added_again(tool, connection):
    add_meta(tool)
    bot = bot_id(connection)
    accept(connection, entry(bot), entry(bot), entry(bot, "60222222222"))
    holds.hold(connection, [Hold(bot, Scope.BOT, None, "190: the token has expired")])
    execute(connection, "UPDATE lane SET due = now() + interval '1 hour'")
    shown = tool("bots", "list").text
    assert "190: the token has expired" in shown
    assert "until you act" in shown
    assert tool("bots", "list", "--json").json[0]["waiting"] == 3
    assert outbox().claim(connection, 10) == []

    add_meta(tool, token="EAAG-renewed")
    assert len(outbox().claim(connection, 10)) == 2  # the oldest of each chat
    bot = tool("bots", "list", "--json").json[0]
    assert (bot["held_until"], bot["held_reason"]) == (None, None)


def test_a_hold_that_is_over_is_not_shown(tool, connection):
    add_meta(tool)
    execute(connection, "UPDATE bot_pace SET held_until = now() - interval '1 second', held_reason = 'was slow'")
    assert "was slow" not in tool("bots", "list").out


def test_the_list_fits_its_window(tool, connection):
    add_meta(tool, "--display-number", "+60 12 345 6789")
    holds.hold(
        connection, [Hold(bot_id(connection), Scope.BOT, None, "190: the access token has expired, make another one")]
    )
    narrow, wide = tool("bots", "list", width=80).out, tool("bots", "list", width=240).out
    assert max(map(len, narrow.splitlines())) <= 80
    held = " ".join(narrow.split())
    assert all(word in held for word in ("0128", "meta_direct", "190:", "expired", "another"))
    assert len(wide.splitlines()) == 2
    assert "1055" in wide


def test_the_list_of_keys_fits_its_window(tool, settings):
    company, label = "a-company-with-quite-a-long-name", "the web shop in the north and the one in the south"
    key = tool("keys", "create", "--company", company, "--label", label).out.strip()
    tool("keys", "revoke", key)
    narrow, wide = tool("keys", "list", width=80).out, tool("keys", "list", width=200).out
    assert max(map(len, narrow.splitlines())) <= 80
    revoked_at = tool("keys", "list", "--json").json[0]["revoked_at"]
    assert narrow.splitlines()[1].startswith(" 1  ")
    assert key[:8] in narrow
    assert revoked_at in narrow
    assert len(wide.splitlines()) == 2
    assert label in wide


def test_a_bot_with_waiting_messages_is_not_removed(tool, connection):
    add_meta(tool)
    accept(connection, entry(bot_id(connection)), entry(bot_id(connection)))
    said = tool("bots", "remove", "--company", "0128", "--yes", code=6)
    assert "2 messages" in said.err
    assert "--force" in said.err
    assert execute(connection, "SELECT count(*) FROM phone_configs") == [(1,)]


def test_with_force_waiting_messages_fail_with_a_reason(tool, connection):
    add_meta(tool)
    bot = bot_id(connection)
    in_hand, waiting, other = entry(bot), entry(bot), entry(bot, "60222222222")
    accept(connection, in_hand, waiting)
    claimed = outbox().claim(connection, 10)
    accept(connection, other)
    assert "messages failed" in tool("bots", "remove", "--company", "0128", "--yes", "--force").err
    outbox().record(connection, [result(each) for each in claimed])

    rows = execute(connection, "SELECT message_id::text, status::text, error_code FROM outbox")
    assert {each[0]: each[1:] for each in rows} == {
        in_hand.message_id: ("sent", None),
        waiting.message_id: ("failed", "bot_removed"),
        other.message_id: ("failed", "bot_removed"),
    }
    assert execute(connection, "SELECT sum(pending) FROM lane") == [(0,)]
    assert tool("bots", "list", "--json").json == []


def test_removing_asks_for_confirmation(tool, connection):
    add_meta(tool)
    tool("bots", "remove", "--company", "0128", given="n\n", code=1)
    assert execute(connection, "SELECT count(*) FROM phone_configs") == [(1,)]
    tool("bots", "remove", "--company", "0128", given="y\n")
    assert execute(connection, "SELECT count(*) FROM phone_configs") == [(0,)]


def test_an_unknown_bot_cannot_be_removed(tool, settings):
    add_meta(tool)
    assert "bots list" in tool("bots", "remove", "--company", "0128", "--phone", "1", "--yes", code=2).err


def test_without_an_encryption_key_no_token_is_stored(tool, environment, database):
    environment(DATABASE_URL=database, ENCRYPTION_KEY="")
    words = ("--company", "0128", "--phone-number-id", "1", "--token-stdin")
    assert "ENCRYPTION_KEY" in tool("bots", "add", *words, given="EAAG\n", code=3).err


# If the database is not as it should be


@pytest.mark.parametrize("words", [("keys", "list"), ("bots", "list"), ("migrate",), ("migrate", "--status")])
def test_an_unavailable_database_is_reported_without_its_password(tool, environment, words):
    environment(DATABASE_URL=NOWHERE)
    said = tool(*words, code=4)
    assert "PostgreSQL" in said.err
    assert "DATABASE_URL" in said.err
    assert "secret" not in said.text
    assert "Traceback" not in said.text


@pytest.mark.parametrize("words", [("keys", "list"), ("bots", "list"), ("migrate", "--dry-run")])
def test_an_embedded_server_that_does_not_run_is_reported_with_the_next_step(tool, environment, words):
    run_dir = environment().run_dir
    run_dir.mkdir(parents=True)
    record_start(run_dir, Mode.MULTIPROCESS, False, ())
    assert "`bisnesctl status`" in tool(*words, code=4).err


@pytest.mark.parametrize("words", [("keys", "create", "--operator"), ("bots", "list")])
def test_a_database_without_our_tables_is_reported_with_the_next_step(tool, environment, empty_database, words):
    environment(DATABASE_URL=empty_database)
    assert "bisnesctl migrate" in tool(*words, code=3).err


# Send


def test_a_message_is_sent_through_the_api(tool, api, connection):
    message_id, status = tool("send", "--company", "0128", "--to", "+60123456789", "--text", "Hello").out.split()
    assert status == "queued"
    rows = execute(connection, "SELECT message_id::text, chat_id, phone_index, payload->>'message' FROM outbox")
    assert rows == [(message_id, CHAT, 0, "Hello")]


def test_send_waits_for_the_outcome(tool, api, settings):
    with worker(settings.database_dsn, Status.SENT):
        said = tool("send", "--company", "0128", "--to", CHAT, "--text", "Hello", "--wait", "--json")
    assert said.json["status"] == "sent"


def test_a_refusal_is_an_error(tool, api, settings):
    with worker(settings.database_dsn, Status.FAILED, code="131026", error="not on WhatsApp"):
        said = tool("send", "--company", "0128", "--to", CHAT, "--text", "Hello", "--wait", "--json", code=1)
    assert said.json["status"] == "failed"
    assert "not on WhatsApp" in said.err


def test_a_message_that_failed_temporarily_is_not_called_refused(tool, api, settings):
    with worker(settings.database_dsn, Status.FAILED, code="network", error="Failed to connect"):
        said = tool("send", "--company", "0128", "--to", CHAT, "--text", "Hello", "--wait", code=1)
    assert "refused" not in said.text
    assert f"bisnesctl dead-letters retry {said.out.split()[0]}" in said.text


def test_a_message_that_waits_shows_whether_an_operator_is_needed(tool, api, connection):
    words = ("send", "--company", "0128", "--to", CHAT, "--text", "Hello", "--wait", "--timeout", "0.3")
    holds.note_outages(connection, [Fault(bot_id(connection), "network", "Failed to connect", probe=False)], Pauses())
    said = tool(*words, code=1).text
    assert "it waits and will be sent automatically: the provider is unavailable since" in said
    assert "network: Failed to connect" in said
    assert "provider unavailable since" in tool("bots", "list").text
    holds.hold(connection, [Hold(bot_id(connection), Scope.BOT, None, "190: the token has expired")])
    assert "it waits until an operator acts: 190: the token has expired" in tool(*words, code=1).text
    assert tool(*words, "--json", code=1).json["hold"]["needsOperator"] is True


def test_an_unknown_message_is_reported_as_not_resent(tool, api, settings):
    with worker(settings.database_dsn, Status.UNKNOWN, error="the connection broke"):
        said = tool("send", "--company", "0128", "--to", CHAT, "--text", "Hello", "--wait", "--json", code=1)
    assert said.json["status"] == "unknown"
    assert "may have been sent" in said.err


def test_an_outcome_that_does_not_come_is_an_error_but_the_message_stays(tool, api, connection):
    said = tool("send", "--company", "0128", "--to", CHAT, "--text", "Hello", "--wait", "--timeout", "0.2", code=1)
    assert "stays queued" in said.err
    assert execute(connection, "SELECT status::text, message_id::text FROM outbox") == [("queued", said.out.split()[0])]


def test_under_one_idempotency_key_there_is_one_message(tool, api, connection):
    words = ("send", "--company", "0128", "--to", CHAT, "--idempotency-key", "order-17", "--json")
    first, again = (tool(*words, "--text", "Ready").json["messageId"] for _ in range(2))
    assert first == again
    assert "idempotency_conflict" in tool(*words, "--text", "Something else", code=2).err
    assert execute(connection, "SELECT count(*) FROM outbox") == [(1,)]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--company", "0999", "--to", CHAT, "--text", "x"), "unknown_bot"),
        (("--company", "0128", "--to", CHAT, "--text", "x", "--phone", "7"), "unknown_bot"),
        (("--company", "0128", "--to", "nobody", "--text", "x"), "invalid_chat_id"),
        (("--company", "0128", "--to", CHAT, "--text", "x" * 4097), "text_too_long"),
        (("--company", "0128", "--to", CHAT, "--text", "x", "--idempotency-key", "a\nb"), "printable"),
    ],
)
def test_an_invalid_message_is_an_error(tool, api, words, reason):
    assert reason in tool("send", *words, code=2).text


def test_the_key_of_the_environment_takes_precedence(tool, api, connection, monkeypatch):
    monkeypatch.setenv("BISNES_API_KEY", tool("keys", "create", "--company", "0128").out.strip())
    tool("send", "--company", "0128", "--to", CHAT, "--text", "Hello")
    said = tool("send", "--company", "0999", "--to", CHAT, "--text", "Hello", code=3)
    assert "foreign_company" in said.err


def test_a_refused_key_is_an_error_of_the_settings(tool, api):
    tool("keys", "revoke", OPERATOR_KEY)
    said = tool("send", "--company", "0128", "--to", CHAT, "--text", "Hello", code=3)
    assert "BISNES_API_KEY" in said.err
    assert OPERATOR_KEY not in said.text


def test_a_missing_key_is_reported_with_the_next_step(tool, settings):
    assert "keys create" in tool("send", "--company", "0128", "--to", CHAT, "--text", "x", code=3).err


def test_an_unavailable_api_is_reported_with_the_next_step(tool, environment):
    environment(OPERATOR_KEY=OPERATOR_KEY, API_PORT="1")
    said = tool("send", "--company", "0128", "--to", CHAT, "--text", "x", code=4)
    assert "`bisnesctl status`" in said.err
    assert len(said.err.splitlines()) == 1


# Migrate


def test_a_dry_run_says_what_would_be_applied_and_applies_nothing(tool, environment, empty_database):
    environment(DATABASE_URL=empty_database)
    said = tool("migrate", "--dry-run").out
    names = [line for line in said.splitlines() if not line.startswith(" ")]
    assert names == sorted(names)
    assert len(names) >= 3
    assert tool("migrate", "--dry-run").out == said
    assert tool("migrate", "--status").out.count("pending") == len(names)


def test_migrate_brings_a_database_up_to_date_once(tool, environment, empty_database):
    environment(DATABASE_URL=empty_database)
    assert "001_legacy" in tool("migrate").err
    assert "up to date" in tool("migrate").err
    assert "up to date" in tool("migrate", "--dry-run").err
    assert "pending" not in tool("migrate", "--status").out
    tool("bots", "list")


def test_a_migration_that_was_changed_after_it_was_applied_is_reported(tool, connection):
    execute(connection, "UPDATE schema_migrations SET checksum = 'another' WHERE version = 2")
    lines = {line.split()[0]: line for line in tool("migrate", "--status").out.splitlines()[1:]}
    assert [name for name, line in lines.items() if "changed" in line] == ["002_process_isolation"]
    assert "002_process_isolation.sql was changed" in tool("migrate").err


def run_script(folder, *words):
    """The old script in a checkout of its own, with the packages that run this test."""
    shutil.copytree(SCRIPTS, folder / "scripts", dirs_exist_ok=True)
    if not (folder / ".venv").exists():
        (folder / ".venv").symlink_to(sys.prefix)
    script = folder / "scripts" / "migrate-process-isolation.sh"
    return subprocess.run([script, *words], capture_output=True, text=True, timeout=HANG_SECONDS)


def test_the_old_script_migrates(environment, tool, empty_database, redis_server, tmp_path):
    environment(DATABASE_URL=empty_database, REDIS_URL=redis_server.url)
    done = run_script(tmp_path)
    assert done.returncode == 0, done.stderr
    assert "pending" not in tool("migrate", "--status").out
    assert (tmp_path / "var" / "log").is_dir()


def test_the_old_script_checks_the_requirements_first(environment, tool, empty_database, tmp_path):
    environment(DATABASE_URL=empty_database, REDIS_URL="redis://127.0.0.1:1")
    done = run_script(tmp_path)
    assert done.returncode == 4
    assert "Redis" in done.stderr
    assert "pending" in tool("migrate", "--status").out
