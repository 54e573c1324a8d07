"""Taking over a running business: its key is checked, its WhatsApp Web numbers stay on its server until they move."""

import contextlib
import secrets

import pytest

from bisnesctl.bots import check_records, credentials, webhook_secrets
from bisnesctl.database import migrations, postgres
from bisnesctl.encryption import encrypt_shared
from bisnesctl.errors import ConfigError
from bisnesctl.lifecycle import start
from bisnesctl.paths import shipped_folder
from bisnesctl.settings import load
from services.connectors.wwebjs.session import status_store
from services.database.connection import Database
from services.outbox.credential_holds import CredentialHolds
from tests.integration.conftest import SECRET_KEY
from tests.support.api import KEY, refusal
from tests.support.api import api as serve
from tests.support.database_catalogue import run

OLD_KEY = "f" * 64
STATUSES = "SELECT company_id, phone_index, status FROM phone_configs ORDER BY 1, 2"


@pytest.fixture
def former(empty_database):
    """A database of the former system: two WhatsApp Web numbers, one of Meta with a credential, one without."""
    run(empty_database, (shipped_folder("sql") / "001_legacy.sql").read_text())
    run(
        empty_database,
        "INSERT INTO phone_configs (company_id, phone_index, connection_type, meta_phone_number_id, status,"
        " meta_access_token_encrypted) VALUES ('0128', 0, 'wwebjs', NULL, 'connected', NULL),"
        " ('0128', 1, NULL, NULL, 'connected', NULL), ('0128', 2, 'meta_direct', '77', 'active', %s),"
        " ('0200', 0, 'meta_direct', '78', 'active', NULL)",
        (encrypt_shared(OLD_KEY, "EAAG"),),
    )
    run(
        empty_database,
        "INSERT INTO phone_status (company_id, phone_index, status, metadata)"
        """ VALUES ('0128', '0', 'connected', '{"qrCode": "theirs"}')""",
    )
    return empty_database


@pytest.fixture
def connection(former):
    with contextlib.closing(Database(former).connect()) as opened:
        yield opened


def prepare(settings, **more):
    said = []
    start.prepare_database(settings, said.append, **more)
    return " ".join(said)


# --- The key ---------------------------------------------------------------------------------------------------------


def test_another_key_prevents_the_migration_and_the_start_and_names_the_row(environment, tool, former):
    settings = environment(DATABASE_URL=former, ENCRYPTION_KEY=SECRET_KEY)
    said = tool("migrate", code=3).err
    assert all(word in said for word in ("ENCRYPTION_KEY", "bot 2 of company 0128", "phone_configs"))
    assert run(former, "SELECT to_regclass('schema_migrations')") == [(None,)], "nothing was applied"
    environment(DATABASE_URL=former, ENCRYPTION_KEY=OLD_KEY)
    tool("migrate")
    with pytest.raises(ConfigError, match=r"bot 2 of company 0128.*ENCRYPTION_KEY"):
        prepare(settings)
    assert "bot 2 of company 0128" in prepare(settings, accept_lost=True)
    assert "credential" not in prepare(environment(DATABASE_URL=former, ENCRYPTION_KEY=OLD_KEY))


def test_one_lost_credential_among_others_is_reported_and_prevents_nothing(environment, former):
    run(
        former,
        "INSERT INTO phone_configs (company_id, phone_index, connection_type, api_key_encrypted)"
        " VALUES ('0300', 0, '360dialog', %s)",
        (encrypt_shared(SECRET_KEY, "other"),),
    )
    settings = environment(DATABASE_URL=former, ENCRYPTION_KEY=OLD_KEY)
    migrations.apply(former)
    assert "bot 0 of company 0300" in prepare(settings)


def test_no_new_key_is_made_for_a_database_with_credentials(monkeypatch, tmp_path, tool, environment, former):
    environment()
    path = tmp_path / "new.env"
    monkeypatch.setenv("BISNES_ENV", str(path))
    monkeypatch.setenv("DATABASE_URL", former)
    assert "enter the ENCRYPTION_KEY" in tool("init").text
    assert load(path).encryption_key.get_secret_value() == ""
    assert load(path).operator_key.get_secret_value()
    path.unlink()
    monkeypatch.delenv("DATABASE_URL")
    tool("init")
    assert len(load(path).encryption_key.get_secret_value()) == 64


def test_a_hold_because_of_the_key_ends_by_itself_once_it_is_restored(environment, former, connection):
    migrations.apply(former)
    run(
        former,
        "UPDATE bot_pace SET held_until = 'infinity', held_reason = %s FROM phone_configs c WHERE c.id = bot_id",
        ("a stored credential cannot be decrypted, because it was stored with another ENCRYPTION_KEY: restore …",),
    )
    held = "SELECT company_id FROM bot_pace JOIN phone_configs c ON c.id = bot_id WHERE held_until = 'infinity'"
    CredentialHolds(SECRET_KEY).work(connection)
    assert ("0128",) in run(former, held)
    CredentialHolds(OLD_KEY).work(connection)
    assert run(former, f"{held} AND phone_index = 2") == []
    assert ("0200",) in run(former, held), "it still has no credential"


def test_a_missing_credential_has_one_answer_everywhere(environment, tool, former, connection):
    environment(DATABASE_URL=former, ENCRYPTION_KEY=OLD_KEY, META_GRAPH_URL="http://127.0.0.1:1")
    migrations.apply(former)
    said = tool("bots", "verify", "--company", "0200", code=5).out
    assert "no credential is stored" in said
    assert "ENCRYPTION_KEY" not in said


def test_too_few_connections_are_reported_with_their_settings(environment, former, monkeypatch):
    migrations.apply(former)
    settings = environment(DATABASE_URL=former, ENCRYPTION_KEY=OLD_KEY)
    monkeypatch.setattr(postgres, "allowed_connections", lambda _: 97)
    said = prepare(settings)
    assert all(word in said for word in ("97", "max_connections", "DATABASE_POOL_API_MAX", "META_INSTANCES"))
    monkeypatch.setattr(postgres, "allowed_connections", lambda _: 10)
    with pytest.raises(ConfigError, match="max_connections"):
        prepare(settings)
    monkeypatch.setattr(postgres, "allowed_connections", lambda _: 10_000)
    assert prepare(settings) == ""


def test_the_dry_run_says_what_is_created_changed_and_run(environment, tool, former):
    environment(DATABASE_URL=former, ENCRYPTION_KEY=OLD_KEY)
    said = tool("migrate", "--dry-run").out
    assert "002_process_isolation" in said
    changed = next(line for line in said.splitlines() if "changes" in line)
    assert "phone_configs" in changed
    assert "creates" in said
    assert "ALTER TABLE phone_configs ADD COLUMN" in tool("migrate", "--dry-run", "--sql").out
    assert run(former, "SELECT to_regclass('schema_migrations')") == [(None,)]


# --- WhatsApp Web numbers --------------------------------------------------------------------------------------------


def test_numbers_of_the_former_server_are_left_alone_until_they_are_moved(environment, tool, former, connection):
    settings = environment(DATABASE_URL=former, ENCRYPTION_KEY=OLD_KEY)
    migrations.apply(former)
    before = run(former, STATUSES), run(former, "SELECT * FROM phone_status ORDER BY id")
    status_store.adopt_bots(connection)
    assert run(former, "SELECT * FROM wa_session") == []
    notes = [each for each in check_records.troubled(settings) if each.status == "note"]
    assert [(each.name, each.reason) for each in notes] == [("0128-0 and 1 more", "the former server may still run it")]
    listed = {each["phone"]: each["session"] for each in tool("bots", "list", "--company", "0128", "--json").json}
    assert (listed[0], listed[1]) == ("NOT_MOVED", "NOT_MOVED")
    assert (run(former, STATUSES), run(former, "SELECT * FROM phone_status ORDER BY id")) == before
    assert "bots link 0128 1" in tool("bots", "move", "0128", "1").text
    status_store.adopt_bots(connection)
    assert run(former, "SELECT phone_index FROM wa_session JOIN phone_configs c ON c.id = bot_id") == [(1,)]
    assert "moved already" in tool("bots", "move", "0128", "1").text
    tool("bots", "move", "--all")
    assert run(former, "SELECT count(*) FROM wa_session") == [(2,)]
    tool("bots", "move", "0128", "1", "--back")
    assert run(former, "SELECT count(*) FROM former_number WHERE moved_at IS NULL") == [(1,)]


@pytest.mark.parametrize("words", [(), ("0128",), ("0128", "1", "--all"), ("0999", "0")])
def test_move_needs_one_number_or_all(environment, tool, former, words):
    environment(DATABASE_URL=former, ENCRYPTION_KEY=OLD_KEY)
    migrations.apply(former)
    assert tool("bots", "move", *words, code=2).err


def test_a_number_that_the_former_server_adds_meanwhile_is_its_own(environment, tool, former, connection):
    environment(DATABASE_URL=former, ENCRYPTION_KEY=OLD_KEY)
    migrations.apply(former)
    run(former, "INSERT INTO phone_configs (company_id, phone_index) VALUES ('0300', 0)")
    tool("bots", "add", "--company", "0300", "--phone", "1", "--wwebjs")
    status_store.adopt_bots(connection)
    sessions = "SELECT company_id, phone_index FROM wa_session JOIN phone_configs c ON c.id = bot_id ORDER BY 1, 2"
    assert run(former, sessions) == [("0300", 1)]
    tool("bots", "move", "--all")
    run(former, "INSERT INTO phone_configs (company_id, phone_index) VALUES ('0300', 2)")
    status_store.adopt_bots(connection)
    assert ("0300", 2) in run(former, sessions), "once all are moved, front-ends add numbers as before"


def test_a_session_of_a_number_that_was_not_moved_cannot_be_started(environment, former):
    settings = environment(DATABASE_URL=former, ENCRYPTION_KEY=OLD_KEY)
    migrations.apply(former)
    run(
        former,
        "INSERT INTO api_keys (key_hash, prefix, company_id) VALUES (sha256(%s::bytea), 'bk_', '0128')",
        (KEY,),
    )
    with serve(settings) as (_, client):
        for command in ("start", "restart"):
            answer = client.post(f"/api/sessions/0128/0/{command}", headers={"X-Api-Key": KEY})
            assert refusal(answer) == (409, "not_moved")


def test_numbers_that_were_linked_here_before_the_upgrade_stay_here(empty_database, tmp_path):
    older = tmp_path / "sql"
    older.mkdir()
    for each in sorted(shipped_folder("sql").glob("00[1-8]_*.sql")):
        (older / each.name).write_text(each.read_text())
    run(empty_database, (older / "001_legacy.sql").read_text())
    run(empty_database, "INSERT INTO phone_configs (company_id, phone_index) VALUES ('0128', 0), ('0128', 1)")
    migrations.apply(empty_database, path=older)
    run(
        empty_database,
        "INSERT INTO phone_configs (company_id, phone_index, created_at)"
        " VALUES ('0128', 2, now() + interval '1 second')",
    )
    run(empty_database, "INSERT INTO wa_session (bot_id) SELECT id FROM phone_configs")
    run(
        empty_database,
        "UPDATE wa_session SET bound_number = '60111' FROM phone_configs c WHERE c.id = bot_id AND phone_index = 0",
    )
    migrations.apply(empty_database)
    former = "SELECT phone_index FROM former_number JOIN phone_configs c ON c.id = bot_id"
    assert run(empty_database, former) == [(1,)]


# --- A new key -------------------------------------------------------------------------------------------------------


def test_a_rotation_encrypts_everything_anew_and_shows_no_key(environment, tool, former, tmp_path):
    environment(DATABASE_URL=former, ENCRYPTION_KEY=OLD_KEY)
    tool("migrate")
    run(
        former,
        "INSERT INTO phone_configs (company_id, phone_index, connection_type, api_key_encrypted)"
        " VALUES ('0300', 0, '360dialog', %s)",
        (encrypt_shared(OLD_KEY, "d360"),),
    )
    settings = load()
    with postgres.command_connection(settings) as connection:
        secret = webhook_secrets.current(connection, settings, "0300", 0)
    mode = (tmp_path / ".env").stat().st_mode
    said = tool("keys", "rotate-encryption")
    new = load()
    key = new.encryption_key.get_secret_value()
    assert key != OLD_KEY
    assert new.encryption_key_previous.get_secret_value() == ""
    assert OLD_KEY not in said.text
    assert key not in said.text
    assert (tmp_path / ".env").stat().st_mode == mode
    with postgres.command_connection(new) as connection:
        found = credentials.stored(connection)
        assert len(found) == 3
        assert credentials.unreadable(found, key) == []
        assert credentials.unreadable(found, OLD_KEY) == found
        assert webhook_secrets.current(connection, new, "0300", 0) == secret, "360dialog still has it"


def test_an_interrupted_rotation_is_continued_by_the_same_command(environment, tool, former, monkeypatch):
    environment(DATABASE_URL=former, ENCRYPTION_KEY=OLD_KEY)
    tool("migrate")

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(credentials, "replace_key", interrupt)
        tool("keys", "rotate-encryption", code=130)
    during = load()
    assert during.encryption_key_previous.get_secret_value() == OLD_KEY
    with postgres.command_connection(during) as connection:
        assert credentials.unreadable(credentials.stored(connection), during.decryption_keys) == []
    assert "continuing" in tool("keys", "rotate-encryption").text
    after = load()
    assert after.encryption_key == during.encryption_key
    with postgres.command_connection(after) as connection:
        assert credentials.unreadable(credentials.stored(connection), after.decryption_keys) == []


def test_a_key_from_the_environment_is_not_rotated(environment, tool, former, monkeypatch):
    environment(DATABASE_URL=former, ENCRYPTION_KEY=OLD_KEY)
    tool("migrate")
    monkeypatch.setenv("ENCRYPTION_KEY", OLD_KEY)
    assert "environment" in tool("keys", "rotate-encryption", code=3).err


def test_a_wrong_key_is_not_rotated(environment, tool, former):
    environment(DATABASE_URL=former, ENCRYPTION_KEY=OLD_KEY)
    tool("migrate")
    environment(DATABASE_URL=former, ENCRYPTION_KEY=secrets.token_hex(32))
    before = run(former, "SELECT meta_access_token_encrypted FROM phone_configs ORDER BY id")
    assert "bot 2 of company 0128" in tool("keys", "rotate-encryption", code=3).err
    assert run(former, "SELECT meta_access_token_encrypted FROM phone_configs ORDER BY id") == before
