"""What the simulated customers are known by: a number, and Meta's business-scoped user id beside or instead of it."""

import re

#: How the user ids of customers who show their numbers begin; their digits follow.
_PREFIX = "US.77"
_KNOWN = re.compile(rf"{re.escape(_PREFIX)}([0-9]{{15}})", re.ASCII)


def user_id_of(chat: str) -> str:
    """A customer's user id; of one who hides the number, the chat is the user id itself."""
    return f"{_PREFIX}{chat:0>15}" if chat.isdigit() else chat


def chat_of(user_id: str) -> str:
    """What a chat with this user id is known by: the digits, unless they are hidden."""
    known = _KNOWN.fullmatch(user_id)
    return known[1].lstrip("0") if known else user_id


def named(chat: str, by_number: str, by_user_id: str) -> dict[str, str]:
    """How webhooks and answers name a customer, under these two keys."""
    shown = {by_number: chat} if chat.isdigit() else {}
    return shown | {by_user_id: user_id_of(chat)}
