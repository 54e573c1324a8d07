import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.api.messages.request_fields import InvalidChatId, normalise_chat_id
from services.message import Secret, Status

numbers = st.from_regex(r"[1-9][0-9]{6,14}", fullmatch=True)
companies = st.from_regex(r"[0-9A-Za-z-]{1,12}", fullmatch=True)


@given(numbers, companies)
def test_all_forms_of_a_number_are_one_chat(number, company):
    forms = [number, f"+{number}", f"{number}@c.us", f"+{number}@c.us", f"{company}-{number}", f"{company}-+{number}"]
    assert {normalise_chat_id(form, company) for form in forms} == {number}


@pytest.mark.parametrize("chat", ["120363041234567890@g.us", "60123456789-1400000000@g.us", "123456789012345@lid"])
def test_groups_and_hidden_numbers_stay_as_they_are(chat):
    assert normalise_chat_id(chat, "0128") == chat


@given(st.text(max_size=40), companies)
def test_an_accepted_chat_id_is_in_normal_form(raw, company):
    try:
        chat = normalise_chat_id(raw, company)
    except InvalidChatId:
        return
    assert normalise_chat_id(chat, company) == chat
    assert chat.isascii()


@pytest.mark.parametrize(
    "raw",
    ["", "hello", "+", "0123456789", "6012", "60 12 345", "1234567890123456", "x@g.us", "60123456789@s", "٦٠١٢٣٤٥٦٧٨٩",
     "60123456789@c.us\n", "60123456789\n", "@lid", "0128-", "0128-abc"],
)  # fmt: skip
def test_any_other_chat_id_is_refused(raw):
    with pytest.raises(InvalidChatId):
        normalise_chat_id(raw, "0128")


def test_a_contact_id_of_another_company_is_refused():
    with pytest.raises(InvalidChatId, match="belongs to another company"):
        normalise_chat_id("0129-60123456789", "0128")


def test_a_secret_does_not_show_itself():
    secret = Secret("EAAG-token")
    assert "EAAG" not in f"{secret} {secret!r} {[secret]} {secret:}"


def test_all_statuses_but_queued_and_sending_answer_a_waiting_caller():
    assert {status for status in Status if not status.settled} == {Status.QUEUED, Status.SENDING}
