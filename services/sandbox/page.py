"""The simulator's page for people: the conversations as customers see them, a form to speak as one, the behaviours."""

import time
from collections import defaultdict
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from flask import Response, send_file
from jinja2 import Environment

from services.sandbox.meta.behaviour import Behaviour
from services.sandbox.meta.graph import READ
from services.sandbox.meta.inbound import CustomerMessage
from services.sandbox.meta.media import LIMITS, Media
from services.sandbox.meta.simulator import Simulator

#: Messages of each side on the page.
SHOWN = 500
#: Reactions to choose from.
EMOJI = ("👍", "❤️", "😂", "😮", "😢", "🙏")
#: Nothing that a message says may run or load anything but what is here.
_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src 'self'; media-src 'self'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'"
)
HEADERS = {"Content-Security-Policy": _POLICY, "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}
#: A file that a customer sent must not act as a page of ours.
HARMLESS = {"Content-Security-Policy": "sandbox", "X-Content-Type-Options": "nosniff"}
_INLINE = ("image/jpeg", "image/png", "image/webp", "audio/", "video/")
_ABOUT_OTHERS = ("reaction", "edit", "revoke", READ)

_FILES = resources.files(__package__)
#: How the pages of the sandbox look.
STYLE = _FILES.joinpath("style.css").read_text("utf-8")
_PAGE = Environment(autoescape=True).from_string(_FILES.joinpath("page.html").read_text("utf-8"))

Bubble = dict[str, Any]


def render(url: str, simulator: Simulator, speaker: Mapping[str, str]) -> Response:
    """The page at `url`. `speaker`: who speaks to whom, for the form: `from`, `to`, `name`."""
    store = simulator.store
    sent, heard = store.latest(SHOWN), store.inbound(SHOWN)
    rules = [rule.model_dump_json(exclude_defaults=True) for rule in simulator.behaviours.all()]
    shown = _PAGE.render(
        url=url, chats=chats(sent, heard), behaviours=rules, waiting=store.waiting(), total=len(sent) + len(heard),
        fields=Behaviour.model_fields, speaker=speaker, numbers=_numbers(sent, heard, simulator), emoji=EMOJI,
        enforced=simulator.behaviours.enforce_window, style=STYLE,
    )  # fmt: skip
    return Response(shown, headers=HEADERS)


def speaker(saying: CustomerMessage) -> str:
    """Who spoke, as the page's query: the form is filled in with it again."""
    return urlencode({"from": saying.sender or saying.user_id, "to": saying.to, "name": saying.name})


def file(media: Media, media_id: str) -> Response:
    """A file: shown where a browser does that safely, else to be saved. Raises `GraphError` where it is not there."""
    found = media.find(media_id)
    inline = found.mime_type.startswith(_INLINE)
    path = Path(media.path(found)).absolute()
    response = send_file(path, found.mime_type, not inline, found.filename or found.id)
    response.headers.update(HARMLESS)
    return response


def _numbers(sent: list[dict[str, Any]], heard: list[dict[str, Any]], simulator: Simulator) -> list[str]:
    """The numbers that a customer may write to."""
    told = simulator.registry.all("number")
    keys = [str(facts["number"]) for facts in simulator.registry.all("key").values()]
    return list(dict.fromkeys([*(each["phone_number_id"] for each in [*sent, *heard]), *told, *keys]))


def chats(sent: list[dict[str, Any]], heard: list[dict[str, Any]]) -> dict[tuple[str, str], list[Bubble]]:
    """The bubbles of each chat in the order of time, by number and customer; the chat with the latest comes first."""
    found = defaultdict(list)
    for each in sorted([*map(_ours, sent), *map(_theirs, heard)], key=lambda bubble: bubble["at"]):
        found[each["phone_number_id"], each["chat"]].append(each)
    latest = sorted(found.items(), key=lambda chat: -chat[1][-1]["at"])
    return {names: bubbles for names, all_of_it in latest if (bubbles := _applied(all_of_it))}


def clock(at: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(at))


def _ours(message: dict[str, Any]) -> Bubble:
    """What the business sent."""
    request = message["request"] if isinstance(message["request"], dict) else {}
    content = request.get(message["type"])
    content = content if isinstance(content, dict) else {}
    media = {"link": content.get("link"), "file": content.get("id")} if message["type"] in LIMITS else {}
    bubble = message | media | {"chat": message["to"], "mine": False, "clock": clock(message["at"])}
    return bubble | {"reactions": [], "buttons": _buttons(content), "taken": message["answer"] in ("200", "cut")}


def _buttons(content: dict[str, Any]) -> list[str]:
    action = content.get("action")
    buttons = action.get("buttons") if isinstance(action, dict) else None
    return [each["reply"]["title"] for each in buttons or [] if isinstance(each.get("reply"), dict)]


def _theirs(said: dict[str, Any]) -> Bubble:
    """What the customer said."""
    bubble = said | {"type": said["kind"], "file": said["media"], "link": None, "mine": True, "taken": True}
    return bubble | {"reactions": [], "buttons": [], "clock": clock(said["at"])}


def _applied(bubbles: list[Bubble]) -> list[Bubble]:
    """The bubbles with what later ones say about them: reactions, edits, revocations."""
    by_id = {each["wamid"]: each for each in bubbles if each["wamid"] and each["type"] not in _ABOUT_OTHERS}
    for each in bubbles:
        each["quoted"] = by_id.get(each["target"])
        if each["quoted"] is not None and each["taken"]:
            _apply(each, each["quoted"])
    return [each for each in bubbles if each["type"] not in _ABOUT_OTHERS or not (each["quoted"] and each["taken"])]


def _apply(about: Bubble, bubble: Bubble) -> None:
    if about["type"] == "reaction":
        kept = [each for each in bubble["reactions"] if each[0] != about["mine"]]
        bubble["reactions"] = [*kept, (about["mine"], about["text"])] if about["text"] else kept
    elif about["type"] == "edit":
        bubble["text"], bubble["edited"] = about["text"], True
    elif about["type"] == "revoke":
        bubble["text"], bubble["revoked"], bubble["file"] = "This message was deleted", True, None
