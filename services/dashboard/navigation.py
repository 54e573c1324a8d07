"""The pages that the menu names, for each person those that the person may open."""

from dataclasses import dataclass

from flask import request

from bisnesctl.errors import BisnesError
from services.dashboard import access, texts
from services.dashboard.context import context


@dataclass(frozen=True)
class Entry:
    """One entry of the menu."""

    title: str
    endpoint: str
    is_current: bool


#: The endpoints of the pages in the order of the menu. The title of `numbers.index` is the text `menu.numbers_index`.
PAGES = (
    "overview.index", "processes.index", "numbers.index", "chats.index", "messages.index", "messages.waiting",
    "dead_letters.index", "webhooks.index", "alerts.index", "events.index", "rollout.index", "sandbox.index",
    "commands.index", "audit.index", "keys.index", "settings.index", "people.index",
)  # fmt: skip
#: The page that is there only where the sandbox runs.
SANDBOX = "sandbox.index"


def entries() -> list[Entry]:
    """The entries for the request's person."""
    allowed = [each for each in PAGES if access.can_open(each) and (each != SANDBOX or _has_sandbox())]
    current = _nearest(request.endpoint or "", allowed)
    return [Entry(texts.text(f"menu.{name.replace('.', '_')}"), name, name == current) for name in allowed]


def title() -> str:
    """The title of the page to which the request belongs; empty if no page of the menu has it."""
    return next((each.title for each in entries() if each.is_current), "")


def _has_sandbox() -> bool:
    try:
        return context().sources.deployment().settings.sandbox
    except BisnesError:  # the page itself says what is wrong with the settings
        return False


def _nearest(endpoint: str, pages: list[str]) -> str:
    """The page itself, or else the first one of its area, such as the list for one of its things."""
    area = endpoint.partition(".")[0]
    return endpoint if endpoint in pages else next((each for each in pages if each.startswith(f"{area}.")), "")
