"""The page for people: devices with their QR codes and faults, and the chats as customers see them."""

from collections import defaultdict
from importlib import resources
from typing import Any

from flask import Response
from jinja2 import Environment

from services.sandbox.control_page import EMOJI, MAX_SHOWN_MESSAGES, PAGE_HEADERS, STYLE, clock
from services.sandbox.web.network import Network

_PAGE = Environment(autoescape=True).from_string(resources.files(__package__).joinpath("page.html").read_text("utf-8"))
#: Faults of a linked device: the route, the text of the button, its explanation, and the field that ends the fault.
FAULTS = (
    ("logout", "Log out", "the phone removes the device", ""),
    ("conflict", "Conflict", "WhatsApp is opened in another window", ""),
    ("update", "Update", "the page is out of date, until it is reloaded", ""),
    ("ban", "Ban", "the account is banned", "mode=MAIN"),
    ("offline", "Offline", "the page has no network", "offline=false"),
    ("hang", "Hang", "the page stops responding", ""),
    ("crash", "Crash", "the page's process crashes", ""),
    ("leak", "Leak", "the page leaks 50 MB a second, up to 2 GB", ""),
    ("reload", "Reload", "the page is reloaded", ""),
)
_ACK_TEXTS = {-1: "failed", 0: "sending", 1: "✓ sent", 2: "✓✓ delivered", 3: "✓✓ read", 4: "✓✓ played"}


def render(network: Network, devices: list[dict[str, Any]], url: str) -> Response:
    """The page at `url`."""
    html = _PAGE.render(
        style=STYLE, url=url, devices=devices, chats=_chats(network.chats.latest(MAX_SHOWN_MESSAGES)), faults=FAULTS,
        emoji=EMOJI, rules=[rule.model_dump_json(exclude_defaults=True) for rule in network.rules.all()],
        numbers=sorted({device["number"] for device in devices if device["linked"]}),
    )  # fmt: skip
    return Response(html, headers=PAGE_HEADERS)


def _chats(messages: list[dict[str, Any]]) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """The bubbles of each chat, by the linked number and the chat; the most recent chat first."""
    by_chat = defaultdict(list)
    for message in messages:
        by_chat[message["number"], message["chat"]].append(_bubble(message))
    return dict(sorted(by_chat.items(), key=lambda chat: -chat[1][-1]["at"]))


def _bubble(message: dict[str, Any]) -> dict[str, Any]:
    seen = "✓✓ read by the business" if message["seen"] else "not read"
    status = _ACK_TEXTS[message["ack"]] if message["from_me"] else seen
    text = "This message was deleted" if message["type"] == "revoked" else message["body"] or message["caption"]
    return message | {"text": text or "", "clock": clock(message["at"]), "status": status}
