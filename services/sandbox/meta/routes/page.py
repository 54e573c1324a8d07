"""The page for people: chats as customers see them, a form to write as a customer, the rules in force."""

from collections import defaultdict
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from flask import Response, send_file
from jinja2 import Environment

from services.sandbox.control_page import EMOJI, FILE_HEADERS, MAX_SHOWN_MESSAGES, PAGE_HEADERS, STYLE, clock
from services.sandbox.meta.behaviour import Behaviour
from services.sandbox.meta.graph import READ_MARK
from services.sandbox.meta.inbound import CustomerMessage
from services.sandbox.meta.media import KIND_LIMITS, Media
from services.sandbox.meta.simulator import Simulator

#: Types that browsers show without running anything.
_INLINE_TYPES = ("image/jpeg", "image/png", "image/webp", "audio/", "video/")
#: Types of messages that change another message.
_MODIFIERS = ("reaction", "edit", "revoke", READ_MARK)

_PAGE = Environment(autoescape=True).from_string(resources.files(__package__).joinpath("page.html").read_text("utf-8"))

Bubble = dict[str, Any]


def render(url: str, simulator: Simulator, speaker: Mapping[str, str]) -> Response:
    """The page at `url`. `speaker`: values to fill the form in with: `from`, `to`, `name`."""
    store = simulator.store
    outgoing, inbound = store.latest_messages(MAX_SHOWN_MESSAGES), store.latest_inbound(MAX_SHOWN_MESSAGES)
    html = _PAGE.render(
        url=url, chats=chats(outgoing, inbound), waiting=store.count_undelivered(), total=len(outgoing) + len(inbound),
        behaviours=[rule.model_dump_json(exclude_defaults=True) for rule in simulator.behaviours.rules.all()],
        fields=Behaviour.model_fields, speaker=speaker, numbers=_numbers(outgoing, inbound, simulator), emoji=EMOJI,
        enforced=simulator.behaviours.enforce_window, style=STYLE,
    )  # fmt: skip
    return Response(html, headers=PAGE_HEADERS)


def speaker_query(posted: CustomerMessage) -> str:
    """The page's query that fills the form in with the same customer again."""
    return urlencode({"from": posted.sender or posted.user_id, "to": posted.to, "name": posted.name})


def file(media: Media, media_id: str) -> Response:
    """A file: shown if browsers do that safely, otherwise downloaded. Raises `GraphError` if it does not exist."""
    found = media.find(media_id)
    inline = found.mime_type.startswith(_INLINE_TYPES)
    path = Path(media.path(found)).absolute()
    response = send_file(path, found.mime_type, not inline, found.filename or found.id)
    response.headers.update(FILE_HEADERS)
    return response


def _numbers(outgoing: list[dict[str, Any]], inbound: list[dict[str, Any]], simulator: Simulator) -> list[str]:
    """The numbers that a customer can write to."""
    used = (message["phone_number_id"] for message in [*outgoing, *inbound])
    of_keys = (str(facts["number"]) for facts in simulator.registry.all("key").values())
    return list(dict.fromkeys([*used, *simulator.registry.all("number"), *of_keys]))


def chats(outgoing: list[dict[str, Any]], inbound: list[dict[str, Any]]) -> dict[tuple[str, str], list[Bubble]]:
    """The bubbles of each chat in the order of time, by number and customer; the most recent chat first."""
    by_chat = defaultdict(list)
    bubbles = [*map(_business_bubble, outgoing), *map(_customer_bubble, inbound)]
    for bubble in sorted(bubbles, key=lambda bubble: bubble["at"]):
        by_chat[bubble["phone_number_id"], bubble["chat"]].append(bubble)
    latest_first = sorted(by_chat.items(), key=lambda chat: -chat[1][-1]["at"])
    return {chat: shown for chat, all_bubbles in latest_first if (shown := _with_modifiers_applied(all_bubbles))}


def _business_bubble(message: dict[str, Any]) -> Bubble:
    request = message["request"] if isinstance(message["request"], dict) else {}
    content = request.get(message["type"])
    content = content if isinstance(content, dict) else {}
    media = {"link": content.get("link"), "file": content.get("id")} if message["type"] in KIND_LIMITS else {}
    bubble = message | media | {"chat": message["to"], "by_customer": False, "clock": clock(message["at"])}
    return bubble | {"reactions": [], "buttons": _buttons(content), "accepted": message["answer"] in ("200", "cut")}


def _buttons(content: dict[str, Any]) -> list[str]:
    action = content.get("action")
    buttons = action.get("buttons") if isinstance(action, dict) else None
    return [button["reply"]["title"] for button in buttons or [] if isinstance(button.get("reply"), dict)]


def _customer_bubble(message: dict[str, Any]) -> Bubble:
    bubble = message | {"type": message["kind"], "file": message["media"], "link": None, "by_customer": True}
    return bubble | {"accepted": True, "reactions": [], "buttons": [], "clock": clock(message["at"])}


def _with_modifiers_applied(bubbles: list[Bubble]) -> list[Bubble]:
    """The bubbles after the reactions, edits and revocations among them, which have no bubbles of their own."""
    by_id = {bubble["wamid"]: bubble for bubble in bubbles if bubble["wamid"] and bubble["type"] not in _MODIFIERS}
    for bubble in bubbles:
        bubble["quoted"] = by_id.get(bubble["target"])
        if bubble["quoted"] is not None and bubble["accepted"]:
            _modify(bubble["quoted"], bubble)
    return [
        bubble for bubble in bubbles
        if bubble["type"] not in _MODIFIERS or not (bubble["quoted"] and bubble["accepted"])
    ]  # fmt: skip


def _modify(bubble: Bubble, modifier: Bubble) -> None:
    if modifier["type"] == "reaction":
        others = [reaction for reaction in bubble["reactions"] if reaction[0] != modifier["by_customer"]]
        new = [(modifier["by_customer"], modifier["text"])] if modifier["text"] else []
        bubble["reactions"] = [*others, *new]
    elif modifier["type"] == "edit":
        bubble["text"] = modifier["text"]
        bubble["edited"] = True
    elif modifier["type"] == "revoke":
        bubble["text"] = "This message was deleted"
        bubble["revoked"] = True
        bubble["file"] = None
