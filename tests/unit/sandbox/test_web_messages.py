"""Messages of customers on the simulated WhatsApp Web."""

from services.sandbox.web.customer_message import CustomerMessage, compose


def composed(**posted):
    (message,) = compose(CustomerMessage.model_validate(posted), None)
    return message


def test_a_text_has_its_words_in_the_body():
    assert (composed(text="Hello")["type"], composed(text="Hello")["body"]) == ("chat", "Hello")


def test_a_template_of_another_business_has_a_body_and_buttons():
    message = composed(type="hsm", text="Your parcel comes today", title="Parcel", footer="Post", options=["Track"])
    assert (message["type"], message["body"]) == ("hsm", "Your parcel comes today")
    assert (message["extra"]["title"], message["extra"]["footer"]) == ("Parcel", "Post")
    assert message["extra"]["hydratedButtons"][0]["quickReplyButton"]["displayText"] == "Track"


def test_a_list_has_its_words_in_the_list():
    message = composed(type="list", text="What shall it be?", title="Menu", options=["Tea", "Coffee"])
    assert (message["type"], message["body"]) == ("list", None)
    found = message["extra"]["list"]
    assert (found["title"], found["description"]) == ("Menu", "What shall it be?")
    assert [row["title"] for row in found["sections"][0]["rows"]] == ["Tea", "Coffee"]
