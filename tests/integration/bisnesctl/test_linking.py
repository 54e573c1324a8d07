"""`bisnesctl bots add` and `verify` against a provider whose answers the test sets."""

import contextlib
import threading
import time

import pytest

from bisnesctl import encryption
from bisnesctl.bots import store
from bisnesctl.errors import Conflict
from services.database.connection import Database
from services.message import Scope
from services.outbox import holds
from services.outbox.outcome_policy import Hold
from tests.support.outbox import accept, entry, execute, outbox
from tests.support.remote.graph_api import ACCOUNT, APP, EXPIRED, NUMBER, SCOPES, WELL, Provider
from tests.support.sandbox import Sandbox, free_port

KEY = "0123456789abcdef" * 4
PUBLIC = "https://bots.example.com"
WORDS = ("--company", "0128", "--phone-number-id", NUMBER)
DAY = 86400


@pytest.fixture
def provider():
    found = Provider()
    found.be_well()
    yield found
    found.close()


@pytest.fixture(autouse=True)
def settings(environment, database, provider):
    def write(**more):
        lines = {"META_APP_ID": APP, "META_APP_SECRET": "app-secret", "META_VERIFY_TOKEN": "word", "PUBLIC_URL": PUBLIC}
        return environment(**provider.settings | lines | {"DATABASE_URL": database} | more)

    write()
    return write


@pytest.fixture
def connection(settings, database):
    with contextlib.closing(Database(database).connect()) as opened:
        yield opened


def row(connection, columns):
    return execute(connection, f"SELECT {columns} FROM phone_configs")[0]


def link(tool, *more, given="EAAG-token\n", code=0):
    return tool("bots", "add", *WORDS, "--token-stdin", *more, given=given, code=code)


def hold(connection, reason="190: the token has expired"):
    """A bot with a message that waits because its token expired."""
    bot = row(connection, "id")[0]
    accept(connection, entry(bot))
    holds.hold(connection, [Hold(bot, Scope.BOT, None, reason)])
    assert outbox().claim(connection, 10) == []
    return bot


# Linking


def test_a_number_is_asked_for_before_it_is_stored(tool, connection, provider):
    said = link(tool, "--waba-id", ACCOUNT)
    assert "Kedai Aina +60 12-345 6789" in said.err
    assert row(connection, "display_phone_number, meta_waba_id, status") == ("+60 12-345 6789", ACCOUNT, "active")
    assert provider.calls() == [f"/{NUMBER}", f"/{ACCOUNT}/phone_numbers", f"/{ACCOUNT}/subscribed_apps"]
    assert {each.headers["Authorization"] for each in provider.asked} == {"Bearer EAAG-token"}


def test_a_number_without_a_named_account_gets_the_only_account_of_the_token(tool, connection, provider):
    scope = {"scope": "whatsapp_business_management", "target_ids": [ACCOUNT]}
    provider.tell("/debug_token", {"data": {"is_valid": True, "granular_scopes": [scope]}})
    link(tool)
    assert row(connection, "meta_waba_id") == (ACCOUNT,)
    assert f"/{ACCOUNT}/subscribed_apps" in provider.calls("POST")


def test_a_refused_token_is_not_stored(tool, connection, provider):
    provider.tell(f"/{NUMBER}", EXPIRED, 401)
    said = link(tool, code=2)
    assert "Session has expired (code 190)" in said.err
    assert "new access token" in said.err
    assert execute(connection, "SELECT count(*) FROM phone_configs") == [(0,)]


def test_a_number_that_the_token_cannot_see_is_not_stored(tool, connection, provider):
    said = tool("bots", "add", "--company", "0128", "--phone-number-id", "9", "--token-stdin", given="EAAG\n", code=2)
    assert "Unsupported request" in said.err
    assert "check the ids" in said.err
    assert execute(connection, "SELECT count(*) FROM phone_configs") == [(0,)]


def test_an_unavailable_provider_is_not_blamed_on_the_token(tool, settings):
    settings(META_GRAPH_URL="http://127.0.0.1:1")
    assert "cannot be reached" in link(tool, code=4).err
    link(tool, "--no-verify")


def test_an_answer_that_is_not_from_the_provider_is_an_error(tool, settings, provider):
    provider.answers["GET", f"/{NUMBER}"] = (200, b"<html>")
    assert "META_GRAPH_URL" in link(tool, code=4).err


def test_no_secret_is_shown_even_if_the_provider_repeats_it(tool, provider):
    provider.tell(f"/{NUMBER}", {"error": {"message": "Malformed access token EAAG-token", "code": 190}})
    for words in ((), ("-v",)):
        said = tool(*words, "bots", "add", *WORDS, "--token-stdin", given="EAAG-token\n", code=2)
        assert "Malformed access token …" in said.err
        assert "EAAG" not in said.text


def test_a_number_is_registered_with_its_pin(tool, provider):
    said = link(tool, "--pin-stdin", given="EAAG-token\n123456\n")
    (asked,) = [each for each in provider.asked if each.path == f"/{NUMBER}/register"]
    assert asked.form == {"messaging_product": "whatsapp", "pin": "123456"}
    assert "123456" not in said.text


@pytest.mark.parametrize("given", ["EAAG-token\n", "EAAG-token\n12345\n", "EAAG-token\n123456\nmore\n"])
def test_a_pin_has_six_digits_on_a_line_of_its_own(tool, connection, given):
    assert "PIN" in link(tool, "--pin-stdin", given=given, code=2).err
    assert execute(connection, "SELECT count(*) FROM phone_configs") == [(0,)]


def test_webhooks_can_be_redirected_from_the_address_of_the_app(tool, provider):
    link(tool, "--waba-id", ACCOUNT, "--set-webhook")
    (asked,) = [each for each in provider.asked if each.method == "POST"]
    assert asked.form == {"override_callback_uri": f"{PUBLIC}/api/meta/webhook", "verify_token": "word"}


def test_without_a_public_url_no_webhook_can_be_set(tool, settings):
    settings(PUBLIC_URL="")
    assert "PUBLIC_URL" in link(tool, "--set-webhook", code=3).err


def test_a_360dialog_number_gets_its_webhook_and_its_secret(tool, connection, provider):
    tool("bots", "add", "--company", "01/28", "--type", "360dialog", "--token-stdin", given="d360-key\n")
    asked = provider.asked[-1]
    secret = encryption.derived(KEY, "360dialog webhook", "01/28", "0")
    url = f"{PUBLIC}/api/360dialog/webhook/01%2F28/0"
    assert (asked.method, asked.json) == ("POST", {"url": url, "headers": {"X-Webhook-Secret": secret}})
    assert {each.headers["D360-API-KEY"] for each in provider.asked} == {"d360-key"}
    assert row(connection, "meta_phone_number_id, meta_waba_id") == ("3601", "3602")


def test_without_a_public_url_a_360dialog_number_is_linked_with_a_hint(tool, settings, provider):
    settings(PUBLIC_URL="")
    said = tool("bots", "add", "--company", "0128", "--type", "360dialog", "--token-stdin", given="d360-key\n")
    assert "PUBLIC_URL" in said.err
    assert provider.calls("POST") == []


def test_a_refused_api_key_is_not_stored(tool, connection, provider):
    refused = {"meta": {"success": False, "http_code": 401, "developer_message": "Invalid api key"}}
    provider.tell("/d360/health_status", refused, 401)
    words = ("--company", "0128", "--type", "360dialog", "--token-stdin")
    assert "Invalid api key" in tool("bots", "add", *words, given="d360-key\n", code=2).err
    assert execute(connection, "SELECT count(*) FROM phone_configs") == [(0,)]


def test_two_bots_cannot_have_one_number(tool, connection):
    link(tool)
    words = ("--company", "0999", "--phone-number-id", NUMBER, "--token-stdin")
    for more in ((), ("--no-verify",)):
        assert "another bot" in tool("bots", "add", *words, *more, given="EAAG\n", code=6).err
    assert execute(connection, "SELECT company_id FROM phone_configs") == [("0128",)]


def test_two_concurrent_links_of_one_number_do_not_both_succeed(settings, database):
    ended: list[bool | None] = []
    found = settings()

    def save(company):
        with contextlib.closing(Database(database).connect()) as mine:
            bot = store.NewBot(company, 0, "meta_direct", NUMBER, ACCOUNT, token="EAAG")
            try:
                ended.append(store.save(mine, bot, found, proved=True))
            except Conflict:
                ended.append(None)

    threads = [threading.Thread(target=save, args=(f"0{n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ended, key=str) == [None] * 7 + [True]


def test_a_number_that_goes_over_to_whatsapp_web_leaves_its_ids_behind(tool, connection):
    link(tool, "--waba-id", ACCOUNT)
    tool("bots", "add", "--company", "0128", "--wwebjs")
    assert row(connection, "connection_type, meta_phone_number_id, meta_waba_id") == ("wwebjs", None, None)


def test_the_account_that_the_number_reports_is_verified(tool, connection, provider):
    entities = [{"entity_type": "WABA", "id": ACCOUNT}]
    provider.tell(f"/{NUMBER}", {**WELL, "health_status": {"can_send_message": "AVAILABLE", "entities": entities}})
    link(tool)
    assert row(connection, "meta_waba_id") == (ACCOUNT,)
    provider.tell(f"/{ACCOUNT}/phone_numbers", {"data": [{"id": "9"}]})
    said = link(tool, given="EAAG-renewed\n")
    assert row(connection, "meta_waba_id") == (None,)
    assert "--waba-id" in said.err


def test_a_rate_is_set_and_reset(tool, connection, provider):
    link(tool, "--rate", "80")
    asked = len(provider.asked)
    assert execute(connection, "SELECT rate FROM bot_pace") == [(80.0,)]
    assert tool("bots", "list", "--json").json[0]["rate"] == 80
    tool("bots", "add", "--company", "0128")
    assert execute(connection, "SELECT rate FROM bot_pace") == [(80.0,)]
    tool("bots", "add", "--company", "0128", "--rate", "default")
    assert execute(connection, "SELECT rate FROM bot_pace") == [(None,)]
    assert len(provider.asked) == asked


@pytest.mark.parametrize("rate", ["-1", "fast", "nan", "inf", "1001"])
def test_an_invalid_rate_is_refused(tool, settings, rate):
    assert "default" in tool("bots", "add", "--company", "0128", "--rate", rate, code=2).text


# Going on


def test_a_held_bot_resumes_without_a_query_if_nothing_changes(tool, connection, provider):
    link(tool)
    hold(connection)
    asked = len(provider.asked)
    tool("bots", "add", "--company", "0128")
    assert len(outbox().claim(connection, 10)) == 1
    assert len(provider.asked) == asked


def test_a_held_bot_resumes_with_a_new_token(tool, connection):
    link(tool)
    hold(connection)
    link(tool, given="EAAG-renewed\n")
    assert len(outbox().claim(connection, 10)) == 1


def test_a_token_that_is_refused_releases_nothing(tool, connection, provider):
    link(tool)
    hold(connection)
    provider.tell(f"/{NUMBER}", EXPIRED, 401)
    link(tool, given="EAAG-renewed\n", code=2)
    assert outbox().claim(connection, 10) == []
    assert encryption.decrypt(KEY, row(connection, "meta_access_token_encrypted")[0]) == "EAAG-token"


def test_a_held_bot_resumes_when_another_program_replaces_its_token(tool, connection):
    link(tool)
    hold(connection)
    execute(connection, "UPDATE phone_configs SET display_phone_number = 'x'")
    assert outbox().claim(connection, 10) == []
    new = encryption.encrypt_shared(KEY, "EAAG-renewed")
    execute(connection, "UPDATE phone_configs SET meta_access_token_encrypted = %s", (new,))
    assert len(outbox().claim(connection, 10)) == 1


def test_another_number_id_is_verified_with_the_stored_token(tool, connection, provider):
    link(tool)
    provider.tell("/1056", {**WELL, "id": "1056", "verified_name": "Another"})
    said = tool("bots", "add", "--company", "0128", "--phone-number-id", "1056")
    assert "Another" in said.err
    (asked,) = [each for each in provider.asked if each.path == "/1056"]
    assert asked.headers["Authorization"] == "Bearer EAAG-token"


# Verifying


def verify(tool, *more, code=0):
    return tool("bots", "verify", *more, code=code)


def check(connection):
    return execute(connection, "SELECT status, report -> 'problems' -> 0 ->> 'code' FROM bot_check")[0]


def test_a_bot_without_problems_is_verified(tool, connection, provider):
    link(tool, "--waba-id", ACCOUNT)
    said = verify(tool)
    assert all(word in said.out for word in ("0128-0", "Kedai Aina", "AVAILABLE", "GREEN", "STANDARD", "never", "yes"))
    assert check(connection) == ("ok", None)
    assert tool("bots", "list", "--json").json[0]["check"] == "ok"


def test_problems_are_shown_with_the_next_step(tool, connection, provider):
    link(tool, "--waba-id", ACCOUNT)
    entity = {"entity_type": "WABA", "errors": [{"error_description": "No card", "possible_solution": "Add one"}]}
    blocked = {"can_send_message": "BLOCKED", "entities": [entity]}
    provider.tell(f"/{NUMBER}", {**WELL, "health_status": blocked})
    soon = int(time.time()) + 5 * DAY
    provider.tell("/debug_token", {"data": {"is_valid": True, "expires_at": soon, "scopes": SCOPES}})
    said = verify(tool, code=5)
    assert "BLOCKED" in said.out
    assert "No card: Add one" in said.out
    assert "expires on" in said.out
    assert "--token-stdin" in said.out
    assert check(connection) == ("error", "blocked")
    found = verify(tool, "--json", code=5).json[0]
    assert [each["code"] for each in found["problems"]] == ["blocked", "token_expires"]
    assert (found["status"], found["report"]["token_expires_at"]) == ("error", soon)


def test_the_app_queries_the_token_without_a_secret_in_a_url(tool, connection, provider):
    link(tool, "--waba-id", ACCOUNT)
    verify(tool)
    (asked,) = [each for each in provider.asked if each.path == "/debug_token"]
    assert asked.headers["Authorization"] == f"Bearer {APP}|app-secret"
    assert asked.query == {"input_token": "EAAG-token"}
    assert not any("app-secret" in str(each.query) for each in provider.asked)


def test_webhooks_at_another_address_are_a_problem(tool, connection, provider):
    link(tool, "--waba-id", ACCOUNT)
    apps = f"/{ACCOUNT}/subscribed_apps"
    app = {"whatsapp_business_api_data": {"id": APP}, "override_callback_uri": "https://other.example/hook"}
    provider.tell(apps, {"data": [app]})
    assert "https://other.example/hook" in verify(tool, code=5).out
    provider.tell(apps, {"data": [{"whatsapp_business_api_data": {"id": "another app"}}]})
    assert "sends no webhooks" in verify(tool, code=5).out
    provider.tell(apps, {"error": {"message": "Not permitted", "code": 200}})
    assert "the subscription of webhooks is unknown" in verify(tool, code=5).out


@pytest.mark.parametrize(
    ("found", "code"),
    [
        ({"application": f"{PUBLIC}/api/meta/webhook"}, 0),
        ({"application": "https://other.example"}, 5),
        ({"application": "https://other.example", "phone_number": f"{PUBLIC}/api/meta/webhook"}, 0),
    ],
)
def test_the_webhook_address_of_the_number_or_the_app_counts(tool, connection, provider, found, code):
    link(tool, "--waba-id", ACCOUNT)
    provider.tell(f"/{NUMBER}", {**WELL, "webhook_configuration": found})
    verify(tool, code=code)


def test_a_360dialog_number_is_verified(tool, connection, provider):
    tool("bots", "add", "--company", "0128", "--type", "360dialog", "--token-stdin", given="d360-key\n")
    verify(tool)
    provider.tell("/d360/v1/configs/webhook", {"url": "https://other.example"})
    assert "https://other.example" in verify(tool, code=5).out


def test_a_provider_that_does_not_answer_is_reported(tool, settings, connection):
    link(tool)
    settings(META_GRAPH_URL="http://127.0.0.1:1")
    assert "cannot be reached" in verify(tool, code=5).out


def test_a_credential_that_cannot_be_decrypted_is_reported(tool, settings, connection):
    link(tool)
    settings(ENCRYPTION_KEY="f" * 64)
    assert "ENCRYPTION_KEY" in verify(tool, code=5).out


def test_only_bots_with_a_provider_can_be_verified(tool, connection):
    assert "no Meta or 360dialog bots" in verify(tool).err
    tool("bots", "add", "--company", "0128", "--type", "wwebjs")
    assert "WhatsApp Web" in verify(tool, "--company", "0128", "--phone", "0", code=2).err
    assert "does not exist" in verify(tool, "--company", "0128", "--phone", "7", code=2).err
    assert verify(tool, "--company", "0128", "--json").json == []


def test_numbers_in_the_sandbox_are_linked_and_verified(tool, environment, database, tmp_path, connection):
    folder = tmp_path / "sandbox"
    folder.mkdir()
    sandbox = Sandbox(folder, free_port(), free_port())
    try:
        environment(DATABASE_URL=database, SANDBOX="true", SANDBOX_PORT=sandbox.port, META_APP_SECRET="app-secret")
        link(tool, "--waba-id", "100000000000001", "--pin-stdin", given="sandbox-token\n123456\n")
        words = ("--company", "0128", "--phone", "1", "--type", "360dialog", "--token-stdin")
        tool("bots", "add", *words, given="sandbox-key\n")
        verify(tool)
        sandbox.control("number", phone_number_id=NUMBER, can_send_message="BLOCKED")
        sandbox.control("token", token="sandbox-token", expires_at=int(time.time()) + 3 * DAY)
        found = verify(tool, "--phone", "0", "--json", code=5).json[0]
        assert [each["code"] for each in found["problems"]] == ["blocked", "token_expires"]
        assert link(tool, given="expired-token\n", code=2)
    finally:
        sandbox.end()


def test_a_check_and_a_new_credential_at_once_do_not_wait_for_each_other(tool, connection, database):
    """Locks are taken in one order, regardless of who comes first."""
    from bisnesctl.bots.check_records import record
    from bisnesctl.bots.provider_report import ProviderReport, problems

    link(tool)
    bot = row(connection, "id")[0]
    execute(connection, "INSERT INTO event_feed (company_id) VALUES ('0128')")
    reports = [ProviderReport(), ProviderReport(can_send="BLOCKED")]

    def check_often():
        with contextlib.closing(Database(database).connect()) as mine:
            for n in range(60):
                report = reports[n % 2]
                record(mine, bot, report, problems(report, 0))

    thread = threading.Thread(target=check_often)
    thread.start()
    for n in range(60):
        holds.hold(connection, [Hold(bot, Scope.BOT, None, "190")])
        execute(connection, "UPDATE phone_configs SET meta_access_token_encrypted = %s", (f"v{n}",))
    thread.join()
    assert execute(connection, "SELECT held_until = '-infinity' FROM bot_pace") == [(True,)]
