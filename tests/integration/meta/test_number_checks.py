"""The regular checks of numbers: due ones once, changes reported, a refused credential holds its queue."""

import threading
from dataclasses import replace

import pytest

from bisnesctl import encryption
from bisnesctl.bots import hold_ends
from bisnesctl.bots.check_records import troubled
from bisnesctl.encryption import EncryptionError
from bisnesctl.setting_fields import SecretStr
from services.connectors.meta.number_checks import NumberChecks
from services.message import Scope, Secret
from services.outbox import holds
from services.outbox.outcome_policy import Hold
from services.runtime.account_cache import find_bot_by_id
from tests.support.api import NOWHERE, settings_for
from tests.support.outbox import accept, entry, execute, outbox
from tests.support.remote.graph_api import EXPIRED, NUMBER, WELL, Provider

KEY = "0" * 64


@pytest.fixture
def provider():
    found = Provider()
    found.be_well()
    yield found
    found.close()


@pytest.fixture
def connection(opened):
    execute(opened[0], "INSERT INTO event_feed (company_id) VALUES ('0128')")
    return opened[0]


@pytest.fixture
def checks(opened, database, tmp_path, provider):
    return make_checks(opened[1], settings_for(database, tmp_path, **provider.settings))


def make_checks(pool, settings):
    def bot_of(bot_id):
        with pool.connection() as connection:
            bot = find_bot_by_id(connection, bot_id)
        return bot and replace(bot, access_token=Secret(encryption.decrypt(KEY, bot.access_token.value)))

    return NumberChecks(settings, bot_of)


def add_bot(connection, index=0, number=NUMBER, token="EAAG-token", kind="meta_direct"):
    column = "api_key_encrypted" if kind == "360dialog" else "meta_access_token_encrypted"
    return execute(
        connection,
        f"INSERT INTO phone_configs (company_id, phone_index, connection_type, meta_phone_number_id, {column})"
        " VALUES ('0128', %s, %s, %s, %s) RETURNING id",
        (index, kind, number, encryption.encrypt_shared(KEY, token)),
    )[0][0]


def found(connection, bot):
    return execute(
        connection,
        "SELECT status, report #>> '{problems,0,code}', due > now() FROM bot_check WHERE bot_id = %s",
        (bot,),
    )


def make_due(connection):
    execute(connection, "UPDATE bot_check SET due = now()")


def events(connection):
    return [tuple(row[0].values()) for row in execute(
        connection, "SELECT jsonb_build_object('a', name, 'b', payload ->> 'status') FROM event ORDER BY seq"
    )]  # fmt: skip


def notes(connection):
    return execute(connection, "SELECT event_type, severity FROM process_events ORDER BY id")


def test_each_due_number_is_checked_once(checks, connection, provider):
    bots = [add_bot(connection), add_bot(connection, 1, "3601", "d360-key", "360dialog")]
    execute(connection, "INSERT INTO phone_configs (company_id, phone_index) VALUES ('0128', 2)")  # WhatsApp Web
    assert [checks.work(connection) for _ in range(3)] == [True, True, False]
    assert [found(connection, bot) for bot in bots] == [[("ok", None, True)]] * 2
    assert execute(connection, "SELECT count(*) FROM bot_check") == [(2,)]
    assert events(connection) == []
    assert notes(connection) == []


def test_several_processes_do_not_check_the_same(opened, checks, connection, provider):
    for index in range(6):
        add_bot(connection, index, f"20{index}")
        provider.tell(f"/20{index}", WELL)

    def work():
        with opened[1].connection() as mine:
            while checks.work(mine):
                pass

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(path for path in provider.calls() if path.startswith("/20")) == [f"/20{n}" for n in range(6)]


def test_a_change_raises_one_event(checks, connection, provider):
    bot = add_bot(connection)
    checks.work(connection)
    provider.tell(f"/{NUMBER}", {**WELL, "health_status": {"can_send_message": "LIMITED"}})
    for _ in range(2):
        make_due(connection)
        checks.work(connection)
    assert found(connection, bot) == [("warning", "limited", True)]
    assert events(connection) == [("bot.status", "warning")]
    provider.tell(f"/{NUMBER}", {**WELL, "health_status": {"can_send_message": "BLOCKED"}})
    make_due(connection)
    checks.work(connection)
    provider.tell(f"/{NUMBER}", WELL)
    make_due(connection)
    checks.work(connection)
    assert [status for _, status in events(connection)] == ["warning", "error", "active"]
    assert notes(connection) == [("bot_check", "warning"), ("bot_check", "error"), ("bot_check", "info")]


def test_a_refused_token_holds_the_number_with_its_queue_until_there_is_another(checks, connection, provider):
    bot = add_bot(connection)
    accept(connection, entry(bot))
    provider.tell(f"/{NUMBER}", EXPIRED, 401)
    checks.work(connection)
    assert found(connection, bot) == [("error", "invalid_token", True)]
    assert outbox().claim(connection, 10) == []
    assert events(connection) == [("bot.status", "waiting")]

    new = encryption.encrypt_shared(KEY, "EAAG-renewed")
    execute(connection, "UPDATE phone_configs SET meta_access_token_encrypted = %s", (new,))
    assert len(outbox().claim(connection, 10)) == 1
    assert events(connection) == [("bot.status", "waiting"), ("bot.status", "active")]
    assert found(connection, bot)[0][2] is False  # due at once


def hold(connection, bot, code="190", ago="0 s"):
    """A number that is held because of this code."""
    holds.hold(connection, [Hold(bot, Scope.BOT, None, f"{code}: refused", code=code)])
    execute(connection, "UPDATE bot_pace SET held_at = now() - %s::interval WHERE bot_id = %s", (ago, bot))


def held(connection, bot):
    return execute(connection, "SELECT held_until > now() FROM bot_pace WHERE bot_id = %s", (bot,))[0][0]


def check_again(checks, connection):
    make_due(connection)
    checks.work(connection)


@pytest.mark.parametrize("end", [each for each in hold_ends.TABLE if each.lifted_by_checks], ids=lambda end: end.cause)
def test_a_check_that_finds_the_number_well_ends_its_hold(checks, connection, end):
    bot = add_bot(connection)
    accept(connection, entry(bot))
    for code in end.codes:
        hold(connection, bot, code, ago="11 min")
        assert outbox().claim(connection, 10) == []
        check_again(checks, connection)
        assert not held(connection, bot), code
    assert len(outbox().claim(connection, 10)) == 1
    assert events(connection) == [("bot.status", "waiting"), ("bot.status", "active")] * len(end.codes)


def test_a_refused_token_that_is_accepted_again_ends_its_hold(checks, connection, provider):
    bot = add_bot(connection)
    provider.tell(f"/{NUMBER}", EXPIRED, 401)
    checks.work(connection)
    assert held(connection, bot)
    provider.tell(f"/{NUMBER}", WELL)
    check_again(checks, connection)
    assert not held(connection, bot)
    assert events(connection) == [("bot.status", "waiting"), ("bot.status", "active")]


@pytest.mark.parametrize("health", [{"can_send_message": "BLOCKED"}, None])
def test_a_check_that_finds_trouble_ends_no_hold(checks, connection, provider, health):
    bot = add_bot(connection)
    hold(connection, bot)
    if health:
        provider.tell(f"/{NUMBER}", WELL | {"health_status": health})
    else:
        provider.tell(f"/{NUMBER}", {"error": {"message": "down", "code": 2}}, 503)
    check_again(checks, connection)
    assert held(connection, bot)


def test_a_cause_that_comes_back_is_left_for_longer_each_time(checks, connection):
    bot = add_bot(connection)
    hold(connection, bot)
    check_again(checks, connection)
    for minutes in (15, 30, 60):
        hold(connection, bot, ago=f"{minutes - 1} min")
        check_again(checks, connection)
        assert held(connection, bot)
        execute(connection, "UPDATE bot_pace SET held_at = now() - %s * interval '1 min'", (minutes + 1,))
        check_again(checks, connection)
        assert not held(connection, bot)
    hold(connection, bot, code="131042")  # another cause
    check_again(checks, connection)
    assert not held(connection, bot)


def test_a_hold_by_metas_word_outlives_the_check_that_it_causes(checks, connection):
    bot = add_bot(connection)
    hold(connection, bot, "account_update.DISABLED_UPDATE")
    check_again(checks, connection)
    assert held(connection, bot)


def test_a_hold_without_a_cause_is_left_to_the_operator(checks, connection):
    bot = add_bot(connection)
    holds.hold(connection, [Hold(bot, Scope.BOT, None, "its linking is not finished")])
    check_again(checks, connection)
    assert held(connection, bot)


def test_a_credential_that_was_replaced_during_the_check_is_not_held(checks, connection, provider, opened):
    bot = add_bot(connection)

    def answer():
        new = encryption.encrypt_shared(KEY, "EAAG-renewed")
        with opened[1].connection() as other:
            execute(other, "UPDATE phone_configs SET meta_access_token_encrypted = %s", (new,))
        return 401, EXPIRED

    provider.answers["GET", f"/{NUMBER}"] = answer
    checks.work(connection)
    assert execute(connection, "SELECT held_until = '-infinity' FROM bot_pace WHERE bot_id = %s", (bot,)) == [(True,)]


def test_a_check_without_an_answer_changes_nothing(opened, checks, connection, provider, database, tmp_path):
    bot = add_bot(connection)
    checks.work(connection)
    make_due(connection)
    away = make_checks(opened[1], settings_for(database, tmp_path, META_GRAPH_URL=NOWHERE))
    assert away.work(connection)
    assert found(connection, bot) == [("ok", None, True)]
    assert events(connection) == []
    soon = "SELECT due < now() + %s * interval '1 minute' FROM bot_check"
    assert execute(connection, soon, (away.settings.bot_check_minutes / 2,)) == [(True,)]


def test_a_credential_that_cannot_be_decrypted_is_reported(checks, connection):
    bot = add_bot(connection)

    def locked(_):
        raise EncryptionError("another ENCRYPTION_KEY")

    assert replace(checks, bot_of=locked).work(connection)
    assert found(connection, bot) == [("error", "number_refused", True)]


def test_a_bot_that_is_removed_during_its_check_leaves_no_row(checks, connection, provider, opened):
    add_bot(connection)

    def answer():
        with opened[1].connection() as other:
            execute(other, "DELETE FROM phone_configs")
        return 200, WELL

    provider.answers["GET", f"/{NUMBER}"] = answer
    assert checks.work(connection)
    assert execute(connection, "SELECT count(*) FROM bot_check") == [(0,)]


def test_bots_with_problems_are_listed_and_none_without_a_database(checks, connection, provider):
    add_bot(connection)
    provider.tell(f"/{NUMBER}", {**WELL, "health_status": {"can_send_message": "BLOCKED"}})
    checks.work(connection)
    (trouble,) = troubled(checks.settings)
    assert (trouble.name, trouble.status) == ("0128-0", "error")
    assert "BLOCKED" in trouble.reason
    assert troubled(checks.settings.copy_with(database_url=SecretStr("postgresql://bisnes@127.0.0.1:1/bisnes"))) == []


# Ids


def set_ids(connection, bot, number, account, **more):
    columns = {"meta_phone_number_id": number, "meta_waba_id": account} | more
    changes = ", ".join(f"{name} = %s" for name in columns)
    execute(connection, f"UPDATE phone_configs SET {changes} WHERE id = %s", (*columns.values(), bot))


def ids(connection, bot):
    return execute(connection, "SELECT meta_phone_number_id, meta_waba_id FROM phone_configs WHERE id = %s", (bot,))[0]


@pytest.mark.parametrize(
    ("stored", "corrected"),
    [(("9001", "9002"), True), (("3601", "9002"), True), (("9001", None), True), ((None, None), False)],
)
def test_the_ids_of_a_360dialog_number_are_corrected(checks, connection, stored, corrected):
    bot = add_bot(connection, number=None, token="d360-key", kind="360dialog")
    set_ids(connection, bot, *stored)
    checks.work(connection)
    assert ids(connection, bot) == ("3601", "3602")
    assert (("bot_ids_corrected", "warning") in notes(connection)) is corrected


def test_an_id_that_another_bot_has_is_not_stored_twice(checks, connection):
    add_bot(connection, 1, "3601")
    bot = add_bot(connection, number="9001", token="d360-key", kind="360dialog")
    execute(connection, "UPDATE bot_check SET due = now() + interval '1 day'")
    while checks.work(connection):
        pass
    assert ids(connection, bot) == (None, "3602")


def test_ids_that_were_stored_during_the_check_stay(checks, connection, provider, opened):
    bot = add_bot(connection, number="9001", token="d360-key", kind="360dialog")
    told = provider.answers["GET", "/d360/health_status"]

    def answer():
        with opened[1].connection() as other:
            set_ids(other, bot, "9001", None, api_key_encrypted=encryption.encrypt_shared(KEY, "another-key"))
        return told

    provider.answers["GET", "/d360/health_status"] = answer
    checks.work(connection)
    assert ids(connection, bot) == ("9001", None)


@pytest.mark.parametrize(
    ("numbers", "account"),
    [
        ({"data": [{"id": NUMBER}]}, "77"),
        ({"data": [{"id": "9"}]}, None),
        ({"error": {"message": "Missing permission", "code": 200}}, "77"),
    ],
)
def test_an_account_that_does_not_list_the_number_is_forgotten(checks, connection, provider, numbers, account):
    bot = add_bot(connection)
    set_ids(connection, bot, NUMBER, "77")
    provider.tell("/77/phone_numbers", numbers)
    checks.work(connection)
    assert ids(connection, bot) == (NUMBER, account)


def test_a_number_that_names_its_account_needs_no_second_request(checks, connection, provider):
    bot = add_bot(connection)
    set_ids(connection, bot, NUMBER, "77")
    entities = [{"entity_type": "WABA", "id": "77"}]
    provider.tell(f"/{NUMBER}", {**WELL, "health_status": {"can_send_message": "AVAILABLE", "entities": entities}})
    checks.work(connection)
    assert ids(connection, bot) == (NUMBER, "77")
    assert "/77/phone_numbers" not in provider.calls()


@pytest.mark.parametrize(
    ("kind", "state", "number"),
    [("meta_embedded", "pending", None), ("meta_embedded", "active", "9"), ("meta_direct", "pending", "9")],
)
def test_ids_of_a_signup_that_was_never_finished_are_believed_no_more(checks, connection, kind, state, number):
    bot = add_bot(connection, number="9", kind=kind)
    set_ids(connection, bot, "9", None, status=state)
    checks.work(connection)
    assert ids(connection, bot) == (number, None)
