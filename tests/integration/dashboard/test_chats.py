"""Chats: the list, a chat with its window, and answers, each of which is sent once and only by those who may."""

import io
import json
import re
from urllib.parse import urlencode
from uuid import uuid4

import pytest
from werkzeug.test import Client, TestResponse

from bisnesctl.audit import delivery, reading
from bisnesctl.audit.store import AuditFilter
from bisnesctl.people.roles import Role
from services.dashboard.app import Dashboard
from services.database.connection import Database
from tests.integration.dashboard.conftest import Visitor
from tests.support.api import CHAT, COMPANY, NOWHERE, OTHER

PAGE = f"/ui/chats/{COMPANY}/{CHAT}"
PNG = (
    b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\x06\0\0\0\x1f\x15\xc4\x89\0\0\0\rIDATx\x9cc\xf8\xff\xff?\0\x05"
    b"\xfe\x02\xfe\xa7\x9a\xa0\xa0\0\0\0\0IEND\xaeB`\x82"
)


@pytest.fixture
def received(rows):
    """Stores messages of customers, as the inbox does."""

    def store(text="Hello", chat=CHAT, company=COMPANY, at=1_700_000_000.0, phone=0, name="Aina"):
        message, wamid, contact = str(uuid4()), f"wamid.{uuid4().hex}", f"{company}-{chat.partition('@')[0]}"
        stored = chat if "@" in chat else f"{chat}@c.us"
        rows(
            "INSERT INTO messages (id, message_id, company_id, contact_id, chat_id, content, message_type, from_me,"
            " direction, author, status, phone_index, timestamp, external_id)"
            " VALUES (%s, %s, %s, %s, %s, %s, 'text', false, 'inbound', %s, 'received', %s, to_timestamp(%s), %s)",
            (message, wamid, company, contact, stored, text, name, phone, at, wamid),
        )
        last = json.dumps({"id": message, "body": text, "type": "text", "from_me": False, "timestamp": at})
        rows(
            "INSERT INTO contacts (contact_id, company_id, name, chat_id, phone_index, last_message, unread_count)"
            " VALUES (%s, %s, %s, %s, %s, %s, 1) ON CONFLICT (contact_id, company_id)"
            " DO UPDATE SET last_message = excluded.last_message",
            (contact, company, name, stored, phone, last),
        )
        return message

    return store


@pytest.fixture
def window(rows):
    """Opens or closes the window of the chat, by the time since the customer's message."""

    def set_window(since):
        rows(
            "INSERT INTO chat (bot_id, chat_id, window_until) SELECT id, %s, now() + interval '24 hours' - %s::interval"
            " FROM phone_configs WHERE company_id = %s AND phone_index = 0",
            (CHAT, since, COMPANY),
        )

    return set_window


@pytest.fixture
def operator(api, signed_in):
    return signed_in(Role.OPERATOR, COMPANY, "aisha")


def outbox(rows):
    return rows("SELECT kind, payload, phone_index, chat_id FROM outbox ORDER BY id")


def audit(settings, who="aisha"):
    delivery.deliver(settings)
    found = reading.read(settings, AuditFilter(who=who)).records
    return [(each["action"], each["company"], each["arguments"].get("chat")) for each in found]


def test_the_list_has_the_newest_first_in_pages(signed_in, api, received):
    for n in range(120):
        received(f"text {n}", chat=f"60{n:09}1", at=1_700_000_000 + n, name="")
    visitor, seen, path = signed_in(Role.VIEWER), [], "/ui/chats?"
    while path:
        page = visitor.text(path)
        found = [int(each) for each in re.findall(r">\s*text (\d+)<", page)]
        seen += found
        assert len(found) <= 50
        more = re.search(r'href="(/ui/chats\?[^"]*before=[^"]*)"', page)
        path = more.group(1) if more else ""
    assert seen == list(range(119, -1, -1))


def test_a_chat_is_found_by_its_number_or_name(signed_in, api, received):
    received("of Aina", chat="60123456789", name="Aina")
    received("of Ben", chat="60199999999", name="Ben 100%")
    visitor = signed_in(Role.VIEWER)
    for wanted, there, absent in (
        ("+60 12-345 6789", "of Aina", "of Ben"), ("9999", "of Ben", "of Aina"), ("ain", "of Aina", "of Ben"),
        ("100%", "of Ben", "of Aina"), ("%", "of Ben", "of Aina"),
    ):  # fmt: skip
        page = visitor.get("/ui/chats?" + urlencode({"q": wanted})).text
        assert there in page, wanted
        assert absent not in page, wanted


def test_a_number_that_never_wrote_can_be_written_to(operator, api):
    page = operator.text("/ui/chats?q=%2B60111222333")
    assert f"/ui/chats/{COMPANY}/60111222333" in page
    assert "No messages yet." in operator.text(f"/ui/chats/{COMPANY}/60111222333")


def test_rows_of_the_former_system_do_not_break_the_list(signed_in, api, rows):
    for n, last in enumerate((None, '"text"', '{"timestamp": "yesterday"}', '{"timestamp": 1700000000123}', "[]")):
        rows(
            "INSERT INTO contacts (contact_id, company_id, last_message, unread_count, phone_index)"
            " VALUES (%s, %s, %s, NULL, NULL)", (f"{COMPANY}-6012000000{n}", COMPANY, last),
        )  # fmt: skip
    rows("INSERT INTO contacts (contact_id, company_id) VALUES (NULL, '0128'), ('0128-', '0128')")
    page = signed_in(Role.VIEWER).text("/ui/chats")
    assert page.count('id="row-') == 5
    assert "2023-11-14" in page


def test_a_chat_shows_both_directions_and_escapes_them(signed_in, api, received, rows):
    received("<script>alert(1)</script>")
    visitor = signed_in(Role.VIEWER)
    page = visitor.get(PAGE).text
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "Aina" in page
    assert "<textarea" not in page
    assert "React" not in page


def test_the_window_is_shown(signed_in, api, received, window, rows):
    visitor = signed_in(Role.VIEWER)
    assert "until the customer writes" in visitor.text(PAGE)
    window("1 hour")
    assert "Anything may be sent until" in visitor.text(PAGE)
    rows("UPDATE chat SET window_until = now() - interval '1 hour'")
    assert "Only templates may be sent. The 24 hours" in visitor.text(PAGE)
    rows("UPDATE phone_configs SET connection_type = 'wwebjs' WHERE company_id = %s", (COMPANY,))
    assert "may write at any time" in visitor.text(PAGE)


def test_older_messages_follow_page_by_page(signed_in, api, received):
    for n in range(100):
        received(f"text {n:03}", at=1_700_000_000 + n)
    visitor, seen, path = signed_in(Role.VIEWER), [], PAGE
    while path:
        page = visitor.text(path)
        seen = re.findall(r"text (\d{3})", page) + seen
        more = re.search(r'href="(/ui/chats/[^"]*before=[^"]*)"', page)
        path = more.group(1) if more else ""
    assert seen == [f"{n:03}" for n in range(100)]
    assert visitor.get(f"{PAGE}?before=nonsense").status_code == 404


def test_a_text_is_sent_once_with_the_name_of_the_person(operator, rows, received, settings):
    received()
    name = operator.form_name(PAGE)
    for _ in range(2):
        answer = operator.post(f"{PAGE}/answer", key=name, phone="0", text="Line 1\r\nLine 2")
        assert (answer.status_code, answer.location) == (302, f"{PAGE}?phone=0")
    ((kind, payload, phone, chat),) = outbox(rows)
    assert (kind, phone, chat) == ("text", 0, CHAT)
    assert (payload["message"], payload["userName"]) == ("Line 1\nLine 2", "aisha")
    assert audit(settings) == [("send text", COMPANY, CHAT)]
    assert "Line 1\nLine 2" in operator.text(PAGE)


def test_a_form_that_was_sent_with_another_text_keeps_what_was_typed(operator, rows, received):
    received()
    name = operator.form_name(PAGE)
    operator.post(f"{PAGE}/answer", key=name, phone="0", text="first")
    answer = operator.post(f"{PAGE}/answer", key=name, phone="0", text="second")
    assert answer.status_code == 400
    assert "sent before" in answer.text
    assert ">\nsecond</textarea>" in answer.text
    assert name not in answer.text
    assert [payload["message"] for _, payload, _, _ in outbox(rows)] == ["first"]


def test_the_page_says_that_the_api_is_down_and_keeps_what_was_typed(signed_in, environment, settings, api, rows):
    operator = signed_in(Role.OPERATOR, COMPANY, "aisha")
    environment(DATABASE_URL=settings.database_dsn, API_PORT="1", OPERATOR_KEY="bk_operator")
    name = operator.form_name(PAGE)
    for path, form, kept in (
        ("answer", {"text": "<b>Hello"}, "&lt;b&gt;Hello</textarea>"),
        ("template", {"template": "order_ready", "language": "es_MX", "variables": "Aina\n17"}, "Aina\n17</textarea>"),
    ):
        answer = operator.post(f"{PAGE}/{path}", key=name, phone="1", **form)
        assert answer.status_code == 503
        assert "API does not answer" in answer.text
        assert kept in answer.text
        assert f'name="key" value="{name}"' in answer.text
        assert "Answer as 0128-1" in answer.text
    assert outbox(rows) == []


def test_without_postgresql_what_was_typed_is_kept(settings, people, signed_in, environment):
    token = signed_in(Role.OPERATOR, COMPANY, "aisha").token
    blind = Dashboard(settings, Database("postgresql://127.0.0.1:1/none", 2), people)
    visitor = Visitor(Client(blind, TestResponse), token)
    visitor.client.set_cookie("__Host-bisnes", token, domain="127.0.0.1")
    assert "PostgreSQL does not answer" in visitor.text(PAGE)
    answer = visitor.post(f"{PAGE}/answer", phone="0", text="Hello there")
    assert answer.status_code == 503
    assert "Hello there</textarea>" in answer.text


def test_what_the_api_refuses_is_said(operator, rows):
    assert "at most 4096" in operator.post(f"{PAGE}/answer", phone="0", text="a" * 5000).text
    assert operator.post(f"{PAGE}/answer", phone="0", text=" \r\n ").status_code == 400
    assert operator.post(f"{PAGE}/answer", phone="7", text="Hello").status_code == 400
    assert outbox(rows) == []


def test_files_are_sent_as_what_they_are_and_can_be_opened(operator, signed_in, rows, received):
    received()
    large = b"%PDF-1.4\n" + b"0" * (3 << 20)
    for name, content, mime, kind in (
        ("photo.png", PNG, "image/png", "image"), ("offer.pdf", large, "application/pdf", "document"),
    ):  # fmt: skip
        form = {
            "file": (io.BytesIO(content), name, mime),
            "text": "Look",
            "phone": "0",
            "key": operator.form_name(PAGE),
        }
        assert operator.post(f"{PAGE}/answer", **form).status_code == 302
        (found,) = rows("SELECT kind, payload ->> 'caption', message_id FROM outbox ORDER BY id DESC LIMIT 1")
        assert found[:2] == (kind, "Look")
        address = f"/ui/chats/{COMPANY}/files/{found[2]}"
        assert address in operator.text(PAGE)
        got = signed_in(Role.VIEWER, COMPANY, f"viewer-{kind}").get(address)
        assert (got.status_code, got.data, got.mimetype) == (200, content, mime)
        part = operator.get(address, Range="bytes=0-3")
        assert (part.status_code, part.data) == (206, content[:4])
        assert signed_in(Role.VIEWER, OTHER, f"other-{kind}").get(address).status_code == 404
    assert operator.get(f"/ui/chats/{COMPANY}/files/{uuid4()}").status_code == 404


def test_a_file_that_is_too_large_is_refused(operator, rows):
    form = {"file": (io.BytesIO(b"0" * (17 << 20)), "large.bin", "application/octet-stream"), "phone": "0"}
    assert operator.post(f"{PAGE}/answer", with_token=False, **form).status_code == 413
    assert outbox(rows) == []


def test_a_template_is_sent_with_its_variables(operator, rows, settings):
    form = {"template": "order_ready", "language": "en_US", "variables": "Aina\r\n17\r\n", "phone": "1"}
    answer = operator.post(f"{PAGE}/template", key=operator.form_name(PAGE), **form)
    assert answer.status_code == 302
    ((kind, payload, phone, _),) = outbox(rows)
    assert (kind, phone) == ("template", 1)
    assert (payload["templateName"], payload["language"], payload["variables"]) == (
        "order_ready",
        "en_US",
        ["Aina", "17"],
    )
    assert audit(settings) == [("send template", COMPANY, CHAT)]


def test_a_reaction_is_sent_once_for_each_state_that_was_seen(operator, rows, received, settings):
    message = received()
    form = {"message": message, "reaction": "👍", "phone": "0", "state": "as seen"}
    for _ in range(2):
        assert operator.post(f"{PAGE}/reaction", **form).status_code == 302
    assert [(kind, payload["reaction"]) for kind, payload, _, _ in outbox(rows)] == [("reaction", "👍")]
    assert operator.post(f"{PAGE}/reaction", **form | {"state": "another"}).status_code == 302
    assert len(outbox(rows)) == 2
    assert operator.post(f"{PAGE}/reaction", **form | {"message": str(uuid4())}).status_code == 400


@pytest.fixture
def known(rows):
    """Stores a message that the provider has, of either side; returns its id."""

    def store(text="Where is my order?", from_me=False, external=None, phone=0, at=None, chat=CHAT, **columns):
        message, external = str(uuid4()), external or f"wamid.{uuid4().hex}"
        values = {
            "id": message, "message_id": external, "company_id": COMPANY, "contact_id": f"{COMPANY}-{chat}",
            "chat_id": f"{chat}@c.us", "content": text, "message_type": "text", "from_me": from_me,
            "direction": "outbound" if from_me else "inbound", "author": None if from_me else "Aina",
            "status": "sent" if from_me else "received", "phone_index": phone, "external_id": external,
        } | columns  # fmt: skip
        names = ", ".join(values)
        rows(
            f"INSERT INTO messages ({names}, timestamp) VALUES ({', '.join(['%s'] * len(values))},"
            " COALESCE(to_timestamp(%s), now()))", (*values.values(), at),
        )  # fmt: skip
        return message

    return store


@pytest.mark.parametrize("channel", ["meta_direct", "wwebjs"])
@pytest.mark.parametrize("from_me", [False, True])
def test_a_message_is_replied_to(operator, rows, known, channel, from_me):
    rows("UPDATE phone_configs SET connection_type = %s WHERE company_id = %s", (channel, COMPANY))
    message = known(from_me=from_me)
    assert f"reply={message}#answer" in operator.text(PAGE)
    page = operator.text(f"{PAGE}?phone=0&reply={message}")
    assert "Reply to this message:" in page
    assert page.count("Where is my order?") == 2
    name = re.search(r'name="key" value="([0-9a-f]+)"', page).group(1)
    for _ in range(2):
        answer = operator.post(f"{PAGE}/answer", key=name, phone="0", text="It is on its way.", reply=message)
        assert answer.location == f"{PAGE}?phone=0"
    ((kind, payload, _, _),) = outbox(rows)
    ((external,),) = rows("SELECT external_id FROM messages WHERE id = %s", (message,))
    assert (kind, payload["quoted_provider_id"]) == ("text", external)
    assert f'<blockquote dir="auto"><a href="#m-{message}">' in operator.text(PAGE)


def test_a_file_replies_to_a_message_too(operator, rows, known):
    message = known()
    form = {"file": (io.BytesIO(PNG), "photo.png", "image/png"), "phone": "0", "reply": message}
    assert operator.post(f"{PAGE}/answer", key=operator.form_name(PAGE), **form).status_code == 302
    ((kind, payload, _, _),) = outbox(rows)
    assert (kind, payload["quotedMessageId"]) == ("image", message)


def test_what_cannot_be_quoted_is_said(operator, rows, known, settings):
    deleted, own, other = known(status="revoked"), known(phone=1), known(chat="60111111111")
    page = operator.text(PAGE)
    assert f"reply={deleted}" not in page
    assert f"phone=1&reply={own}#answer" in page
    for message, phone, expected in (
        (deleted, 0, "cannot be quoted"), (own, 0, "another number of the company"), (other, 0, "no such message"),
        (str(uuid4()), 0, "no such message"), ("x", 0, "no such message"), (known(at=1_600_000_000.0), 0, "30 days"),
    ):  # fmt: skip
        assert expected in operator.text(f"{PAGE}?phone={phone}&reply={message}"), expected
    assert "A template cannot quote a message." in operator.text(f"{PAGE}?reply={own}")
    answer = operator.post(f"{PAGE}/answer", phone="0", text="Hello", reply=str(uuid4()))
    assert answer.status_code == 400
    assert "has no message with the id" in answer.text
    assert ">\nHello</textarea>" in answer.text
    assert outbox(rows) == []
    rows("UPDATE phone_configs SET connection_type = 'wwebjs' WHERE company_id = %s", (COMPANY,))
    page = operator.text(f"{PAGE}?reply={known(at=1_600_000_000.0)}")
    assert "30 days" not in page
    assert "WhatsApp Web has no templates" in page


def test_quotes_are_shown_with_what_they_quote(operator, rows, known):
    old = known("<b>an old question</b>", external="wamid.old", at=1_500_000_000.0)
    for n in range(60):
        known(f"text {n}", at=1_700_000_000.0 + n)
    known("the answer", from_me=True, quoted_message=json.dumps({"id": "wamid.old"}))
    known("to nothing", quoted_message=json.dumps({"id": "wamid.unknown"}))
    page = operator.get(PAGE).text
    assert old not in page.partition("<blockquote")[0]
    assert "&lt;b&gt;an old question" in page
    assert "A message that is not known here" in page


def test_the_live_part_does_not_change_by_itself(signed_in, api, received, window):
    received()
    window("1 hour")
    operator = signed_in(Role.OPERATOR, COMPANY)
    parts = [operator.client.get(PAGE, environ_overrides={"dashboard.live": True}, base_url="http://127.0.0.1:3004").text
             for _ in range(2)]  # fmt: skip
    assert "React" in parts[0]
    assert "<textarea" not in parts[0]
    assert parts[0] == parts[1]


def test_a_company_sees_and_writes_to_its_own_chats_alone(api, signed_in, received, rows):
    message = received("of another company", company=OTHER)
    stranger = signed_in(Role.OPERATOR, COMPANY)
    assert "of another company" not in stranger.text("/ui/chats")
    assert "of another company" not in stranger.text(f"/ui/chats?company={OTHER}")
    page = f"/ui/chats/{OTHER}/{CHAT}"
    assert stranger.get(page).status_code == 404
    assert stranger.get(f"/ui/chats/{OTHER}/files/{message}").status_code == 404
    forms = {"answer": {"text": "Hello"}, "template": {"template": "x", "language": "en"},
             "reaction": {"message": message, "reaction": "👍"}}  # fmt: skip
    for path, form in forms.items():
        assert stranger.post(f"{page}/{path}", phone="0", **form).status_code == 404
    assert stranger.post(f"{PAGE}/reaction", phone="0", message=message, reaction="👍").status_code == 400
    assert outbox(rows) == []


def test_a_viewer_writes_nothing_not_even_with_a_request_of_their_own(api, signed_in, received, rows):
    message, viewer = received(), signed_in(Role.VIEWER, COMPANY)
    forms = {"answer": {"text": "Hello"}, "template": {"template": "x", "language": "en"},
             "reaction": {"message": message, "reaction": "👍"}}  # fmt: skip
    for path, form in forms.items():
        assert viewer.post(f"{PAGE}/{path}", phone="0", **form).status_code == 403
        assert (
            signed_in(Role.OPERATOR, COMPANY, path).post(f"{PAGE}/{path}", with_token=False, **form).status_code == 403
        )
    assert outbox(rows) == []


@pytest.mark.parametrize("chat", ["1", "nobody", "60123456789@s.whatsapp.net"])
def test_what_is_no_chat_is_not_found(api, signed_in, chat):
    assert signed_in(Role.VIEWER).get(f"/ui/chats/{COMPANY}/{chat}").status_code == 404


def test_a_company_without_numbers_has_no_chats(api, signed_in):
    assert signed_in(Role.VIEWER).get(f"/ui/chats/0777/{CHAT}").status_code == 404
    assert NOWHERE not in signed_in(Role.VIEWER, name="ben").text("/ui/chats")
