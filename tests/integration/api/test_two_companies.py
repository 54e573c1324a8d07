"""Nothing of one company reaches another: not by ids that it names, not by webhooks, not by any route of the API."""

import pytest
import requests

from services.message import Scope
from services.outbox import holds
from services.outbox.outcome_policy import Hold
from tests.support.api import KEY, OTHER, OTHER_KEY, serving, settings_for
from tests.support.meta_payloads import message
from tests.support.outbox import execute
from tests.support.two_companies import (
    ACCOUNT,
    APP_SECRET,
    CHAT,
    COMPANY,
    DIALOG_ACCOUNT,
    DIALOG_NUMBER,
    MARK,
    NUMBER,
    OTHER_ACCOUNT,
    OTHER_DIALOG,
    OTHER_DIALOG_ACCOUNT,
    OTHER_NUMBER,
    UNLINKED,
    Providers,
    Webhooks,
    about,
    bot_id,
    rows_of,
    sent,
    status,
)
from tests.support.waiting import HANG_SECONDS

IDS = "SELECT meta_phone_number_id, meta_waba_id FROM phone_configs WHERE company_id = %s AND phone_index = %s"


class World:
    """The API, the webhooks and the database with both companies' numbers, each linked with its own credentials."""

    def __init__(self, url, settings, connection, provider):
        self.url, self.connection, self.provider = url, connection, provider
        self.webhooks = Webhooks(settings, connection)

    def link(self, key=OTHER_KEY, **fields):
        return self.ask("POST", "/api/bots", key, json=fields)

    def ask(self, method, path, key=OTHER_KEY, **more):
        return requests.request(method, self.url + path, headers={"X-Api-Key": key}, timeout=HANG_SECONDS, **more)

    def ids(self, phone, company=OTHER):
        found = execute(self.connection, IDS, (company, phone))
        return found[0] if found else None

    def rows(self):
        return rows_of(self.connection)

    def events(self, company=OTHER):
        return execute(self.connection, "SELECT name, payload::text FROM event WHERE company_id = %s", (company,))


@pytest.fixture
def world(database, tmp_path, opened):
    connection, provider = opened[0], Providers()
    keys = ((KEY, COMPANY), (OTHER_KEY, OTHER))
    for key, company in keys:
        execute(
            connection,
            "INSERT INTO api_keys (key_hash, prefix, company_id) VALUES (sha256(%s::bytea), 'bk', %s)",
            (key, company),
        )
        execute(connection, "INSERT INTO event_feed (company_id) VALUES (%s)", (company,))
    lines = {"META_APP_ID": "4711", "META_APP_SECRET": APP_SECRET, "PUBLIC_URL": "https://bots.example.com"}
    settings = settings_for(database, tmp_path, **provider.settings | lines)
    with serving(settings) as url:
        world = World(url, settings, connection, provider)
        for key, company in keys:
            number, account = (NUMBER, ACCOUNT) if company == COMPANY else (OTHER_NUMBER, OTHER_ACCOUNT)
            meta = {"phoneNumberId": number, "wabaId": account, "token": f"EAAG-{company}"}
            for phone, fields in enumerate((meta, {"type": "360dialog", "token": f"d360-{company}"})):
                answer = world.link(key, phoneIndex=phone, **fields)
                assert answer.status_code == 201, answer.text
        yield world
        world.webhooks.close()
    provider.close()


# Ids that a company names


CLAIMS = {
    "360dialog's number": {"type": "360dialog", "token": "d360-0999", "phoneNumberId": "{number}"},
    "360dialog's account": {"type": "360dialog", "token": "d360-0999", "wabaId": "{account}"},
    "360dialog's both": {
        "type": "360dialog", "token": "d360-0999", "phoneNumberId": "{number}", "wabaId": "{account}",
    },
    "WhatsApp Web's number": {"type": "wwebjs", "phoneNumberId": "{number}"},
    "WhatsApp Web's account": {"type": "wwebjs", "wabaId": "{account}"},
    "Meta's number": {"token": "EAAG-0999", "phoneNumberId": "{number}"},
    "Meta's number and account": {"token": "EAAG-0999", "phoneNumberId": "{number}", "wabaId": "{account}"},
    "Meta's account": {"token": "EAAG-0999", "phoneNumberId": OTHER_NUMBER, "wabaId": "{account}"},
    "the signup's number": {"type": "meta_embedded", "code": "AQ", "coexistence": True, "phoneNumberId": "{number}"},
    "the signup's account": {
        "type": "meta_embedded", "code": "AQ", "coexistence": True, "phoneNumberId": OTHER_NUMBER,
        "wabaId": "{account}",
    },
}  # fmt: skip
TARGETS = {
    "linked": (NUMBER, ACCOUNT),
    "linked at 360dialog": (DIALOG_NUMBER, DIALOG_ACCOUNT),
    "not linked": (UNLINKED, ACCOUNT),
    "nobody's": ("555", "666"),
}


def claim(fields, number, account):
    return {name: value.format(number=number, account=account) if isinstance(value, str) else value
            for name, value in fields.items()}  # fmt: skip


@pytest.mark.parametrize("name", CLAIMS)
@pytest.mark.parametrize("phone", [0, 1, 5])
def test_ids_that_are_not_ones_own_are_refused_and_the_answer_does_not_tell_whose_they_are(world, name, phone):
    """By a new number, and by each that is linked already."""
    before, own, said = world.rows(), world.ids(phone), set()
    for number, account in TARGETS.values():
        answer = world.link(phoneIndex=phone, **{"type": "meta_direct"} | claim(CLAIMS[name], number, account))
        assert answer.status_code in (400, 409, 422), answer.text
        assert answer.json()["code"] in ("invalid_request", "id_mismatch", "link_failed"), answer.text
        said.add((answer.status_code, answer.text.replace(number, "N").replace(account, "A")))
        assert world.ids(phone) in (own, (None, None))
    assert len(said) == 1
    assert world.rows() == before


def test_the_ids_of_a_360dialog_number_are_those_that_its_key_is_for(world):
    assert world.ids(1) == (OTHER_DIALOG, OTHER_DIALOG_ACCOUNT)
    same = {"type": "360dialog", "phoneIndex": 1, "token": "d360-0999"}
    assert world.link(**same, phoneNumberId=OTHER_DIALOG, wabaId=OTHER_DIALOG_ACCOUNT).status_code == 200
    world.provider.unsaid = {"WABA"}
    assert world.link(**same).status_code == 200
    assert world.ids(1) == (OTHER_DIALOG, None)
    assert world.link(**same, wabaId=OTHER_DIALOG_ACCOUNT).json()["code"] == "id_mismatch"
    world.provider.unsaid = {"WABA", "PHONE_NUMBER"}
    assert world.link(type="360dialog", phoneIndex=6, token="d360-0999", phoneNumberId="1").status_code == 409
    assert world.link(type="360dialog", phoneIndex=6, token="d360-0999").status_code == 201
    assert world.ids(6) == (None, None)


def test_a_new_credential_must_open_the_same_number_unless_another_one_is_named(world):
    answer = world.link(phoneIndex=0, token="EAAG-0128")
    assert (answer.status_code, answer.json()["step"]) == (422, "number")
    answer = world.link(KEY, phoneIndex=1, token="d360-0999")
    assert (answer.status_code, answer.json()["code"]) == (409, "id_mismatch")
    assert world.ids(1, COMPANY) == (DIALOG_NUMBER, DIALOG_ACCOUNT)


def test_a_second_company_that_proves_a_number_is_refused_before_its_provider_is_changed(world):
    asked = len(world.provider.asked)
    answer = world.link(phoneIndex=7, token="EAAG-0128", phoneNumberId=NUMBER, wabaId=ACCOUNT, pin="123456")
    assert (answer.status_code, answer.json()["code"]) == (409, "number_taken")
    answer = world.link(phoneIndex=7, type="360dialog", token="d360-0128")
    assert (answer.status_code, answer.json()["code"]) == (409, "number_taken")
    assert [each.path for each in world.provider.asked[asked:] if each.method == "POST"] == []


def test_an_account_is_searched_page_by_page(world):
    pages = [{"data": [{"id": str(n)}], "paging": {"cursors": {"after": str(n)}, "next": "more"}} for n in range(3)]
    pages.append({"data": [{"id": OTHER_NUMBER}], "paging": {"cursors": {"after": "3"}}})

    def page():
        return 200, pages[int(world.provider.asked[-1].query.get("after", -1)) + 1]

    world.provider.answers["GET", f"/{OTHER_ACCOUNT}/phone_numbers"] = page
    again = {"phoneIndex": 0, "token": "EAAG-0999", "wabaId": OTHER_ACCOUNT}
    assert world.link(**again).status_code == 200
    pages[-1] = {"data": []}
    answer = world.link(**again)
    assert (answer.status_code, answer.json()["step"]) == (422, "account")


def test_the_same_is_refused_where_it_is_typed(tool, environment, database, world):
    environment(DATABASE_URL=database, META_APP_SECRET=APP_SECRET, **world.provider.settings)
    before = world.rows()
    words = ("bots", "add", "--company", OTHER, "--phone", "5")
    assert "no ids" in tool(*words, "--wwebjs", "--phone-number-id", NUMBER, code=2).err
    assert "no ids" in tool(*words, "--wwebjs", "--waba-id", ACCOUNT, "--no-verify", code=2).err
    key = ("--type", "360dialog", "--token-stdin")
    assert OTHER_DIALOG in tool(*words, *key, "--phone-number-id", NUMBER, given="d360-0999\n", code=6).err
    named = ("--phone-number-id", OTHER_NUMBER, "--waba-id", ACCOUNT, "--token-stdin")
    assert "account" in tool(*words, *named, given="EAAG-0999\n", code=2).err
    assert world.ids(5) is None
    assert world.rows() == before


def test_a_squatter_that_is_stored_loses_the_id_with_the_next_check(world):
    """Rows that were stored when ids were believed."""
    execute(
        world.connection,
        "UPDATE phone_configs SET meta_phone_number_id = %s, meta_waba_id = %s"
        " WHERE company_id = %s AND phone_index = 1",
        (UNLINKED, ACCOUNT, OTHER),
    )
    assert world.ask("POST", f"/api/bots/{OTHER}/1/verify").status_code == 200
    assert world.ids(1) == (OTHER_DIALOG, OTHER_DIALOG_ACCOUNT)
    execute(
        world.connection, "UPDATE phone_configs SET meta_waba_id = %s WHERE company_id = %s", (OTHER_ACCOUNT, OTHER)
    )
    world.provider.tell(f"/{OTHER_ACCOUNT}/phone_numbers", {"data": []})
    world.ask("POST", f"/api/bots/{OTHER}/0/verify")
    assert world.ids(0) == (OTHER_NUMBER, None)
    events = execute(world.connection, "SELECT event_type FROM process_events WHERE event_type = 'bot_ids_corrected'")
    assert len(events) == 2
    assert world.link(KEY, phoneIndex=4, token="EAAG-0128", phoneNumberId=UNLINKED, wabaId=ACCOUNT).status_code == 201


# Webhooks


def claim_everything(world):
    for n, fields in enumerate(CLAIMS.values()):
        for m, target in enumerate(TARGETS.values()):
            world.link(phoneIndex=100 + 10 * n + m, **claim(fields, *target))


def test_webhooks_signed_by_meta_reach_the_company_that_proved_the_number(world):
    claim_everything(world)
    secret = message("text", {"body": f"a secret {MARK}"})
    for number in (UNLINKED, DIALOG_NUMBER, NUMBER):
        world.webhooks.of_meta(("messages", about(number, messages=[secret | {"id": f"wamid.{number}"}])))
    world.webhooks.of_meta(("message_template_status_update", {"message_template_name": MARK, "event": "APPROVED"}))
    world.webhooks.of_meta(("account_update", {"event": "DISABLED_UPDATE", "why": MARK}), account=DIALOG_ACCOUNT)
    assert not [payload for _, payload in world.events() if MARK in payload]
    assert execute(world.connection, "SELECT count(*) FROM messages WHERE company_id = %s", (OTHER,)) == [(0,)]
    assert {name for name, _ in world.events(COMPANY)} >= {"message", "template.status", "account.update"}
    held = "SELECT company_id FROM bot_pace JOIN phone_configs c ON c.id = bot_id WHERE held_until = 'infinity'"
    assert {row[0] for row in execute(world.connection, held)} <= {COMPANY, OTHER}
    assert bot_id(world.connection, COMPANY, 1) in {
        row[0] for row in execute(world.connection, "SELECT bot_id FROM bot_pace WHERE held_until = 'infinity'")
    }


def test_an_account_wide_limit_holds_the_numbers_of_that_account_alone(world):
    claim_everything(world)
    execute(
        world.connection,
        "INSERT INTO phone_configs (company_id, phone_index, connection_type, meta_waba_id)"
        " VALUES (%s, 20, 'meta_direct', ''), (%s, 20, 'meta_direct', '')",
        (COMPANY, OTHER),
    )
    for (bot,) in execute(world.connection, "SELECT id FROM phone_configs WHERE company_id = %s", (OTHER,)):
        holds.hold(world.connection, [Hold(bot, Scope.ACCOUNT, 300, "80007: too many calls")])
    held = "SELECT company_id FROM bot_pace JOIN phone_configs c ON c.id = bot_id WHERE held_until > now()"
    assert {row[0] for row in execute(world.connection, held)} == {OTHER}


def test_a_360dialog_number_speaks_for_itself_alone(world):
    bot = bot_id(world.connection, COMPANY, 0)
    ours = sent(world.connection, bot, f"wamid.{MARK}.1")
    linked = sent(world.connection, bot, f"wamid.{MARK}.2", kind="image", media={"link": "https://x.example/a.jpg"})
    before, events = world.rows(), world.events()
    number = OTHER_DIALOG
    for word, code in (("delivered", None), ("read", None), ("failed", 131053), ("failed", 131047)):
        reports = [status(word, ours, f"wamid.{MARK}.1", code), status(word, linked, f"wamid.{MARK}.2", code)]
        reports.append(status(word, None, f"wamid.{MARK}.1", code))
        for named in (number, NUMBER, DIALOG_NUMBER):
            world.webhooks.of_dialog360(1, ("messages", about(named, statuses=reports)))
    notices = [
        ("account_update", {"event": "DISABLED_UPDATE"}),
        ("message_template_status_update", {"message_template_name": "x", "event": "PAUSED"}),
        ("phone_number_quality_update", about(NUMBER, event="FLAGGED")),
        ("user_preferences", about(NUMBER, user_preferences=[{"wa_id": CHAT, "value": "stop"}])),
        ("history", about(NUMBER, history=[])),
        ("smb_message_echoes", about(NUMBER, message_echoes=[message("text", {"body": "x"}, to=CHAT)])),
        ("messages", about(NUMBER, messages=[message("text", {"body": "x"})])),
        ("messages", about(NUMBER, messages=[message("reaction", {"message_id": f"wamid.{MARK}.1", "emoji": "x"})])),
        ("messages", about(number, messages=[message("reaction", {"message_id": f"wamid.{MARK}.1", "emoji": "x"})])),
        ("messages", about(number, messages=[message("revoke", {"original_message_id": f"wamid.{MARK}.1"})])),
    ]
    for notice in notices:
        world.webhooks.of_dialog360(1, notice)
    assert world.rows() == before
    told = [payload for name, payload in world.events() if (name, payload) not in events]
    assert not [payload for payload in told if ours in payload or "text owned" in payload]


def test_a_message_id_that_meta_echoes_is_the_senders_word(world):
    """A company with a token of its own chooses the data that Meta echoes and signs."""
    ours = sent(world.connection, bot_id(world.connection, COMPANY, 0), f"wamid.{MARK}")
    before = world.rows()
    report = status("failed", ours, "wamid.of.another", 131047)
    world.webhooks.of_meta(("messages", about(OTHER_NUMBER, statuses=[report])), account=OTHER_ACCOUNT)
    world.webhooks.of_meta(("messages", about("555", statuses=[report])), account=OTHER_ACCOUNT)
    assert world.rows() == before
    world.webhooks.of_meta(("messages", about(NUMBER, statuses=[status("delivered", ours, f"wamid.{MARK}")])))
    assert execute(world.connection, "SELECT status FROM outbox WHERE message_id = %s", (ours,)) == [("delivered",)]


@pytest.mark.parametrize("forged_first", [True, False])
def test_a_forged_report_in_the_same_batch_neither_counts_nor_keeps_the_true_one_away(world, forged_first):
    ours = sent(world.connection, bot_id(world.connection, COMPANY, 0), f"wamid.{MARK}")
    forged = about(OTHER_DIALOG, statuses=[status("read", ours, f"wamid.{MARK}")])
    genuine = about(NUMBER, statuses=[status("delivered", ours, f"wamid.{MARK}")])
    for is_forged in (forged_first, not forged_first):
        if is_forged:
            world.webhooks.of_dialog360(1, ("messages", forged), later=True)
        else:
            world.webhooks.of_meta(("messages", genuine), later=True)
    world.webhooks.apply_all()
    assert execute(world.connection, "SELECT status FROM outbox WHERE message_id = %s", (ours,)) == [("delivered",)]
    assert execute(world.connection, "SELECT status FROM messages WHERE id = %s", (ours,)) == [("delivered",)]


def test_a_forged_report_of_an_echo_in_the_same_batch_does_not_count(world):
    echo = message("text", {"body": "from the phone"}, to=CHAT, id="wamid.echo")
    forged = about(OTHER_DIALOG, statuses=[status("read", None, "wamid.echo")])
    world.webhooks.of_dialog360(1, ("messages", forged), later=True)
    world.webhooks.of_meta(("smb_message_echoes", about(NUMBER, message_echoes=[echo])))
    assert execute(world.connection, "SELECT status FROM messages WHERE external_id = 'wamid.echo'") == [("sent",)]


def test_a_message_that_names_no_number_reaches_no_bot_of_the_account(world):
    lost = {"messaging_product": "whatsapp", "messages": [message("text", {"body": MARK})]}
    world.webhooks.of_meta(("messages", lost))
    assert [name for name, _ in world.events(COMPANY)] == []
    assert execute(world.connection, "SELECT count(*) FROM process_events WHERE event_type = 'provider.update'") == [
        (1,)
    ]


def test_one_account_with_numbers_of_two_companies_tells_both(world):
    """An agency's: both proved theirs."""
    world.provider.tell(f"/{OTHER_NUMBER}", {"id": OTHER_NUMBER})
    world.provider.tell(f"/{ACCOUNT}/phone_numbers", {"data": [{"id": NUMBER}, {"id": OTHER_NUMBER}]})
    world.provider.tell(f"/{ACCOUNT}/subscribed_apps", {"success": True}, method="POST")
    assert world.link(phoneIndex=0, token="EAAG-0999", wabaId=ACCOUNT).status_code == 200
    world.webhooks.of_meta(("account_update", {"event": "DISABLED_UPDATE"}))
    for company in (COMPANY, OTHER):
        assert [name for name, _ in world.events(company)] == ["account.update", "bot.status"]


def test_the_same_ids_in_two_companies_stay_apart(world):
    """A provider's ids of messages and users are unique for one number at most, so each report names its number."""
    connection, other = world.connection, bot_id(world.connection, OTHER, 0)
    ours = sent(connection, bot_id(connection, COMPANY, 0), "wamid.same")
    theirs = sent(connection, other, "wamid.same", OTHER)
    before = rows_of(connection)
    report = about(OTHER_NUMBER, statuses=[status("read", None, "wamid.same")])
    world.webhooks.of_meta(("messages", report), account=OTHER_ACCOUNT)
    assert rows_of(connection) == before, "their report says nothing about our message"
    statuses = "SELECT status FROM outbox WHERE message_id = %s"
    assert execute(connection, statuses, (theirs,)) == [("read",)]
    reaction = {"message_id": "wamid.same", "emoji": "👎"}
    mine = message("reaction", reaction, id="wamid.reaction")
    coming = message("text", {"body": "hello"}, id="wamid.in.same")
    world.webhooks.of_meta(("messages", about(OTHER_NUMBER, messages=[mine, coming])), account=OTHER_ACCOUNT)
    assert rows_of(connection) == before
    world.webhooks.of_meta(
        ("messages", about(NUMBER, messages=[coming], statuses=[status("read", ours, "wamid.same")]))
    )
    found = "SELECT company_id, reaction, status FROM messages WHERE external_id = 'wamid.same' ORDER BY 1"
    assert execute(connection, found) == [(COMPANY, None, "read"), (OTHER, "👎", "read")]
    came = "SELECT company_id FROM messages WHERE external_id = 'wamid.in.same' ORDER BY 1"
    assert execute(connection, came) == [(COMPANY,), (OTHER,)]
    path = f"/api/v2/messages/{OTHER}/{CHAT}/wamid.same"
    assert world.ask("GET", path, OTHER_KEY).json()["messageId"] == theirs
