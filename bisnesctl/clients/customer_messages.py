"""Messages of customers as the fields of the simulators' controls: texts, replies, reactions, places, answers."""

import json
import math
from collections.abc import Mapping
from typing import Any

from bisnesctl.errors import UsageError

Fields = dict[str, Any]


def text(words: str, reply_to: str = "", voice: bool = False) -> Fields:
    """A text, or the caption of a file. `reply_to`: the provider's id of the message that it answers."""
    return {"text": words, "reply_to": reply_to or None, "voice": voice}


def reaction(message: str, emoji: str) -> Fields:
    """A reaction to a message, by the provider's id; an empty emoji removes it."""
    return {"message_id": message, "emoji": emoji}


def location(web: bool, latitude: str, longitude: str, place: str = "", reply_to: str = "") -> Fields:
    """A place. `web`: to a number of WhatsApp Web. Raises `UsageError` if there is no such place."""
    north, east = _degrees(latitude, 90), _degrees(longitude, 180)
    if web:
        content: Fields = {"lat": north, "lng": east} | ({"loc": place} if place else {})
    else:
        content = {"latitude": north, "longitude": east} | ({"name": place} if place else {})
    return {"type": "location", "content": json.dumps(content), "reply_to": reply_to or None}


def button(title: str, button_id: str = "", reply_to: str = "") -> Fields:
    """The answer to a message with buttons: the one that was pressed."""
    return {"button": title, "button_id": button_id or None, "reply_to": reply_to or None}


def row(web: bool, title: str, row_id: str = "", reply_to: str = "") -> Fields:
    """The answer to a list: the row that was chosen."""
    chosen = row_id or title
    if web:
        answer = {"title": title, "listType": 1, "singleSelectReply": {"selectedRowId": chosen}}
        kind, content = "list_response", json.dumps({"listResponse": answer})
    else:
        kind = "interactive"
        content = json.dumps({"type": "list_reply", "list_reply": {"id": chosen, "title": title}})
    return {"type": kind, "content": content, "reply_to": reply_to or None}


def from_form(web: bool, form: Mapping[str, str]) -> Fields:
    """The message that a form describes; a form without any of the other values is a text.

    Raises `UsageError` if a value is wrong.
    """
    reply_to, place = form.get("reply_to", ""), form.get("place", "").strip()
    if "emoji" in form:
        return reaction(form.get("message_id", ""), form["emoji"])
    if "latitude" in form:
        return location(web, form["latitude"], form.get("longitude", ""), place, reply_to)
    if title := form.get("button", "").strip():
        return button(title, form.get("option_id", "").strip(), reply_to)
    if title := form.get("row", "").strip():
        return row(web, title, form.get("option_id", "").strip(), reply_to)
    return text(form.get("text", ""), reply_to, bool(form.get("voice")))


def _degrees(given: str, most: int) -> float:
    try:
        value = float(given.strip().replace(",", "."))
    except ValueError:
        value = math.nan
    if not -most <= value <= most:
        raise UsageError(f"a place has a latitude from -90 to 90 and a longitude from -180 to 180, not {given[:40]!r}")
    return value
