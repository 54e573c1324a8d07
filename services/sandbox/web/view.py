"""The page for people: devices with their QR codes and what may befall them, and the chats as customers see them."""

from collections import defaultdict
from importlib import resources
from typing import Any

from flask import Response
from jinja2 import Environment

from services.sandbox.page import EMOJI, HEADERS, SHOWN, STYLE, clock
from services.sandbox.web.network import Network

_PAGE = Environment(autoescape=True).from_string(
    resources.files(__package__).joinpath("controls.html").read_text("utf-8")
)
#: What may befall a linked device: the control's address, its name, what it means, and whether it is undone.
TROUBLES = (
    ("logout", "Log out", "the phone removes the device", ""),
    ("conflict", "Conflict", "WhatsApp is opened in another window", ""),
    ("update", "Update", "the page is too old, until it is loaded again", ""),
    ("ban", "Ban", "the account breaks the terms of service", "mode=MAIN"),
    ("offline", "Offline", "the network is away", "offline=false"),
    ("hang", "Hang", "the page stops answering", ""),
    ("crash", "Crash", "the renderer dies", ""),
    ("leak", "Leak", "50 MB a second, up to 2 GB", ""),
    ("reload", "Reload", "the page is loaded again", ""),
)
_ACKS = {-1: "failed", 0: "on its way", 1: "✓ sent", 2: "✓✓ delivered", 3: "✓✓ read", 4: "✓✓ played"}


def render(network: Network, devices: list[dict[str, Any]], url: str) -> Response:
    """The page at `url`."""
    messages = network.chats.latest(SHOWN)
    shown = _PAGE.render(
        style=STYLE, url=url, devices=devices, chats=_chats(messages), troubles=TROUBLES, total=len(messages),
        emoji=EMOJI, behaviours=[rule.model_dump_json(exclude_defaults=True) for rule in network.rules.all()],
        numbers=sorted({each["number"] for each in devices if each["linked"]}),
    )  # fmt: skip
    return Response(shown, headers=HEADERS)


def _chats(messages: list[dict[str, Any]]) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """The bubbles of each chat, by the linked number and the chat; the chat with the latest comes first."""
    found = defaultdict(list)
    for each in messages:
        found[each["number"], each["chat"]].append(_bubble(each))
    return dict(sorted(found.items(), key=lambda chat: -chat[1][-1]["at"]))


def _bubble(message: dict[str, Any]) -> dict[str, Any]:
    told = _ACKS[message["ack"]] if message["from_me"] else "✓✓ read by the business" if message["seen"] else "said"
    text = "This message was deleted" if message["type"] == "revoked" else message["body"] or message["caption"]
    return message | {"text": text or "", "clock": clock(message["at"]), "told": told}
