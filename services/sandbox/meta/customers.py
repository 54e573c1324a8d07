"""The names of simulated customers: the WhatsApp id, and Meta's business-scoped user id beside or instead of it."""

import re

#: Prefix of the user ids of customers with a visible number; their digits follow.
_PREFIX = "US.77"
_USER_ID = re.compile(rf"{re.escape(_PREFIX)}([0-9]{{15}})", re.ASCII)

#: Numbers whose WhatsApp id is not the number that people dial, because their country has changed its numbers.
_REWRITTEN = (
    (re.compile(r"55([0-9]{2})9([0-9]{8})", re.ASCII), r"55\1\2"),  # Brazil: the id lacks the ninth digit
    (re.compile(r"52([0-9]{10})", re.ASCII), r"521\1"),  # Mexico: the id keeps the former prefix of mobile phones
    (re.compile(r"54([0-8][0-9]{9})", re.ASCII), r"549\1"),  # Argentina: the id has the prefix of mobile phones
)


def whatsapp_id(digits: str) -> str:
    """The WhatsApp id of a phone number; other names stay as they are."""
    for dialled, rewritten in _REWRITTEN:
        if found := dialled.fullmatch(digits):
            return found.expand(rewritten)
    return digits


def user_id_of(chat: str) -> str:
    """A customer's user id. The chat of a customer with a hidden number is the user id itself."""
    return f"{_PREFIX}{chat:0>15}" if chat.isdigit() else chat


def chat_of(user_id: str) -> str:
    """The chat of a user id: the digits, unless they are hidden."""
    known = _USER_ID.fullmatch(user_id)
    return known[1].lstrip("0") if known else user_id


def customer_fields(chat: str, number_key: str, user_id_key: str) -> dict[str, str]:
    """The fields by which webhooks and answers name a customer, under these two keys."""
    visible = {number_key: chat} if chat.isdigit() else {}
    return visible | {user_id_key: user_id_of(chat)}
